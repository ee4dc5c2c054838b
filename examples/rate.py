"""Measure and limit what an interface sends: a token bucket in a tc program.

sudo python examples/rate.py eth0 1000000      # bytes a second
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import u64


@bpf.struct
class Bucket:
    lock: bpf.SpinLock
    tokens: u64
    last: u64
    sent: u64
    dropped: u64


#: bytes a second, and the most that may be sent at once
rate: u64 = bpf.const(1_000_000)
burst: u64 = bpf.const(65_536)
buckets = bpf.Array(Bucket, max_entries=1)


@bpf.tc
def limit(ctx: bpf.SkBuff) -> int:
    bucket = buckets.lookup(0)
    if bucket is None:
        return bpf.TC_ACT_OK
    now = bpf.ktime_get_ns()
    size = ctx.len
    allowed = False
    with bucket.lock:
        passed = u64(now - bucket.last) if bucket.last else 0
        tokens = bucket.tokens + min(passed, 1_000_000_000) * rate // 1_000_000_000
        tokens = min(tokens, burst)
        bucket.last = now
        if tokens >= size:
            tokens -= size
            bucket.sent += size
            allowed = True
        else:
            bucket.dropped += size
        bucket.tokens = tokens
    return bpf.TC_ACT_OK if allowed else bpf.TC_ACT_SHOT


def main() -> None:
    iface, bytes_a_second = sys.argv[1], int(sys.argv[2])
    with (
        skep.load(limit, variables={"rate": bytes_a_second}) as obj,
        obj.limit.attach(iface, direction="egress"),
    ):
        try:
            while True:
                time.sleep(1)
                bucket = obj.buckets[0]
                print(f"sent {bucket.sent} bytes, dropped {bucket.dropped}")
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
