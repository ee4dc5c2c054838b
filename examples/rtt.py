"""The round-trip times of a cgroup's TCP connections, as a histogram of microseconds.

sudo python examples/rtt.py /sys/fs/cgroup [SECONDS]
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import u64

#: smoothed round-trip times in microseconds, by power of two
rtts = bpf.Array(u64, max_entries=32)


@bpf.sockops
def measure(ctx: bpf.SockOps) -> int:
    if ctx.op == bpf.BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB or ctx.op == bpf.BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
        bpf.sock_ops_cb_flags_set(bpf.BPF_SOCK_OPS_RTT_CB_FLAG)
    elif ctx.op == bpf.BPF_SOCK_OPS_RTT_CB:
        micros = ctx.srtt_us >> 3
        rtts[min(bpf.log2(micros), 31)] += 1
    return 1


def main() -> None:
    cgroup = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    with skep.load(measure) as obj, obj.measure.attach(cgroup=cgroup):
        time.sleep(seconds)
        rows = [obj.rtts[slot] for slot in range(32)]
        most = max(rows) or 1
        for slot, count in enumerate(rows):
            if count:
                print(f"{1 << slot:>10} µs |{'█' * round(40 * count / most):<40}| {count}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
