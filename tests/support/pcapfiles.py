"""Small captures made for tests: seeded packets, any byte order and resolution, damage on request."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Sequence

SEED = int(os.environ.get("SKEP_SEED", "20260"))

#: (seconds, fraction, captured bytes, length on the wire)
Record = tuple[int, int, bytes, int]


def header(*, order: str = "<", nano: bool = False, snaplen: int = 262144, link: int = 1) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)


def record(sec: int, fraction: int, data: bytes, wirelen: int | None = None, *, order: str = "<") -> bytes:
    return (
        struct.pack(order + "IIII", sec, fraction, len(data), len(data) if wirelen is None else wirelen)
        + data
    )


def frame(rng: random.Random) -> bytes:
    """An Ethernet frame: mostly TCP and UDP over IPv4 and IPv6, some cut short, some noise."""
    mac = rng.randbytes(12)
    ports = struct.pack(">HH", rng.choice((80, 443, 53, 8080, 1024)), rng.choice((80, 22, 53, 40000)))
    above = ports + rng.randbytes(rng.choice((8, 16, 16, 100, 900)))
    proto = rng.choice((6, 6, 17, 17, 1, 132))
    kind = rng.random()
    if kind < 0.6:
        ip = struct.pack(
            ">BBHHHBBH", 0x45, 0, 20 + len(above), 1, rng.choice((0, 0, 0x2000, 7)), 64, proto, 0
        )
        data = mac + b"\x08\x00" + ip + bytes((10, 0, 0, rng.randint(1, 4))) * 2 + above
    elif kind < 0.85:
        data = (
            mac
            + b"\x86\xdd"
            + struct.pack(">IHBB", 6 << 28, len(above), proto, 64)
            + rng.randbytes(32)
            + above
        )
    elif kind < 0.9:
        data = mac + b"\x08\x06" + bytes(28)
    else:
        data = rng.randbytes(rng.randint(0, 80))
    return data[: rng.randint(0, len(data))] if rng.random() < 0.1 else data


def records(count: int, *, seed: int = SEED, units: int = 10**6, start: int = 1_700_000_000) -> list[Record]:
    """Packets in time order; one in twenty was longer on the wire."""
    rng = random.Random(seed)
    made = []
    ticks = 0
    for _ in range(count):
        data = frame(rng)
        ticks += rng.randint(1, units // 100)
        wirelen = len(data) + (rng.randint(1, 1000) if rng.random() < 0.05 else 0)
        made.append((start + ticks // units, ticks % units, data, wirelen))
    return made


def capture(
    packets: Sequence[Record], *, order: str = "<", nano: bool = False, snaplen: int = 262144, link: int = 1
) -> bytes:
    """A pcap file."""
    body = b"".join(record(*packet, order=order) for packet in packets)
    return header(order=order, nano=nano, snaplen=snaplen, link=link) + body
