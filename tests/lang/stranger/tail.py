# mypy: ignore-errors
"""Parser by tail calls with state in per-CPU scratch, IPv6 extension headers, XDP metadata."""

from skep import bpf
from skep.bpf import u8, u16, u32, u64
from skep.net import ETH_P_IPV6, ethhdr, ipv6_opt_hdr, ipv6hdr, udphdr

NEXT = (0, 43, 44, 60)


@bpf.struct
class State:
    off: u16
    proto: u8
    sport: u16
    dport: u16


@bpf.struct
class Meta:
    mark: u32


scratch = bpf.PerCpuArray(State, 1)
count: u64 = bpf.var(0)
IP6, L4 = 1, 2


@bpf.xdp
def parse_ip6(ctx: bpf.Xdp) -> int:
    st = scratch[0]
    pkt = ctx.packet()
    pkt.skip(14)
    ip6 = pkt.take(ipv6hdr)
    if ip6 is None:
        return bpf.XDP_DROP
    nh = ip6.nexthdr
    for _ in range(6):
        if nh not in NEXT:
            break
        opt = pkt.take(ipv6_opt_hdr)
        if opt is None:
            return bpf.XDP_DROP
        nh = opt.nexthdr
        pkt.skip(opt.hdrlen * 8 + 6)
    st.off = pkt.offset
    st.proto = nh
    jumps.tail_call(ctx, L4)
    return bpf.XDP_ABORTED


@bpf.xdp
def parse_l4(ctx: bpf.Xdp) -> int:
    global count
    st = scratch[0]
    pkt = ctx.packet()
    pkt.skip(st.off)
    if st.proto == 17:
        udp = pkt.take(udphdr)
        if udp is None:
            return bpf.XDP_DROP
        st.sport, st.dport = udp.source, udp.dest
        count += 1
        return bpf.XDP_TX
    return bpf.XDP_PASS


jumps = bpf.ProgArray(8, initial={IP6: parse_ip6, L4: parse_l4})


@bpf.xdp
def entry(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.XDP_DROP
    if eth.proto == ETH_P_IPV6:
        jumps.tail_call(ctx, IP6)
    return bpf.XDP_PASS


def check(obj):
    from scapy.all import UDP, Ether, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN

    frame = bytes(
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
        / IPv6()
        / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 12)])
        / IPv6ExtHdrDestOpt()
        / UDP(sport=5000, dport=53)
        / (b"x" * 20)
    )
    r = obj.entry.run(frame)
    assert r.retval == 3, r.retval
    st = [s for s in obj.scratch[0] if s.dport]
    assert len(st) == 1 and (st[0].sport, st[0].dport, st[0].off) == (5000, 53, 14 + 40 + 16 + 8), st
