"""Count a process's system calls, and draw how long they took.

sudo python examples/syscount.py PID [SECONDS]
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import u32, u64

only_pid: u32 = bpf.const(0)

began = bpf.Hash(u32, u64, max_entries=10_240)
calls = bpf.Hash(u32, u64, max_entries=512)
#: nanoseconds by power of two
took = bpf.Array(u64, max_entries=64)


@bpf.raw_tp("sys_enter")
def enter(regs: bpf.pt_regs, number: int) -> int:
    if only_pid != 0 and bpf.pid() != only_pid:
        return 0
    began[bpf.tid()] = bpf.ktime_get_ns()
    calls[u32(number)] += 1
    return 0


@bpf.raw_tp("sys_exit")
def leave(regs: bpf.pt_regs, result: int) -> int:
    since = began.lookup(bpf.tid())
    if since is None:
        return 0
    took[bpf.log2(u64(bpf.ktime_get_ns() - since.value))] += 1
    del began[bpf.tid()]
    return 0


def histogram(rows: list[int]) -> str:
    """Rows of powers of two as bars."""
    used = [slot for slot, count in enumerate(rows) if count]
    if not used:
        return "nothing happened"
    most = max(rows)
    return "\n".join(
        f"{1 << slot:>12} ns |{'█' * round(40 * rows[slot] / most):<40}| {rows[slot]}"
        for slot in range(used[0], used[-1] + 1)
    )


def main() -> None:
    pid = int(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    with skep.load([enter, leave], variables={"only_pid": pid}) as obj:
        obj.attach()
        time.sleep(seconds)
        for number, count in sorted(obj.calls.items(), key=lambda row: -row[1])[:10]:
            print(f"system call {number:4}: {count}")
        print(histogram([obj.took[slot] for slot in range(64)]))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
