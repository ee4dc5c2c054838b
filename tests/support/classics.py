"""Random classic programs (that every checker of classic code accepts), and expressions to translate."""

from __future__ import annotations

import random

from skep.isa import classic as c
from skep.isa.classic import ClassicInsn
from tests.support import directed

EXPRESSIONS = (
    "tcp port 80",
    "ip and tcp port 8080",
    "udp portrange 1-1000 or icmp",
    "host 10.0.0.1 or host 192.168.1.2 or net 172.16.0.0/12",
    "src net 10.0.0.0/8 and not dst host 10.1.2.3",
    "ip6 and tcp dst port 443",
    "ip6 host fe80::1 or ip6 net 2001:db8::/32",
    "arp and ether src 00:11:22:33:44:55",
    "ether broadcast or ether multicast",
    "vlan 10 and tcp port 22",
    "vlan and vlan and ip",
    "mpls 16 and ip",
    "pppoes and ip6",
    "ip[0]<<ip[1] = 5",
    "ip[6:2] & 0x1fff != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[12] >> 4 > 5 and tcp[20:4] = 0x47455420",
    "udp[ip[2:2] - 20] = 7",
    "1/ether[2] = 0",
    "ether[0] % ether[1] = 3",
    "ether[ether[3]*0x10000000:4] > 1",
    "ip[(ip[2:2] % 7) + 3] & 3 = 1",
    "ether[4] * ether[5] + ether[6] - ether[7] > 1000",
    "ether[4] ^ ether[5] | ether[6] = 0x55",
    "len > 100 and len < 200",
    "greater 60 and ether[len % 14] = 0",
    "ether[40000] = 1 or arp",
    "ether[80000:4] = 1 or icmp6",
    "ip proto 47 or ip protochain 51",
    "ip6 protochain 6",
    "icmp[icmptype] = icmp-echo and icmp[4:2] > 5",
    "-ether[3] = 0xffffff01",
)

_ALU = (
    c.BPF_ADD, c.BPF_SUB, c.BPF_MUL, c.BPF_DIV, c.BPF_MOD, c.BPF_OR, c.BPF_AND, c.BPF_XOR,
    c.BPF_LSH, c.BPF_RSH, c.BPF_NEG,
)  # fmt: skip

_ETHERNET = bytes(12)
_IPV4 = _ETHERNET + bytes.fromhex("0800")


def _ip(protocol: int, length: int, payload: str) -> bytes:
    header = bytes.fromhex("4500") + length.to_bytes(2, "big") + bytes(5) + bytes([protocol]) + bytes(10)
    return _IPV4 + header + bytes.fromhex(payload)


#: packets that match expressions which directed search does not get into
MATCHES = {
    "ip[0]<<ip[1] = 5": _IPV4 + bytes.fromhex("0500") + bytes(40),
    "udp[ip[2:2] - 20] = 7": _ip(17, 28, "0035003500080000 07 00"),
    "ether[ether[3]*0x10000000:4] > 1": bytes.fromhex("00000100") + bytes(60),
    "ip[(ip[2:2] % 7) + 3] & 3 = 1": _ip(6, 21, "00" * 20),
    "ether[40000] = 1 or arp": bytes(40000) + b"\1\0",
    "ether[80000:4] = 1 or icmp6": bytes(80000) + bytes.fromhex("00000001"),
    "icmp[icmptype] = icmp-echo and icmp[4:2] > 5": _ip(1, 28, "0800 0000 0006 0001"),
    "ip6 protochain 6": _ETHERNET
    + bytes.fromhex("86dd 60000000 0018 00 40" + "00" * 32 + "3c00000000000000 0600000000000000" + "01" * 20),
    "-ether[3] = 0xffffff01": bytes.fromhex("000000ff") + bytes(60),
}


def packets(expression: str, program: directed.Program, number: int, limit: int) -> list[directed.Packet]:
    """Packets that take a program's branches, matches among them, each also cut where it matters."""
    out = []
    if expression in MATCHES:
        data = MATCHES[expression]
        out.append(directed.Packet(data, len(data)))
        out += [directed.Packet(data[:cut], cut) for cut in range(max(0, len(data) - 90), len(data))]
    if expression != "ip6 protochain 6":  # its loop has no end on packets of zeros
        for whole in directed.packets([program], number, limit):
            out += [whole, *directed.truncations(whole, [program])]
    return out


def generate(rng: random.Random, size: int = 20) -> list[ClassicInsn]:
    """A program of about ``size`` instructions that returns a small number made of A, X and M[]."""
    out = [ClassicInsn(c.BPF_LD | c.BPF_IMM, k=rng.getrandbits(32))]
    words = rng.sample(range(c.BPF_MEMWORDS), 3)
    out += [ClassicInsn(rng.choice((c.BPF_ST, c.BPF_STX)), k=word) for word in words]
    first = len(out)
    for at in range(size):
        left = size - at
        out.append(_insn(rng, words, left))
    # Jumps may pass the folding but never the return.
    out += [
        ClassicInsn(c.BPF_ALU | c.BPF_XOR | c.BPF_X),
        ClassicInsn(c.BPF_MISC | c.BPF_TAX),
        ClassicInsn(c.BPF_LD | c.BPF_MEM, k=words[0]),
        ClassicInsn(c.BPF_ALU | c.BPF_ADD | c.BPF_X),
        ClassicInsn(c.BPF_MISC | c.BPF_TAX),
        ClassicInsn(c.BPF_ALU | c.BPF_RSH, k=13),
        ClassicInsn(c.BPF_ALU | c.BPF_XOR | c.BPF_X),
        ClassicInsn(c.BPF_ALU | c.BPF_AND, k=0xFF),
        ClassicInsn(c.BPF_RET | c.BPF_A),
    ]
    assert first + size + 9 == len(out)
    return out


def _value(rng: random.Random) -> int:
    edges = (0, 1, 2, 4, 31, 32, 33, 255, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC)
    return rng.choice(edges) if rng.random() < 0.5 else rng.getrandbits(rng.choice((3, 5, 8, 16, 32)))


def _insn(rng: random.Random, words: list[int], left: int) -> ClassicInsn:
    size = rng.choice((c.BPF_B, c.BPF_H, c.BPF_W))
    kind = rng.randrange(20)
    near = rng.randrange(40)
    if kind < 3:
        return ClassicInsn(c.BPF_LD | c.BPF_ABS | size, k=near)
    if kind < 5:
        far = rng.random() < 0.1
        return ClassicInsn(c.BPF_LD | c.BPF_IND | size, k=rng.choice((200, 0x7FFFFFF0)) if far else near)
    if kind < 6:
        return ClassicInsn(c.BPF_LDX | c.BPF_MSH | c.BPF_B, k=near)
    if kind < 7:
        return ClassicInsn(rng.choice((c.BPF_LD, c.BPF_LDX)) | c.BPF_LEN)
    if kind < 9:
        return ClassicInsn(rng.choice((c.BPF_LD, c.BPF_LDX)) | c.BPF_MEM, k=rng.choice(words))
    if kind < 10:
        return ClassicInsn(rng.choice((c.BPF_ST, c.BPF_STX)), k=rng.choice(words))
    if kind < 12:
        return ClassicInsn(rng.choice((c.BPF_LD, c.BPF_LDX)) | c.BPF_IMM, k=_value(rng))
    if kind < 13:
        return ClassicInsn(c.BPF_MISC | rng.choice((c.BPF_TAX, c.BPF_TXA)))
    if kind < 17:
        operation = rng.choice(_ALU)
        if operation == c.BPF_NEG:
            return ClassicInsn(c.BPF_ALU | c.BPF_NEG)
        if rng.random() < 0.4:
            return ClassicInsn(c.BPF_ALU | operation | c.BPF_X)
        k = _value(rng)
        if operation in (c.BPF_DIV, c.BPF_MOD):
            k = k or 3
        return ClassicInsn(c.BPF_ALU | operation, k=k & 31 if operation in (c.BPF_LSH, c.BPF_RSH) else k)
    if kind < 19:
        operation = rng.choice((c.BPF_JEQ, c.BPF_JGT, c.BPF_JGE, c.BPF_JSET))
        source = rng.choice((c.BPF_K, c.BPF_X))
        jt, jf = rng.randrange(left), rng.randrange(left)
        return ClassicInsn(
            c.BPF_JMP | operation | source, rng.choice((0, jt)), jf, 0 if source else _value(rng)
        )
    return ClassicInsn(c.BPF_JMP | c.BPF_JA, k=rng.randrange(min(left, 3)))
