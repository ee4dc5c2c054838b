# mypy: ignore-errors
"""biolatency with request pointers as keys, flavours and exists()."""

from skep import bpf
from skep.bpf import u32, u64


@bpf.struct
class Key:
    cmd_flags: u32
    dev: u32


start = bpf.Hash(u64, u64)
hist = bpf.Hash(Key, bpf.array(u32, 27), max_entries=4096)


@bpf.raw_tp("block_rq_issue")
def issue(rq: bpf.request) -> int:
    start[u64(rq)] = bpf.ktime_get_ns()
    return 0


@bpf.raw_tp("block_rq_complete")
def complete(rq: bpf.request, error: int, nr_bytes: u32) -> int:
    ts = start.get(u64(rq))
    if ts is None:
        return 0
    delta = u64(bpf.ktime_get_ns() - ts) // 1000
    disk = rq.q.disk
    dev = (disk.major << 20) | disk.first_minor if disk else 0
    key = Key(rq.cmd_flags, dev)
    h = hist.get(key)
    if h is None:
        hist.insert(key, bpf.array(u32, 27))
        h = hist.get(key)
        if h is None:
            return 0
    h[min(bpf.log2(delta), 26)] += 1
    del start[u64(rq)]
    return 0
