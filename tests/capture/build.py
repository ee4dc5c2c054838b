"""Capture files made for tests, straight from the format descriptions and apart from skep's writers."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterable

SEED = int(os.environ.get("SKEP_SEED", "20261121"))

#: magic -> (units in a second, bytes of a record header)
PCAP_MAGICS = {0xA1B2C3D4: (10**6, 16), 0xA1B23C4D: (10**9, 16), 0xA1B2CD34: (10**6, 24)}


def rng(*salt: object) -> random.Random:
    """A generator seeded with SKEP_SEED and the given salt; the seed is printed for failures."""
    print(f"SKEP_SEED={SEED} {salt}")
    return random.Random(f"{SEED} {salt}")


def pcap_header(
    order: str, magic: int, version: tuple[int, int] = (2, 4), snaplen: int = 65535, link: int = 1
) -> bytes:
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, snaplen, link)


def pcap_record(
    order: str, sec: int, frac: int, caplen: int, wirelen: int, data: bytes, *, header: int = 16
) -> bytes:
    extra = struct.pack(order + "IHBx", 2, 0x800, 4) if header == 24 else b""
    return struct.pack(order + "IIII", sec, frac, caplen, wirelen) + extra + data


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def options(order: str, *pairs: tuple[int, bytes]) -> bytes:
    if not pairs:
        return b""
    return b"".join(option(order, code, value) for code, value in pairs) + option(order, 0, b"")


def block(order: str, kind: int, body: bytes) -> bytes:
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def shb(order: str, *pairs: tuple[int, bytes], version: tuple[int, int] = (1, 0), length: int = -1) -> bytes:
    return block(
        order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, *version, length) + options(order, *pairs)
    )


def idb(order: str, *pairs: tuple[int, bytes], linktype: int = 1, snaplen: int = 262144) -> bytes:
    return block(order, 1, struct.pack(order + "HHI", linktype, 0, snaplen) + options(order, *pairs))


def epb(
    order: str,
    data: bytes,
    *pairs: tuple[int, bytes],
    interface: int = 0,
    stamp: int = 0,
    wirelen: int | None = None,
    caplen: int | None = None,
) -> bytes:
    fixed = struct.pack(
        order + "IIIII",
        interface,
        stamp >> 32,
        stamp & 0xFFFFFFFF,
        len(data) if caplen is None else caplen,
        len(data) if wirelen is None else wirelen,
    )
    return block(order, 6, fixed + data + bytes(-len(data) % 4) + options(order, *pairs))


def pb(order: str, data: bytes, *pairs: tuple[int, bytes], interface: int = 0, stamp: int = 0) -> bytes:
    fixed = struct.pack(
        order + "HHIIII", interface, 7, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data) + 3
    )
    return block(order, 2, fixed + data + bytes(-len(data) % 4) + options(order, *pairs))


def spb(order: str, data: bytes, wirelen: int) -> bytes:
    return block(order, 3, struct.pack(order + "I", wirelen) + data + bytes(-len(data) % 4))


def frame(random_: random.Random, size: int | None = None) -> bytes:
    """An Ethernet frame of random bytes with an IPv4 type field."""
    size = random_.choice((0, 1, 14, 42, 60, 61, 62, 63, 300, 1514)) if size is None else size
    return (random_.randbytes(12) + b"\x08\x00" + random_.randbytes(max(0, size - 14)))[:size]


def joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)
