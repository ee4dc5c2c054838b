"""Pseudo headers in the capturing machine's byte order, against libpcap on generated frames."""

from __future__ import annotations

import random
import struct

import pytest

from skep.capture import linktypes
from skep.capture.linktypes import LINUX_SLL, LINUX_SLL2, NFLOG, PFLOG, USB_LINUX, USB_LINUX_MMAPPED
from tests.capture import offline
from tests.capture.build import epb, idb, pcap_header, pcap_record, rng, shb
from tests.capture.common import Read, agree
from tests.capture.offline import NANO


def pflog(order: str, random_: random.Random) -> bytes:
    return bytes((random_.choice((0, 44, 47, 48, 52, 56, 60, 61, 100)),)) + random_.randbytes(99)


def sll(order: str, random_: random.Random) -> bytes:
    protocol = struct.pack(">H", random_.choice((0x0C, 0x0D, 0x800)))
    return random_.randbytes(14) + protocol + random_.randbytes(16)


def sll2(order: str, random_: random.Random) -> bytes:
    protocol = struct.pack(">H", random_.choice((0x0C, 0x0D, 0x86DD)))
    return protocol + random_.randbytes(18) + random_.randbytes(16)


def nflog(order: str, random_: random.Random) -> bytes:
    parts = [bytes((2, random_.choice((0, 0, 0, 1)))), b"\0\x05"]
    for _ in range(random_.randrange(6)):
        value = random_.randbytes(random_.randrange(9))
        size = random_.choice((4 + len(value),) * 6 + (0, 3, 0xFFFF, 0xFFFD))
        parts.append(struct.pack(order + "HH", size, random_.randrange(20)) + value + bytes(-len(value) % 4))
    return b"".join(parts)


def usb(order: str, random_: random.Random) -> bytes:
    count = random_.choice((0, 1, 2, 5, 0xFFFFFFFF))
    head = struct.pack(
        order + "QBBBBHBBqiiIIiiiiII",
        random_.getrandbits(64),
        random_.choice(b"SCE"),
        random_.choice((0, 0, 0, 1, 3)),
        random_.choice((0x81, 0x01)),
        4,
        random_.getrandbits(16),
        0,
        random_.choice((0, 0, 60)),
        1_700_000_000,
        5,
        0,
        random_.choice((96, 1000)),
        96,
        0,
        count & 0x7FFFFFFF,
        1,
        2,
        3,
        count,
    )
    parts = [
        struct.pack(order + "iIII", 0, random_.choice((0, 7, 400)), random_.choice((0, 24, 2**32 - 1)), 0)
        for _ in range(min(count, 6))
    ]
    return b"".join((head, *parts, random_.randbytes(40)))


KINDS = {PFLOG: pflog, LINUX_SLL: sll, LINUX_SLL2: sll2, NFLOG: nflog, USB_LINUX: usb, USB_LINUX_MMAPPED: usb}


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", KINDS, ids=linktypes.name)
def test_as_libpcap_turns_them(kind: int, order: str) -> None:
    random_ = rng(kind, order)
    parts = [pcap_header(order, 0xA1B23C4D, link=kind)]
    blocks = [shb(order), idb(order, (9, b"\x09"), linktype=kind)]
    for number in range(2000):
        data = KINDS[kind](order, random_)
        # Mostly whole, sometimes cut at any byte; sometimes a wire length that is too small.
        if number % 3 == 0:
            data = data[: random_.randrange(len(data) + 1)]
        wirelen = random_.choice((len(data), len(data) + 9, random_.randrange(70)))
        if kind == USB_LINUX_MMAPPED and number % 2 and len(data) >= 64:
            (urb_len,) = struct.unpack_from(order + "I", data, 32)
            (count,) = struct.unpack_from(order + "I", data, 60)
            wirelen = 64 + count * 16 + urb_len & 0xFFFFFFFF
        parts.append(pcap_record(order, 1, number, len(data), wirelen, data))
        blocks.append(epb(order, data, stamp=10**9 + number, wirelen=wirelen))
    for made in (b"".join(parts), b"".join(blocks)):
        oracle = offline.read(made)
        assert len(oracle.records) == 2000
        agree(Read(made), oracle, NANO)
