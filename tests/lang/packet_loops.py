"""Programs that walk packets in loops: the object of test_packet_loops."""

from __future__ import annotations

from skep import bpf
from skep.bpf import be16, u8, u64
from skep.net import ETH_P_IP, ETH_P_IPV6, ethhdr, iphdr, ipv6hdr, tcphdr, udphdr


@bpf.struct
class Opt:
    kind: u8
    length: u8


seen = bpf.Array(u64, 8)


@bpf.struct
class Name:
    text: bpf.Text = bpf.char(64)


hosts = bpf.LruHash(Name, u64, max_entries=100)


@bpf.xdp
def ext_tcp(ctx: bpf.Xdp) -> int:
    """IPv6 extension headers, then TCP options: the MSS."""
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IPV6:
        return bpf.XDP_PASS
    ip = pkt.take(ipv6hdr)
    if ip is None:
        return bpf.XDP_PASS
    next = ip.nexthdr
    for _ in range(8):
        if next != 0 and next != 43 and next != 60:
            break
        h = pkt.take(Opt)
        if h is None:
            return bpf.XDP_PASS
        next = h.kind
        pkt.skip(h.length * 8 + 6)
    if next != 6:
        return bpf.XDP_PASS
    tcp = pkt.take(tcphdr)
    if tcp is None:
        return bpf.XDP_PASS
    left = tcp.doff * 4 - 20
    for _ in range(40):
        if left <= 0:
            break
        kind = pkt.take(u8)
        if kind is None:
            return bpf.XDP_PASS
        if kind.value == 0:
            break
        if kind.value == 1:
            left -= 1
            continue
        length = pkt.take(u8)
        if length is None:
            return bpf.XDP_PASS
        if kind.value == 2:
            mss = pkt.take(be16)
            if mss is not None:
                seen[0] = mss.value
            break
        if length.value < 2:
            break
        pkt.skip(length.value - 2)
        left -= length.value
    return bpf.XDP_PASS


@bpf.tc
def dns(skb: bpf.SkBuff) -> int:
    """The name of a question, lower case, dotted."""
    pkt = skb.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return 0
    ip = pkt.take(iphdr)
    if ip is None or ip.protocol != 17:
        return 0
    udp = pkt.take(udphdr)
    if udp is None or udp.dest != 53:
        return 0
    pkt.skip(12)
    name = bpf.zero(Name)
    at = 0
    for _ in range(10):
        size = pkt.take(u8)
        if size is None:
            return 0
        n = size.value
        if n == 0 or n > 63:
            break
        for i in range(63):
            if i >= n:
                break
            c = pkt.take(u8)
            if c is None:
                return 0
            if at < 63:
                name.text[at] = c.value | 0x20
                at += 1
        if at < 63:
            name.text[at] = 46
            at += 1
    hosts[name] += 1
    return 0


@bpf.xdp
def dhcp(ctx: bpf.Xdp) -> int:
    """The kind of a message, from the options."""
    pkt = ctx.packet()
    pkt.skip(14 + 20 + 8 + 240)
    for _ in range(64):
        o = pkt.take(Opt)
        if o is None:
            break
        if o.kind == 255:
            break
        if o.kind == 53:
            t = pkt.take(u8)
            if t is not None:
                seen[1] = t.value
            break
        pkt.skip(o.length)
    return bpf.XDP_PASS


@bpf.struct
class Ext:
    type: be16
    length: be16


@bpf.tc
def sni(skb: bpf.SkBuff) -> int:
    """The name of a server in a ClientHello."""
    pkt = skb.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return 0
    ip = pkt.take(iphdr)
    if ip is None or ip.protocol != 6:
        return 0
    pkt.skip(ip.ihl * 4 - 20)
    tcp = pkt.take(tcphdr)
    if tcp is None:
        return 0
    pkt.skip(tcp.doff * 4 - 20)
    pkt.skip(5 + 4 + 2 + 32)
    session = pkt.take(u8)
    if session is None:
        return 0
    pkt.skip(session.value)
    ciphers = pkt.take(be16)
    if ciphers is None:
        return 0
    pkt.skip(ciphers.value)
    comp = pkt.take(u8)
    if comp is None:
        return 0
    pkt.skip(comp.value)
    pkt.skip(2)
    for _ in range(32):
        ext = pkt.take(Ext)
        if ext is None:
            return 0
        if ext.type == 0:
            pkt.skip(5)
            name = bpf.zero(Name)
            for i in range(63):
                c = pkt.take(u8)
                if c is None or c.value == 0:
                    break
                name.text[i] = c.value
            hosts[name] += 1
            return 0
        pkt.skip(ext.length)
    return 0


@bpf.tc
def http(skb: bpf.SkBuff) -> int:
    """What follows 'Host: ' in a request."""
    pkt = skb.packet()
    pkt.skip(14 + 20 + 20)
    state = 0
    for _ in range(512):
        c = pkt.take(u8)
        if c is None:
            return 0
        b = c.value
        if state == 0 and b == 10:
            state = 1
        elif state == 1 and b == 72:
            state = 2
        elif state == 2 and b == 111:
            state = 3
        elif state == 3 and b == 115:
            state = 4
        elif state == 4 and b == 116:
            state = 5
        elif state == 5 and b == 58:
            state = 6
            break
        else:
            state = 1 if b == 10 else 0
    if state != 6:
        return 0
    pkt.skip(1)
    name = bpf.zero(Name)
    for i in range(63):
        c = pkt.take(u8)
        if c is None or c.value == 13:
            break
        name.text[i] = c.value
    hosts[name] += 1
    return 0
