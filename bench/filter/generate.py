"""A large capture of mixed traffic, the same bytes on every machine.

One block of about 32 MB of packets is made from a seed and written again and again with later time
stamps until the file is long enough: the scan sees new pages all the time, the generator is quick.
"""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

_RECORD = struct.Struct("<IIII")
_BLOCK_BYTES = 32 << 20
_START = 1_700_000_000
_PORTS = [80] * 8 + [443] * 30 + [22] * 4 + [8080] * 3 + [25, 993, 3306, 5432, 6379, 1883]
_UDP_PORTS = [53] * 10 + [443] * 20 + [123, 161, 500, 4500, 1900, 5353]


def _host(rng: random.Random) -> bytes:
    """An IPv4 address: a few busy servers, a long tail of clients."""
    if rng.random() < 0.5:
        return bytes((10, 0, 0, rng.randint(1, 40)))
    return bytes((10, rng.randint(1, 60), rng.randint(0, 255), rng.randint(1, 254)))


def _size(rng: random.Random) -> int:
    """Payload bytes: acknowledgements, full segments, and something between."""
    kind = rng.random()
    if kind < 0.45:
        return rng.randint(0, 30)
    if kind < 0.65:
        return rng.randint(60, 700)
    return 1448


def _frame(rng: random.Random) -> bytes:
    mac = bytes((2, 0, 0, 0, 0, rng.randint(1, 9))) + bytes((2, 0, 0, 0, 1, rng.randint(1, 9)))
    kind = rng.random()
    if kind < 0.01:
        return mac + b"\x08\x06" + struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + bytes(38)
    payload = rng.randbytes(_size(rng))
    server, client = rng.choice(_PORTS), rng.randint(32768, 60999)
    ports = struct.pack(">HH", *((server, client) if rng.random() < 0.6 else (client, server)))
    if kind < 0.72:
        proto = 6
        above = ports + struct.pack(">IIBBHHH", rng.getrandbits(32), 1, 0x50, 0x10, 501, 0, 0) + payload
    elif kind < 0.97:
        port = rng.choice(_UDP_PORTS)
        proto = 17
        above = struct.pack(">HHHH", client, port, 8 + len(payload), 0) + payload
    else:
        proto = 1
        above = struct.pack(">BBHHH", 8, 0, 0, 1, 1) + payload
    if rng.random() < 0.15:
        addresses = b"\x20\x01\x0d\xb8" + rng.randbytes(12) + b"\x20\x01\x0d\xb8" + rng.randbytes(12)
        packet = struct.pack(">IHBB", 6 << 28, len(above), proto, 64) + addresses + above
        ethertype = b"\x86\xdd"
    else:
        fragment = 0x2000 | rng.randint(1, 180) if rng.random() < 0.005 else 0x4000
        packet = struct.pack(
            ">BBHHHBBH", 0x45, 0, 20 + len(above), rng.getrandbits(16), fragment, 64, proto, 0
        )
        packet += _host(rng) + _host(rng) + above
        ethertype = b"\x08\x00"
    tag = b"\x81\x00" + struct.pack(">H", rng.randint(1, 9)) if rng.random() < 0.03 else b""
    return (mac + tag + ethertype + packet).ljust(60, b"\0")


def generate(path: Path, size: int, seed: int = 1) -> int:
    """Write a capture of at least ``size`` bytes to ``path``; its number of packets.

    An existing file of the same seed and size is kept (its name should carry both).
    """
    rng = random.Random(seed)
    block = bytearray()
    heads: list[int] = []
    while len(block) < min(_BLOCK_BYTES, size):
        frame = _frame(rng)
        heads.append(len(block))
        block += _RECORD.pack(_START, 0, len(frame), len(frame)) + frame
    copies = -(-size // len(block))
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with open(partial, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for copy in range(copies):
            for index, head in enumerate(heads):
                ticks = (copy * len(heads) + index) * 7
                struct.pack_into("<II", block, head, _START + ticks // 1_000_000, ticks % 1_000_000)
            out.write(block)
    os.replace(partial, path)
    return copies * len(heads)


def capture(folder: Path, size: int = 1 << 30, seed: int = 1) -> Path:
    """The generated capture in ``folder``, made when it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"mixed-{seed}-{size}.pcap"
    if not path.exists():
        generate(path, size, seed)
    return path
