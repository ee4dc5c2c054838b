"""xdp-tutorial: parse, VLAN push and pop, rewrite ports, ICMP echo, redirect, cpumap, router."""

from typing import Any

from skep import bpf
from skep.bpf import u32, u64
from skep.net import (
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    ethhdr,
    icmp6hdr,
    icmphdr,
    iphdr,
    ipv6hdr,
    tcphdr,
    udphdr,
    vlan_hdr,
)

VLAN_MAX_DEPTH = 4


@bpf.struct
class DataRec:
    rx_packets: u64
    rx_bytes: u64


xdp_stats_map = bpf.PerCpuArray(DataRec, 5)
tx_port = bpf.DevMap(256)
redirect_params = bpf.Hash(bpf.raw(6), bpf.raw(6), max_entries=1)
cpu_map = bpf.CpuMap(64)
cpus: u32 = bpf.const(1)


def record(ctx: bpf.Xdp, action: int) -> int:
    if action >= 5:
        return bpf.XDP_ABORTED
    rec = xdp_stats_map.lookup(action)
    if rec is None:
        return bpf.XDP_ABORTED
    rec.rx_packets += 1
    rec.rx_bytes += len(ctx.packet())
    return action


def parse_eth(pkt: bpf.Packet) -> int:
    """The protocol behind up to four VLAN tags; -1 when the frame ends before."""
    eth = pkt.take(ethhdr)
    if eth is None:
        return -1
    proto = eth.proto
    for _ in bpf.unroll(range(VLAN_MAX_DEPTH)):
        if proto != ETH_P_8021Q and proto != ETH_P_8021AD:
            break
        vlan = pkt.take(vlan_hdr)
        if vlan is None:
            return -1
        proto = vlan.encapsulated_proto
    return proto


@bpf.xdp
def drop_icmp_even(ctx: bpf.Xdp) -> int:
    """packet01: drops echo requests with even sequence numbers."""
    pkt = ctx.packet()
    proto = parse_eth(pkt)
    action = bpf.XDP_PASS
    if proto == ETH_P_IPV6:
        ip6 = pkt.take(ipv6hdr)
        if ip6 is not None and ip6.nexthdr == IPPROTO_ICMPV6:
            icmp6 = pkt.take(icmp6hdr)
            if icmp6 is not None and icmp6.sequence % 2 == 0:
                action = bpf.XDP_DROP
    elif proto == ETH_P_IP:
        ip = pkt.take(iphdr)
        if ip is not None and ip.protocol == IPPROTO_ICMP:
            pkt.skip(ip.ihl * 4 - 20)
            icmp = pkt.take(icmphdr)
            if icmp is not None and icmp.sequence % 2 == 0:
                action = bpf.XDP_DROP
    return record(ctx, action)


@bpf.xdp
def patch_ports(ctx: bpf.Xdp) -> int:
    """packet02: destination ports minus one."""
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return record(ctx, bpf.XDP_PASS)
    ip = pkt.take(iphdr)
    if ip is None:
        return record(ctx, bpf.XDP_ABORTED)
    if ip.protocol == IPPROTO_UDP:
        udp = pkt.take(udphdr)
        if udp is None:
            return record(ctx, bpf.XDP_ABORTED)
        udp.dest -= 1
        udp.check += 1
        if not udp.check:
            udp.check += 1
    elif ip.protocol == IPPROTO_TCP:
        tcp = pkt.take(tcphdr)
        if tcp is None:
            return record(ctx, bpf.XDP_ABORTED)
        tcp.dest -= 1
        tcp.check += 1
    return record(ctx, bpf.XDP_PASS)


@bpf.xdp
def vlan_swap(ctx: bpf.Xdp) -> int:
    """packet02: pops the outermost tag, or pushes VLAN 1."""
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.XDP_PASS
    if eth.proto == ETH_P_8021Q or eth.proto == ETH_P_8021AD:
        vlan = pkt.take(vlan_hdr)
        if vlan is None:
            return bpf.XDP_PASS
        copy = ethhdr(dest=eth.dest, source=eth.source, proto=vlan.encapsulated_proto)
        if bpf.xdp_adjust_head(bpf.sizeof(vlan_hdr)):
            return bpf.XDP_ABORTED
        pkt = ctx.packet()
        eth = pkt.take(ethhdr)
        if eth is None:
            return bpf.XDP_ABORTED
        eth.dest = copy.dest
        eth.source = copy.source
        eth.proto = copy.proto
    else:
        dest, source, proto = eth.dest, eth.source, eth.proto
        if bpf.xdp_adjust_head(0 - bpf.sizeof(vlan_hdr)):
            return bpf.XDP_ABORTED
        pkt = ctx.packet()
        eth = pkt.take(ethhdr)
        vlan = pkt.take(vlan_hdr)
        if eth is None or vlan is None:
            return bpf.XDP_ABORTED
        eth.dest, eth.source, eth.proto = dest, source, ETH_P_8021Q
        vlan.tci = 1
        vlan.encapsulated_proto = proto
    return bpf.XDP_PASS


def csum_fold(csum: int) -> int:
    csum = (csum & 0xFFFF) + (csum >> 16)
    csum = (csum & 0xFFFF) + (csum >> 16)
    return ~csum & 0xFFFF


@bpf.xdp
def icmp_echo(ctx: bpf.Xdp) -> int:
    """packet03: answers pings."""
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None or ip.protocol != IPPROTO_ICMP:
        return bpf.XDP_PASS
    icmp = pkt.take(icmphdr)
    if icmp is None or icmp.type != 8:
        return bpf.XDP_PASS
    ip.saddr, ip.daddr = ip.daddr, ip.saddr
    eth.source, eth.dest = eth.dest, eth.source
    old = icmp.checksum
    icmp.checksum = 0
    before = bpf.zero(icmphdr, type=8, code=icmp.code, id=icmp.id, sequence=icmp.sequence)
    icmp.type = 0
    value = bpf.csum_diff(before, icmp, u32(~bpf.bswap16(old)))
    icmp.checksum = bpf.bswap16(csum_fold(value))
    return record(ctx, bpf.XDP_TX)


@bpf.xdp
def redirect_map(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.XDP_PASS
    dst = redirect_params.get(eth.source)
    if dst is None:
        return bpf.XDP_PASS
    eth.dest = dst
    return record(ctx, tx_port.redirect(0))


@bpf.xdp
def router(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.XDP_DROP
    fib = bpf.bpf_fib_lookup()
    ip = None
    ip6 = None
    if eth.proto == ETH_P_IP:
        ip = pkt.take(iphdr)
        if ip is None:
            return bpf.XDP_DROP
        if ip.ttl <= 1:
            return bpf.XDP_PASS
        fib.family = bpf.AF_INET
        fib.tos = ip.tos
        fib.l4_protocol = ip.protocol
        fib.tot_len = ip.tot_len
        fib.ipv4_src = ip.saddr
        fib.ipv4_dst = ip.daddr
    elif eth.proto == ETH_P_IPV6:
        ip6 = pkt.take(ipv6hdr)
        if ip6 is None:
            return bpf.XDP_DROP
        fib.family = bpf.AF_INET6
        fib.tot_len = ip6.payload_len
        fib.ipv6_src = ip6.saddr
        fib.ipv6_dst = ip6.daddr
    else:
        return bpf.XDP_PASS
    fib.ifindex = ctx.ingress_ifindex
    rc = bpf.fib_lookup(fib)
    match rc:
        case bpf.BPF_FIB_LKUP_RET_SUCCESS:
            if ip is not None:
                check = ip.check + 0x100
                ip.check = check + (check >= 0xFFFF)
                ip.ttl -= 1
            elif ip6 is not None:
                ip6.hop_limit -= 1
            eth.dest = fib.dmac
            eth.source = fib.smac
            return bpf.redirect(fib.ifindex)
        case (
            bpf.BPF_FIB_LKUP_RET_BLACKHOLE | bpf.BPF_FIB_LKUP_RET_UNREACHABLE | bpf.BPF_FIB_LKUP_RET_PROHIBIT
        ):
            return bpf.XDP_DROP
    return bpf.XDP_PASS


@bpf.xdp
def to_cpu(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    ip = pkt.take(iphdr)
    if not eth or not ip:
        return bpf.XDP_PASS
    h = (ip.saddr ^ ip.daddr) * 2654435761
    return cpu_map.redirect(u32(h >> 16) % cpus)


@bpf.xdp_cpumap
def on_cpu(ctx: bpf.Xdp) -> int:
    return bpf.XDP_PASS


@bpf.xdp_devmap
def at_egress(ctx: bpf.Xdp) -> int:
    return bpf.XDP_DROP if ctx.egress_ifindex == 0 else bpf.XDP_PASS


def check(obj: Any) -> None:
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import Dot1Q, Ether

    def run(name: str, p: Any) -> tuple[int, Any]:
        r = getattr(obj, name).run(bytes(p), data_out=300)
        return r.retval, Ether(r.data)

    def sums(q: Any) -> bool:
        w = q.copy()
        for layer in (IP, TCP, UDP, ICMP):
            if layer in w:
                del w[layer].chksum
        w = Ether(bytes(w))
        return all(w[a].chksum == q[a].chksum for a in (IP, TCP, UDP, ICMP) if a in q)

    ping = (
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
        / IP(src="10.0.0.5", dst="192.0.2.1")
        / ICMP(seq=2, id=9)
        / b"hello"
    )
    assert run("drop_icmp_even", ping)[0] == bpf.XDP_DROP
    tagged = Ether() / Dot1Q(vlan=7) / Dot1Q(vlan=8) / IPv6() / ICMPv6EchoRequest(seq=3)
    assert run("drop_icmp_even", tagged)[0] == bpf.XDP_PASS
    v, q = run("icmp_echo", ping)
    assert (
        v == bpf.XDP_TX and q[ICMP].type == 0 and q[IP].dst == "10.0.0.5" and q[ICMP].id == 9 and sums(q)
    ), q
    v, q = run("vlan_swap", ping)
    assert q[Dot1Q].vlan == 1 and q[ICMP].seq == 2 and q.dst == "02:00:00:00:00:01"
    v, q = run("vlan_swap", tagged)
    assert q[Dot1Q].vlan == 8 and q[Dot1Q].payload.name == "IPv6"
    for l4 in (UDP(dport=53), TCP(dport=80)):
        p = Ether() / IP(dst="1.2.3.4") / l4 / b"data"
        v, q = run("patch_ports", p)
        assert q[2].dport == l4.dport - 1 and sums(q), q
