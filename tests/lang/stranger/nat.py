"""A tc NAT44 with checksums fixed by helpers, both directions."""

from typing import Any

from skep import bpf
from skep.bpf import be16, be32, u8, u16, u32, u64
from skep.net import ETH_P_IP, IPPROTO_TCP, ethhdr, iphdr, tcphdr

ETH_HLEN = 14
IP_CSUM_OFF = ETH_HLEN + 10
IP_SRC_OFF = ETH_HLEN + 12
IP_DST_OFF = ETH_HLEN + 16
TCP_CSUM_OFF = ETH_HLEN + 20 + 16
TCP_SPORT_OFF = ETH_HLEN + 20
BPF_F_PSEUDO_HDR = 0x10


class Tuple(bpf.Struct):
    addr: be32
    port: be16
    proto: u8


class Binding(bpf.Struct):
    inside: Tuple
    last: u64
    packets: u64


public: be32 = bpf.const(0xC6336401)
first_port: u16 = bpf.const(20000)
out = bpf.LruHash(Tuple, u16, max_entries=4096)
back = bpf.LruHash(u16, Binding, max_entries=4096)
next_port: u32 = bpf.var(0)


@bpf.tc
def egress(skb: bpf.SkBuff) -> int:
    global next_port
    if skb.protocol != ETH_P_IP:
        return bpf.TC_ACT_OK
    bpf.skb_pull_data(ETH_HLEN + 40)
    pkt = skb.packet()
    eth = pkt.take(ethhdr)
    ip = pkt.take(iphdr)
    if eth is None or ip is None or ip.protocol != IPPROTO_TCP or ip.ihl != 5:
        return bpf.TC_ACT_OK
    tcp = pkt.take(tcphdr)
    if tcp is None:
        return bpf.TC_ACT_SHOT
    key = Tuple(ip.saddr, tcp.source, ip.protocol)
    port = out.get(key)
    if port is None:
        next_port += 1
        port = first_port + (next_port & 0x3FFF)
        out[key] = port
        back[port] = Binding(inside=key)
    b = back.get(port)
    if b is not None:
        b.last = bpf.ktime()
        b.packets += 1
    old_ip, old_port = ip.saddr, tcp.source
    bpf.l4_csum_replace(TCP_CSUM_OFF, old_ip, public, BPF_F_PSEUDO_HDR | 4)
    bpf.l4_csum_replace(TCP_CSUM_OFF, old_port, port, 2)
    bpf.l3_csum_replace(IP_CSUM_OFF, old_ip, public, 4)
    bpf.skb_store_bytes(IP_SRC_OFF, public.to_bytes(4, "big"))
    bpf.skb_store_bytes(TCP_SPORT_OFF, port.to_bytes(2, "big"))
    return bpf.TC_ACT_OK


@bpf.tc
def ingress(skb: bpf.SkBuff) -> int:
    pkt = skb.packet()
    if (eth := pkt.take(ethhdr)) is None or eth.proto != ETH_P_IP:
        return bpf.TC_ACT_OK
    if (ip := pkt.take(iphdr)) is None or ip.daddr != public:
        return bpf.TC_ACT_OK
    if (tcp := pkt.take(tcphdr)) is None:
        return bpf.TC_ACT_OK
    b = back.get(tcp.dest)
    if b is None:
        return bpf.TC_ACT_SHOT
    new, port = b.inside.addr, b.inside.port
    old, oldport = ip.daddr, tcp.dest
    bpf.l4_csum_replace(TCP_CSUM_OFF, old, new, BPF_F_PSEUDO_HDR | 4)
    bpf.l3_csum_replace(IP_CSUM_OFF, old, new, 4)
    bpf.skb_store_bytes(IP_DST_OFF, new.to_bytes(4, "big"))
    bpf.l4_csum_replace(TCP_CSUM_OFF, oldport, port, 2)
    bpf.skb_store_bytes(TCP_SPORT_OFF + 2, port.to_bytes(2, "big"))
    return bpf.TC_ACT_OK


def check(obj: Any) -> None:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    p = (
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
        / IP(src="10.0.0.5", dst="192.0.2.1")
        / TCP(sport=1234, dport=80)
    )
    r = obj.egress.run(bytes(p), data_out=200)
    q = Ether(r.data)
    assert q[IP].src == "198.51.100.1", q
    s = q[TCP].sport
    assert s == 20001, s
    sums = q[IP].chksum, q[TCP].chksum
    del q[IP].chksum, q[TCP].chksum
    w = Ether(bytes(q))
    assert sums == (w[IP].chksum, w[TCP].chksum)
    a = (
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
        / IP(dst="198.51.100.1", src="192.0.2.1")
        / TCP(dport=s, sport=80)
    )
    r = obj.ingress.run(bytes(a), data_out=200)
    q = Ether(r.data)
    assert q[IP].dst == "10.0.0.5" and q[TCP].dport == 1234
    sums = q[IP].chksum, q[TCP].chksum
    del q[IP].chksum, q[TCP].chksum
    w = Ether(bytes(q))
    assert sums == (w[IP].chksum, w[TCP].chksum)
