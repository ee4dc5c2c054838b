# mypy: ignore-errors
"""Headers taken first and tested together; numbers in unions of packed structs, perhaps not aligned."""

import struct

from skep import bpf
from skep.bpf import be64, s32, u8, u16, u32, u64
from skep.net import ETH_P_IP, ethhdr, iphdr

CLIENT, LB, A, B = 4, 5, 2, 3


def addr(x: int) -> u32:
    return 0xAC110000 | x


@bpf.xdp
def balance(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    iph = pkt.take(iphdr)
    if eth is None or iph is None:
        return bpf.XDP_ABORTED
    if eth.proto != ETH_P_IP or iph.protocol != bpf.IPPROTO_TCP:
        return bpf.XDP_PASS
    if iph.saddr == addr(CLIENT):
        be = A
        if bpf.ktime() % 2:
            be = B
        iph.daddr = addr(be)
        eth.dest[5] = be
    else:
        iph.daddr = addr(CLIENT)
        eth.dest[5] = CLIENT
    iph.saddr = addr(LB)
    eth.source[5] = LB
    iph.check = 0
    csum = bpf.csum_diff(None, iph, 0)
    for _ in range(4):
        if csum >> 16:
            csum = (csum & 0xFFFF) + (csum >> 16)
    iph.check = bpf.bswap16(~csum & 0xFFFF)
    return bpf.XDP_TX


@bpf.union
class Any64:
    u: u64
    s: s32
    b: list[u8] = bpf.array(u8, 8)
    p: bpf.Raw = bpf.raw(3)


@bpf.struct(packed=True)
class Wire:
    t: u8
    v: Any64
    words: list[u32] = bpf.array(u32, 2)
    n: be64
    f: u16 = bpf.bits(u16, 9)


wires = bpf.Array(Wire, 2)


@bpf.xdp
def fill(ctx: bpf.Xdp) -> int:
    w = wires[0]
    w.t += 250
    w.v.u = 0x1122334455667788
    w.v.b[0] ^= 0xFF
    w.v.s -= 1
    w.v.u += 1 << 40
    w.words[1] += 7
    w.n = w.v.u
    w.f = 0x1FF
    x = wires[1]
    x.v = w.v
    x.v.p = b"abc"
    return 2


def check(obj):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, b"\xac\x11\0\4", b"\xac\x11\0\5")
    packet = bytes(12) + b"\x08\0" + head + bytes(40)
    done = obj.balance.run(packet, data_out=200)
    total = sum(struct.unpack(">10H", done.data[14:34]))
    assert done.retval == 3 and (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert done.data[5] in (2, 3) and done.data[11] == 5 and done.data[26:30] == b"\xac\x11\0\5"
    assert obj.balance.run(packet[:20]).retval == 0
    assert obj.fill.run(bytes(64)).retval == 2
    value = 0x1122334455667788 ^ 0xFF
    value = (value & ~0xFFFFFFFF | (value - 1) & 0xFFFFFFFF) + (1 << 40)
    wire = obj.wires[0]
    assert (wire.v.u, wire.n, wire.t, wire.f, list(wire.words)) == (value, value, 250, 0x1FF, [0, 7])
    assert obj.wires[1].v.u == value & ~0xFFFFFF | int.from_bytes(b"abc", "little")
