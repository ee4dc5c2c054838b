"""A SYN proxy with the raw cookie helpers (Linux 6.0): SYNs are answered from XDP."""

from typing import Any

from skep import bpf
from skep.bpf import u8, u16, u32, u64
from skep.net import ETH_P_IP, IPPROTO_TCP, ethhdr, iphdr, tcphdr

ports = bpf.Hash(u16, u8, max_entries=128)
issued: u64 = bpf.var(0)
valid: u64 = bpf.var(0)


def fold(total: int) -> int:
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp_sum(ip: iphdr, tcp: tcphdr, length: int) -> int:
    total = bpf.csum_diff(None, tcp, 0)
    s, d = bpf.bswap32(ip.saddr), bpf.bswap32(ip.daddr)
    total += (s & 0xFFFF) + (s >> 16) + (d & 0xFFFF) + (d >> 16)
    total += bpf.bswap16(IPPROTO_TCP) + bpf.bswap16(length)
    return fold(total)


@bpf.xdp
def proxy(ctx: bpf.Xdp) -> int:
    global issued, valid
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None or ip.protocol != IPPROTO_TCP or ip.ihl != 5:
        return bpf.XDP_PASS
    tcp = pkt.take(tcphdr)
    if tcp is None:
        return bpf.XDP_DROP
    if tcp.dest not in ports:
        return bpf.XDP_PASS
    if tcp.syn and not tcp.ack:
        cookie = bpf.tcp_raw_gen_syncookie_ipv4(ip, tcp, size=20)
        if cookie < 0:
            return bpf.XDP_DROP
        issued += 1
        eth.dest, eth.source = eth.source, eth.dest
        ip.saddr, ip.daddr = ip.daddr, ip.saddr
        tcp.source, tcp.dest = tcp.dest, tcp.source
        tcp.ack_seq = tcp.seq + 1
        tcp.seq = u32(cookie)
        tcp.ack = 1
        tcp.window = 0
        tcp.doff = 5
        tcp.check = 0
        ip.tot_len = 40
        ip.ttl = 64
        ip.check = 0
        ip.check = bpf.bswap16(fold(bpf.csum_diff(None, ip, 0)))
        tcp.check = bpf.bswap16(tcp_sum(ip, tcp, 20))
        return bpf.XDP_TX
    if tcp.ack and not tcp.syn and not tcp.rst and bpf.tcp_raw_check_syncookie_ipv4(ip, tcp) == 0:
        valid += 1
        return bpf.XDP_PASS
    return bpf.XDP_DROP


def check(obj: Any) -> None:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    obj.ports[80] = 1
    p = Ether() / IP(src="10.0.0.5", dst="192.0.2.1") / TCP(sport=1234, dport=80, flags="S", seq=77)
    r = obj.proxy.run(bytes(p), data_out=200)
    assert r.retval == bpf.XDP_TX, r
    q = Ether(r.data)
    assert q[TCP].flags == "SA" and q[TCP].ack == 78, q
    sums = q[IP].chksum, q[TCP].chksum
    seq = q[TCP].seq
    del q[IP].chksum, q[TCP].chksum
    w = Ether(bytes(q))
    assert sums == (w[IP].chksum, w[TCP].chksum)
    p = (
        Ether()
        / IP(src="10.0.0.5", dst="192.0.2.1")
        / TCP(sport=1234, dport=80, flags="A", seq=78, ack=seq + 1)
    )
    assert obj.proxy.run(bytes(p)).retval == bpf.XDP_PASS
    p = (
        Ether()
        / IP(src="10.0.0.5", dst="192.0.2.1")
        / TCP(sport=1234, dport=80, flags="A", seq=78, ack=(seq ^ 0x10000) + 1)
    )
    assert obj.proxy.run(bytes(p)).retval == bpf.XDP_DROP
    assert obj.bss.issued == 1 and obj.bss.valid == 1
