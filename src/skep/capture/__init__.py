"""Capture files: pcap and pcapng, read and written, compressed or not; link types.

    with skep.capture.open("trace.pcapng.zst") as reader:
        for packet in reader:
            print(packet.time_ns, packet.wirelen, len(packet.data))

docs/captures.md tells what is read, what is refused, and how a native scanner gets at the bytes. The names
are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skep.capture.ngwriter import PcapngWriter as PcapngWriter
    from skep.capture.packet import Block as Block
    from skep.capture.packet import Interface as Interface
    from skep.capture.packet import Packet as Packet
    from skep.capture.pcap import Layout as Layout
    from skep.capture.pcap import layout as layout
    from skep.capture.reader import Reader as Reader
    from skep.capture.reader import open as open
    from skep.capture.stream import Batch as Batch
    from skep.capture.stream import Stream as Stream
    from skep.capture.writer import PcapWriter as PcapWriter

_HOMES = {
    "Batch": "stream",
    "Block": "packet",
    "Interface": "packet",
    "Layout": "pcap",
    "Packet": "packet",
    "PcapWriter": "writer",
    "PcapngWriter": "ngwriter",
    "Reader": "reader",
    "Stream": "stream",
    "layout": "pcap",
    "open": "reader",
}

__all__ = [
    "Batch",
    "Block",
    "Interface",
    "Layout",
    "Packet",
    "PcapWriter",
    "PcapngWriter",
    "Reader",
    "Stream",
    "layout",
    "open",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep.capture' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"skep.capture.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
