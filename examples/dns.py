"""Count the DNS questions that arrive, by name and type, and drop those about names on a list.

sudo python examples/dns.py INTERFACE [BLOCKED-NAME ...]
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import be16, u8, u16, u64
from skep.net import ETH_P_IP, IPPROTO_UDP, ethhdr, iphdr, udphdr

LONGEST = 64


@bpf.struct
class Header:
    id: be16
    flags: be16
    questions: be16
    answers: be16
    authorities: be16
    additionals: be16


@bpf.struct
class Question:
    type: u16
    name: bpf.Raw = bpf.raw(LONGEST)  # in small letters, a byte of length before each label


blocked = bpf.Hash(bpf.raw(LONGEST), u8, max_entries=4096)
asked = bpf.LruHash(Question, u64, max_entries=4096)


@bpf.xdp
def questions(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None or ip.protocol != IPPROTO_UDP or ip.ihl < 5:
        return bpf.XDP_PASS
    pkt.skip(ip.ihl * 4 - 20)
    udp = pkt.take(udphdr)
    if udp is None or udp.dest != 53:
        return bpf.XDP_PASS
    head = pkt.take(Header)
    if head is None or head.flags & 0x8000 or head.questions != 1:
        return bpf.XDP_PASS
    question = bpf.zero(Question)
    left = 0  # bytes of the label that is being read
    for i in range(LONGEST):
        byte = pkt.take(u8)
        if byte is None:
            return bpf.XDP_DROP
        c = byte.value
        if left > 0:
            left -= 1
            if ord("A") <= c <= ord("Z"):
                c += 32
        elif c == 0:
            break
        elif c > 63:
            return bpf.XDP_DROP  # a pointer, which a question has no use for
        else:
            left = c
        question.name[i] = c
    else:
        return bpf.XDP_PASS  # longer than this program looks
    kind = pkt.take(be16)
    if kind is None:
        return bpf.XDP_DROP
    question.type = kind.value
    asked[question] += 1
    return bpf.XDP_DROP if question.name in blocked else bpf.XDP_PASS


def encoded(name: str) -> bytes:
    """A name as the packets have it."""
    labels = name.lower().strip(".").encode().split(b".")
    return b"".join(bytes([len(label)]) + label for label in labels).ljust(LONGEST, b"\0")


def decoded(name: bytes) -> str:
    labels: list[str] = []
    while name and name[0]:
        labels.append(name[1 : 1 + name[0]].decode("ascii", "replace"))
        name = name[1 + name[0] :]
    return ".".join(labels) + "."


def main() -> None:
    interface, *names = sys.argv[1:]
    with skep.load(questions) as obj:
        for name in names:
            obj.blocked[encoded(name)] = 1
        with obj.questions.attach(interface):
            while True:
                time.sleep(1)
                for question, count in sorted(obj.asked.items(), key=lambda row: -row[1])[:10]:
                    print(f"{count:8} type {question.type:3} {decoded(bytes(question.name))}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
