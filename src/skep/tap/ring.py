"""An AF_PACKET ring: packets that a filter in the kernel let through, in memory shared with it.

TPACKET_V3 (Linux 3.2): the kernel fills blocks and hands over whole ones, after ``timeout`` at the latest.
Source: Documentation/networking/packet_mmap.rst, <linux/if_packet.h>.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from skep.errors import KernelError, PermissionDenied
from skep.isa import ClassicInsn
from skep.tap.attach import attach
from skep.tap.link import LINUX_SLL2, Link

SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 1, 5, 6, 10
PACKET_RESERVE = 12
PACKET_MR_PROMISC = 1
TPACKET_V3 = 2
ETH_P_ALL = 3

_STATUS_USER = 1
_VLAN_VALID, _TPID_VALID = 1 << 4, 1 << 6
_OUTGOING = 4
_LOOPBACK = 772  # ARPHRD_LOOPBACK

_BLOCK = struct.Struct("=IIIII")  # version, private offset; status, packets, offset of the first
#: next, sec, nsec, snaplen, len, status, mac, net, rxhash, vlan_tci, vlan_tpid
_FRAME = struct.Struct("=IIIIIIHHIIH")
_ADDRESS = struct.Struct(
    "=H2siHBB8s"
)  # sockaddr_ll: family, protocol (big-endian), index, hatype, type, halen, addr
_ADDRESS_AT = 48  # TPACKET_ALIGN(sizeof(struct tpacket3_hdr))

_BLOCK_BYTES = 1 << 20
_STATUS_AT = 8


def available() -> int | None:
    """Bytes of memory that can be had without paging anything out; None where Linux does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return None


def blocks(size: int, memory: int | None) -> int:
    """How many blocks a ring of ``size`` bytes has, where ``memory`` bytes are available (None: unknown).

    Raises:
        KernelError: it would take more than half of them. A ring is never paged out, and the kernel ends
            other processes to make room for it.
    """
    count = max(2, -(-size // _BLOCK_BYTES))
    if memory is not None and count * _BLOCK_BYTES > memory // 2:
        raise KernelError(
            errno.ENOMEM,
            f"no ring of {count} MiB: {memory >> 20} MiB of memory are available, and a ring gets half of "
            "them at most (-B asks for less)",
        )
    return count


class LivePacket(NamedTuple):
    """A captured packet: ``data`` is what was kept, ``wirelen`` its length on the wire in bytes,
    ``time_ns`` nanoseconds since the epoch, ``outgoing`` whether this machine sent it."""

    data: bytes
    wirelen: int
    time_ns: int
    outgoing: bool


class Ring:
    """One socket, its filter and its ring; a context manager.

    ``insns`` is None for no filter in the kernel. ``snaplen`` bounds what is kept of a packet.
    ``size`` is the ring's size in bytes, rounded up to blocks of 1 MiB and at most half of the memory that
    is available, ``timeout`` milliseconds until an unfinished block is handed over. No packet from before
    the filter can come out: the socket is bound only when filter and ring are in place.

    Raises:
        PermissionDenied: CAP_NET_RAW is missing.
        KernelError: the interface, the program or the size is refused.
    """

    def __init__(
        self,
        link: Link,
        insns: tuple[ClassicInsn, ...] | None,
        *,
        snaplen: int,
        size: int = 8 << 20,
        timeout: int = 50,
        promiscuous: bool = True,
    ) -> None:
        self.link = link
        self.snaplen = snaplen
        self._next = 0
        self._received = self._dropped = 0
        kind = socket.SOCK_DGRAM if link.cooked else socket.SOCK_RAW
        try:
            # Protocol 0 receives nothing; bind() below opens the tap.
            self.socket = socket.socket(socket.AF_PACKET, kind, 0)
        except PermissionError:
            raise PermissionDenied(
                errno.EPERM, "capturing needs CAP_NET_RAW (run as root)", missing="CAP_NET_RAW", cmd="socket"
            ) from None
        try:
            self.form = attach(self.socket, insns, drain=False) if insns is not None else "none"
            self._make(blocks(size, available()), timeout)
            if promiscuous and link.index:
                request = struct.pack("=iHH8s", link.index, PACKET_MR_PROMISC, 0, b"")
                self.socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
            self._bind()
        except OSError as error:
            self.socket.close()
            if isinstance(error, KernelError):
                raise
            raise KernelError(error.errno or errno.EIO, f"{link.name}: {error.strerror}") from None
        except BaseException:
            self.socket.close()
            raise

    def _bind(self) -> None:
        """Open the tap. Through libc: Python's bind cannot say "all interfaces" (index 0)."""
        address = struct.pack(
            "=H2sixxxxxxxxxxxx", socket.AF_PACKET, ETH_P_ALL.to_bytes(2, "big"), self.link.index
        )
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self.socket.fileno(), address, len(address)):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def _make(self, blocks: int, timeout: int) -> None:
        self.socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        frame = 2048
        request = struct.pack(
            "=7I", _BLOCK_BYTES, blocks, frame, blocks * (_BLOCK_BYTES // frame), timeout, 0, 0
        )
        try:
            self.socket.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        except OSError as error:
            raise KernelError(
                error.errno or errno.ENOMEM, f"no ring of {blocks} MiB: {error.strerror} (-B asks for less)"
            ) from None
        self._blocks = blocks
        self._memory = mmap.mmap(
            self.socket.fileno(), blocks * _BLOCK_BYTES, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
        )

    def fileno(self) -> int:
        """The descriptor to poll: readable when a block is ready."""
        return self.socket.fileno()

    def trouble(self) -> int:
        """The errno that waits on the socket (ENETDOWN when the interface is down), else 0."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def packets(self) -> Iterator[LivePacket]:
        """The packets that are there now; ends when no block is ready."""
        memory = self._memory
        while True:
            at = self._next * _BLOCK_BYTES
            _, _, status, count, first = _BLOCK.unpack_from(memory, at)
            if not status & _STATUS_USER:
                return
            try:
                yield from self._block(at, count, first)
            finally:
                # Give the block back: one aligned store of 32 bits.
                memory[at + _STATUS_AT : at + _STATUS_AT + 4] = bytes(4)
                self._next = (self._next + 1) % self._blocks

    def _block(self, at: int, count: int, first: int) -> Iterator[LivePacket]:
        memory, link, snaplen = self._memory, self.link, self.snaplen
        at += first
        for _ in range(count):
            step, sec, nsec, caplen, length, status, mac, net, _, tci, tpid = _FRAME.unpack_from(memory, at)
            _, protocol, index, hardware, kind, size, address = _ADDRESS.unpack_from(memory, at + _ADDRESS_AT)
            start = at + (net if link.cooked else mac)
            at += step
            if kind == _OUTGOING and (link.loopback or (link.cooked and hardware == _LOOPBACK)):
                continue  # it comes back as an incoming one; "any" sees the loopback interface too
            data = memory[start : start + caplen]
            if link.cooked:
                if link.linktype == LINUX_SLL2:
                    head = struct.pack(">2sxxIHBB8s", protocol, index, hardware, kind, size, address)
                else:
                    head = struct.pack(">HHH8s2s", kind, hardware, size, address, protocol)
                if link.linktype != LINUX_SLL2 and status & _VLAN_VALID:
                    # Version 1 has a place for the tag: between the address and the protocol.
                    tag = struct.pack(">HH", tpid if status & _TPID_VALID else 0x8100, tci & 0xFFFF)
                    head = head[:14] + tag + head[14:]
                data = head + data
                length += len(head)
            elif status & _VLAN_VALID and caplen >= 12 and link.linktype == 1:
                # The card or the driver took the tag out; put it where it was, as libpcap does.
                tag = struct.pack(">HH", tpid if status & _TPID_VALID else 0x8100, tci & 0xFFFF)
                data = data[:12] + tag + data[12:]
                length += 4
            yield LivePacket(data[:snaplen], length, sec * 1_000_000_000 + nsec, kind == _OUTGOING)

    def statistics(self) -> tuple[int, int]:
        """(packets that passed the kernel's filter, those of them dropped for lack of room), so far."""
        raw = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12)
        received, dropped, _ = struct.unpack("=III", raw)  # reading sets them to 0
        self._received += received
        self._dropped += dropped
        return self._received, self._dropped

    def close(self) -> None:
        """Close socket and ring."""
        self._memory.close()
        self.socket.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
