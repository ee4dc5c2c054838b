"""Where a process spends its CPU time: folded stacks, ready for a flame graph.

sudo python examples/profile.py PID [SECONDS] > stacks.folded
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import s32, u32, u64


@bpf.struct
class Place:
    pid: u32
    user: s32
    kernel: s32


only_pid: u32 = bpf.const(0)
stacks = bpf.StackTrace(max_entries=4096, depth=127)
counts = bpf.Hash(Place, u64, max_entries=4096)

USER = 1 << 8  # BPF_F_USER_STACK


@bpf.perf_event
def sample(ctx: bpf.PerfEvent) -> int:
    if bpf.pid() != only_pid:
        return 0
    place = Place(pid=bpf.pid(), user=stacks.id(USER), kernel=stacks.id(0))
    counts[place] += 1
    return 0


def symbols() -> list[tuple[int, str]]:
    """The kernel's functions by address (all zero without the privilege to see them)."""
    with open("/proc/kallsyms") as file:
        rows = [line.split()[:3] for line in file]
    return sorted((int(address, 16), name) for address, kind, name in rows if kind in "tTwW")


def main() -> None:
    from bisect import bisect

    pid = int(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    with skep.load(sample, variables={"only_pid": pid}) as obj:
        link = obj.sample.attach("cpu-clock", frequency=999)
        time.sleep(seconds)
        link.close()
        table = symbols()
        starts = [address for address, _ in table]

        def frames(id: int, kernel: bool) -> list[str]:
            if id < 0:
                return []
            found: list[str] = []
            for address in obj.stacks[id]:
                if address == 0:
                    break
                at = bisect(starts, address) - 1
                found.append(f"{table[at][1]}_[k]" if kernel and at >= 0 else f"{address:#x}")
            return found[::-1]

        for place, count in obj.counts.items():
            print(";".join([str(place.pid), *frames(place.user, False), *frames(place.kernel, True)]), count)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
