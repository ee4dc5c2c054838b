"""How long a function of a running program takes: uprobes at its entry and its return.

sudo python examples/latency.py PID /lib/x86_64-linux-gnu/libc.so.6 getaddrinfo [SECONDS]
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import u32, u64

began = bpf.Hash(u32, u64, max_entries=10_240)
took = bpf.Array(u64, max_entries=64)
slowest: u64 = bpf.var(0)


@bpf.uprobe
def entry(ctx: bpf.PtRegs) -> int:
    began[bpf.tid()] = bpf.ktime_get_ns()
    return 0


@bpf.uretprobe
def returned(ctx: bpf.PtRegs) -> int:
    global slowest
    since = began.lookup(bpf.tid())
    if since is None:
        return 0
    nanoseconds = u64(bpf.ktime_get_ns() - since.value)
    del began[bpf.tid()]
    took[bpf.log2(nanoseconds)] += 1
    if nanoseconds > slowest:
        slowest = nanoseconds
    return 0


def main() -> None:
    pid, path, function = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 2.0
    with skep.load([entry, returned]) as obj:
        with obj.entry.attach(path, function, pid=pid), obj.returned.attach(path, function, pid=pid):
            time.sleep(seconds)
        rows = [obj.took[slot] for slot in range(64)]
        most = max(rows) or 1
        for slot, count in enumerate(rows):
            if count:
                print(f"{1 << slot:>12} ns |{'█' * round(40 * count / most):<40}| {count}")
        print(f"slowest: {obj.bss.slowest} ns")


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
