"""Tail-call chain, map of maps, per-CPU histograms, bpf_loop, queues, bloom, user ring."""

from typing import Any

from skep import bpf
from skep.bpf import be32, u32, u64
from skep.net import ETH_P_IP, ethhdr, iphdr


class Ctx(bpf.Struct):
    nhoff: u32
    depth: u32


scratch = bpf.PerCpuArray(Ctx, 1)
hist = bpf.PerCpuArray(u64, 64)
work = bpf.Queue(u64, max_entries=64)
bloom = bpf.BloomFilter(be32, max_entries=100)
inner = bpf.Hash(u32, u64, max_entries=16)
per_tenant = bpf.HashOfMaps(u32, inner, max_entries=16)
seen: u64 = bpf.var(0)


@bpf.xdp
def parse_eth(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.XDP_DROP
    s = scratch[0]
    s.nhoff = pkt.offset
    s.depth = 1
    if eth.proto == ETH_P_IP:
        jumps.tail_call(1)
    return bpf.XDP_PASS


@bpf.xdp
def parse_ip(ctx: bpf.Xdp) -> int:
    s = scratch[0]
    pkt = ctx.packet()
    pkt.skip(s.nhoff)
    ip = pkt.take(iphdr)
    if ip is None:
        return bpf.XDP_DROP
    s.depth += 1
    if ip.saddr in bloom:
        return bpf.XDP_DROP
    bloom.add(ip.saddr)
    jumps.tail_call(2)
    return bpf.XDP_ABORTED


@bpf.xdp
def last(ctx: bpf.Xdp) -> int:
    global seen
    s = scratch[0]
    seen = s.depth
    hist[bpf.log2(len(ctx.packet()))] += 1
    work.push(len(ctx.packet()))
    return bpf.XDP_TX


jumps = bpf.ProgArray(4, initial={1: parse_ip, 2: last})


def drain(i: int, total: Ctx) -> bool:
    v = work.pop()
    if v is None:
        return True
    total.depth += v
    return False


@bpf.syscall
def consume() -> int:
    total = Ctx()
    bpf.loop(64, drain, total)
    return total.depth


@bpf.syscall
def consume2() -> int:
    n = 0
    for _ in range(64):
        x = work.pop()
        if x is None:
            break
        n += x
    return n


@bpf.xdp
def tenant(ctx: bpf.Xdp) -> int:
    m = per_tenant.get(ctx.ingress_ifindex)
    if m is None:
        return bpf.XDP_PASS
    m[ctx.rx_queue_index] += 1
    c = m.get(7)
    if c is not None and c > 10:
        return bpf.XDP_DROP
    return bpf.XDP_PASS


def check(obj: Any) -> None:
    eth = b"\0" * 12 + b"\x08\0" + b"\x45" + b"\0" * 60
    assert obj.parse_eth.run(eth).retval == bpf.XDP_TX
    assert obj.parse_eth.run(eth).retval == bpf.XDP_DROP
    assert obj.bss.seen == 2
    assert obj.consume.run(b"").retval == len(eth)
