"""QUIC connection ids choose the socket: sk_reuseport; sk_lookup steering a range of ports."""

from skep import bpf
from skep.bpf import be32, u8, u16, u32, u64

workers = bpf.ReuseportSockArray(64)
n_workers: u32 = bpf.const(4)
steered: u64 = bpf.var(0)


@bpf.struct(packed=True)
class Short:
    flags: u8
    worker: u8
    rest: bpf.Raw = bpf.raw(7)


@bpf.struct(packed=True)
class Long:
    flags: u8
    version: be32
    dcid_len: u8
    worker: u8


@bpf.sk_reuseport
def steer(ctx: bpf.SkReuseport) -> int:
    global steered
    if ctx.ip_protocol != 17:
        return bpf.SK_PASS
    pkt = ctx.packet()
    pkt.skip(8)
    flags = pkt.peek(u8)
    if flags is None:
        return bpf.SK_DROP
    worker = ctx.hash % n_workers
    if flags & 0x80:
        long = pkt.take(Long)
        if long is None:
            return bpf.SK_DROP
        if long.version != 0 and long.dcid_len >= 4:
            worker = long.worker
    else:
        short = pkt.take(Short)
        if short is None:
            return bpf.SK_DROP
        worker = short.worker
    if workers.select(worker) == 0:
        steered += 1
        return bpf.SK_PASS
    return bpf.SK_PASS


redir = bpf.SockMap(2)
low: u16 = bpf.const(7000)
high: u16 = bpf.const(7999)


@bpf.sk_lookup
def lookup(ctx: bpf.SkLookup) -> int:
    if ctx.family != bpf.AF_INET or ctx.protocol != 6:
        return bpf.SK_PASS
    if not low <= ctx.local_port <= high:
        return bpf.SK_PASS
    with bpf.releasing(redir.get(0)) as sk:
        err = bpf.sk_assign(sk, bpf.BPF_SK_LOOKUP_F_REPLACE)
        return bpf.SK_DROP if err else bpf.SK_PASS
    return bpf.SK_PASS
