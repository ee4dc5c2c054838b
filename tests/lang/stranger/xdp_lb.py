# mypy: ignore-errors
"""An L4 load balancer, encapsulating in IPIP; checksum by hand; VLANs and IPv6 extension headers."""

from skep import bpf
from skep.bpf import be16, be32, u8, u16, u32, u64
from skep.net import (
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_IP,
    IPPROTO_IPIP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    ethhdr,
    iphdr,
    tcphdr,
    udphdr,
    vlan_hdr,
)

MAX = 8


@bpf.struct
class Vip:
    addr: be32
    port: be16
    proto: u8


@bpf.struct
class Real:
    addr: be32
    mac: bytes = bpf.raw(6)


vips = bpf.Hash(Vip, u32)
reals = bpf.Array(Real, MAX)
stats = bpf.PerCpuArray(u64, 8)
my_mac: bpf.raw(6) = bpf.const(b"\x02\x00\x00\x00\x00\x01")
my_addr: be32 = bpf.const(0x0A000001)


def csum_fold(s: u64) -> u16:
    s = (s & 0xFFFF) + (s >> 16)
    s = (s & 0xFFFF) + (s >> 16)
    return ~s & 0xFFFF


def ip_csum(ip: iphdr) -> u16:
    return csum_fold(bpf.csum_diff(None, ip, 0))


@bpf.subprog
def hash32(a: u32, b: u32) -> u32:
    h: u32 = a * 0x9E3779B1
    h ^= b
    h = u32(h * 0x85EBCA6B)
    h ^= h >> 13
    return h


@bpf.xdp
def balance(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.XDP_DROP
    proto = eth.proto
    for _ in range(2):
        if proto != ETH_P_8021Q and proto != ETH_P_8021AD:
            break
        vlan = pkt.take(vlan_hdr)
        if vlan is None:
            return bpf.XDP_DROP
        proto = vlan.encapsulated_proto
    if proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None or ip.version != 4:
        return bpf.XDP_PASS
    if ip.ihl < 5:
        return bpf.XDP_DROP
    pkt.skip((ip.ihl - 5) * 4)
    sport = dport = 0
    if ip.protocol == IPPROTO_TCP:
        tcp = pkt.take(tcphdr)
        if tcp is None:
            return bpf.XDP_DROP
        sport, dport = tcp.source, tcp.dest
    elif ip.protocol == IPPROTO_UDP:
        udp = pkt.take(udphdr)
        if udp is None:
            return bpf.XDP_DROP
        sport, dport = udp.source, udp.dest
    else:
        return bpf.XDP_PASS
    if vips.get(Vip(ip.daddr, dport, ip.protocol)) is None:
        stats[1] += 1
        return bpf.XDP_PASS
    real = reals[hash32(ip.saddr, sport) % MAX]
    tot_len = ip.tot_len
    tos = ip.tos
    if bpf.xdp_adjust_head(-20):
        return bpf.XDP_DROP
    new = ctx.packet()
    eth = new.take(ethhdr)
    if eth is None:
        return bpf.XDP_DROP
    outer = new.take(iphdr)
    if outer is None:
        return bpf.XDP_DROP
    eth.dest = real.mac
    eth.source = my_mac
    eth.proto = ETH_P_IP
    outer.version = 4
    outer.ihl = 5
    outer.tos = tos
    outer.tot_len = tot_len + 20
    outer.id = 0
    outer.frag_off = 0
    outer.ttl = 64
    outer.protocol = IPPROTO_IPIP
    outer.check = 0
    outer.saddr = my_addr
    outer.daddr = real.addr
    outer.check = csum(outer)
    stats[0] += 1
    return bpf.XDP_TX


def csum(ip: iphdr) -> u16:
    s = (
        (ip.version << 12 | ip.ihl << 8 | ip.tos)
        + ip.tot_len
        + ip.id
        + ip.frag_off
        + (ip.ttl << 8 | ip.protocol)
    )
    s += (ip.saddr >> 16) + (ip.saddr & 0xFFFF) + (ip.daddr >> 16) + (ip.daddr & 0xFFFF)
    return csum_fold(s)


def check(obj):
    import struct

    def ipb(a):
        return bytes(map(int, a.split(".")))

    obj.vips[(0xC0000201, 80, 6)] = 1
    for i in range(8):
        obj.reals[i] = {"addr": 0x0A000100 + i, "mac": b"\x02\0\0\0\0\x10"}
    frame = (
        b"\xff" * 12
        + b"\x08\x00"
        + struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, ipb("198.51.100.7"), ipb("192.0.2.1"))
        + struct.pack("!HHIIBBHHH", 1234, 80, 0, 0, 0x50, 2, 0, 0, 0)
    )
    r = obj.balance.run(frame, data_out=2000)
    assert r.retval == 3, r.retval
    outp = bytes(r.data)
    assert len(outp) == len(frame) + 20
    from scapy.all import IP, Ether

    p = Ether(outp)
    assert p.dst == "02:00:00:00:00:10" and p.src == "02:00:00:00:00:01"
    sent = p[IP].chksum
    q = IP(bytes(p[IP])[:20])
    del q.chksum
    assert IP(bytes(q)).chksum == sent, hex(sent)
    assert p[IP].len == 60 and p[IP].payload.dst == "192.0.2.1"
