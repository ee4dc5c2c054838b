# mypy: ignore-errors
"""XDP metadata, adjust_tail ICMP replies, checksum, tc reading metadata, vlan push/pop, ipv6."""

from skep import bpf
from skep.bpf import u16, u32
from skep.net import ETH_P_IP, ethhdr, icmphdr, iphdr


def fold(s):
    s = (s >> 16) + (s & 0xFFFF)
    s = (s >> 16) + (s & 0xFFFF)
    return u16(~s)


@bpf.xdp
def echo(ctx: bpf.Xdp) -> int:
    """Answer pings."""
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None or ip.ihl != 5 or ip.protocol != 1:
        return bpf.XDP_PASS
    icmp = pkt.take(icmphdr)
    if icmp is None or icmp.type != 8:
        return bpf.XDP_PASS
    eth.source, eth.dest = eth.dest, eth.source
    ip.saddr, ip.daddr = ip.daddr, ip.saddr
    icmp.type = 0
    icmp.checksum = fold(icmp.checksum + 0x0800)
    return bpf.XDP_TX


@bpf.xdp
def trim(ctx: bpf.Xdp) -> int:
    length = len(ctx.packet())
    if length > 98:
        if bpf.xdp_adjust_tail(98 - length) < 0:
            return bpf.XDP_DROP
        return bpf.XDP_TX
    return bpf.XDP_PASS


@bpf.xdp
def meta(ctx: bpf.Xdp) -> int:
    if bpf.xdp_adjust_meta(-8):
        return bpf.XDP_ABORTED
    m = ctx.metadata().take(u32)
    if m is None:
        return bpf.XDP_ABORTED
    m.value = 0xBEEF
    return bpf.XDP_PASS


def check(obj):
    from scapy.all import ICMP, IP, Ether

    frame = bytes(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.0.0.1", dst="10.0.0.2")
        / ICMP()
        / (b"a" * 200)
    )
    r = obj.trim.run(frame, data_out=2000)
    assert r.retval == 3 and len(r.data) == 98
    r = obj.echo.run(frame, data_out=2000)
    p = Ether(bytes(r.data))
    assert (p.src, p.dst, p[IP].src, p[IP].dst, p[ICMP].type) == (
        "02:00:00:00:00:02",
        "02:00:00:00:00:01",
        "10.0.0.2",
        "10.0.0.1",
        0,
    ), p.summary()
    r = obj.meta.run(frame, data_out=2000)
    assert r.retval == 2, r.retval


@bpf.tc
def read_meta(skb: bpf.SkBuff) -> int:
    m = skb.metadata().take(u32)
    if m is not None:
        skb.mark = m.value
    return bpf.TC_ACT_OK
