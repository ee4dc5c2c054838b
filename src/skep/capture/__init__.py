"""Capture files: pcap and pcapng, read and written, compressed or not; link types.

    with skep.capture.open("trace.pcapng.zst") as reader:
        for packet in reader:
            print(packet.time_ns, packet.wirelen, len(packet.data))

docs/captures.md tells what is read, what is refused, and how a native scanner gets at the bytes.
"""

from __future__ import annotations

from skep.capture.packet import Block, Interface, Packet
from skep.capture.pcap import Layout, layout
from skep.capture.reader import Reader, open
from skep.capture.writer import PcapWriter

__all__ = ["Block", "Interface", "Layout", "Packet", "PcapWriter", "Reader", "layout", "open"]
