"""Reading bytes with skep, and comparing what came out with libpcap."""

from __future__ import annotations

import io

import skep.capture as capture
from skep.capture import Block, Packet
from skep.errors import CaptureError
from tests.capture.offline import MICRO, Offline, Record


class Read:
    """The packets and blocks that came before ``error``, a `CaptureError` or None."""

    def __init__(self, data: bytes, *, size: int = 1 << 18) -> None:
        self.packets: list[Packet] = []
        self.blocks: list[Block] = []
        self.error: CaptureError | None = None
        self.reader: capture.Reader | None = None
        try:
            with capture.open(Pieces(data, size)) as reader:
                self.reader = reader
                for item in reader.items():
                    if isinstance(item, Packet):
                        self.packets.append(item)
                    else:
                        self.blocks.append(item)
        except CaptureError as error:
            self.error = error


class Pieces(io.RawIOBase):
    """A file object that hands out at most ``size`` bytes at a time, as pipes do."""

    name = "pieces"

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._size) if size >= 0 else self._size)


def record(packet: Packet, precision: int) -> Record:
    """The packet as libpcap shows it: seconds and fraction as a pcap file holds them."""
    sec, frac = divmod(packet.time_ns, 10**9)
    frac += packet.carry * 10**9
    sec -= packet.carry
    return Record(sec, frac // 1000 if precision == MICRO else frac, packet.wirelen, packet.data)


def records(packets: list[Packet], precision: int) -> list[Record]:
    return [record(packet, precision) for packet in packets]


def wrapped(found: list[Record]) -> list[Record]:
    """Fields as 32-bit numbers: libpcap 1.10.3 reads those of files in host order as signed."""
    return [Record(r.sec & 0xFFFFFFFF, r.frac & 0xFFFFFFFF, r.wirelen, r.data) for r in found]


def agree(read: Read, oracle: Offline, precision: int) -> None:
    """Same packets, and the same verdict at the same packet."""
    assert wrapped(records(read.packets, precision)) == wrapped(oracle.records)
    assert (read.error is not None) == bool(oracle.error), (read.error, oracle.error)
