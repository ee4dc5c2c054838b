# mypy: ignore-errors
"""tc: rewrite with l3/l4_csum_replace, skb_store_bytes, direct access, fib lookup, skb_load_bytes, dynptr."""

from skep import bpf
from skep.bpf import be32, u8, u32
from skep.net import ETH_P_IP, IPPROTO_TCP, ethhdr, iphdr

NEW = 0x0A000063
seen = bpf.Array(u32, 8)


@bpf.tc
def nat(skb: bpf.SkBuff) -> int:
    pkt = skb.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.TC_ACT_OK
    ip = pkt.take(iphdr)
    if ip is None or ip.protocol != IPPROTO_TCP:
        return bpf.TC_ACT_OK
    old = ip.daddr
    new = NEW
    bpf.l4_csum_replace(14 + 20 + 16, old, new, bpf.BPF_F_PSEUDO_HDR | 4)
    bpf.l3_csum_replace(14 + 10, old, new, 4)
    value = bpf.array(be32, 1)
    value[0] = NEW
    bpf.skb_store_bytes(14 + 16, value, 0)
    buf = bpf.array(u8, 4)
    if bpf.skb_load_bytes(14 + 16, buf) < 0:
        return bpf.TC_ACT_SHOT
    seen[0] = buf[3]
    return bpf.TC_ACT_OK


@bpf.tc
def fib(skb: bpf.SkBuff) -> int:
    params = bpf.bpf_fib_lookup(ifindex=skb.ingress_ifindex, family=2)
    params.ipv4_dst = 0x7F000001
    rc = bpf.fib_lookup(params)
    if rc == bpf.BPF_FIB_LKUP_RET_SUCCESS:
        return bpf.redirect_neigh(params.ifindex)
    return bpf.TC_ACT_OK


@bpf.tc
def rate(skb: bpf.SkBuff) -> int:
    skb.tstamp = bpf.ktime_get_ns() + 1000
    skb.mark |= 0x10
    skb.cb[0] += 1
    return bpf.TC_ACT_UNSPEC if skb.mark & 0x10 else bpf.TC_ACT_SHOT


@bpf.tc
def pull(skb: bpf.SkBuff) -> int:
    if bpf.skb_pull_data(skb.len):
        return bpf.TC_ACT_SHOT
    pkt = skb.packet()
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.TC_ACT_SHOT
    a, b = eth.source, eth.dest
    eth.source = b
    eth.dest = a
    return bpf.TC_ACT_OK


def check(obj):
    from scapy.all import IP, TCP, Ether

    frame = bytes(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.0.0.1", dst="10.0.0.2")
        / TCP(sport=1, dport=2)
        / b"hello"
    )
    r = obj.nat.run(frame, data_out=2000)
    p = Ether(bytes(r.data))
    assert p[IP].dst == "10.0.0.99"
    c = p.copy()
    del c[IP].chksum
    del c[TCP].chksum
    assert bytes(c) == bytes(p)
    assert obj.seen[0] == 99
    r = obj.pull.run(frame, data_out=2000)
    p = Ether(bytes(r.data))
    assert (p.src, p.dst) == ("02:00:00:00:00:02", "02:00:00:00:00:01"), (p.src, p.dst)
