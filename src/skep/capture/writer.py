"""Writing pcap files, and the output both writers share."""

from __future__ import annotations

import errno
import os
import stat
import sys
from struct import Struct
from types import TracebackType
from typing import Protocol, Self

from skep.capture import linktypes
from skep.capture.packet import Packet
from skep.capture.pcap import MICRO, NANO
from skep.capture.reader import Reader
from skep.errors import CaptureError

#: bytes gathered before they are written
GATHER = 1 << 18


class BinaryOutput(Protocol):
    """Anything with a ``write(bytes)``."""

    def write(self, data: bytes, /) -> object: ...


Target = str | bytes | os.PathLike[str] | int | BinaryOutput


class Output:
    """Where records go: gathered, and written in large pieces that end between records.

    When a write fails on a regular file (a full disk, say) the file is cut back to its last whole record.
    """

    __slots__ = ("_fd", "_file", "_gathered", "_owned", "_parts", "path")

    def __init__(self, target: Target) -> None:
        self._parts: list[bytes] = []
        self._gathered = 0
        self._fd = self._owned = -1
        self._file: BinaryOutput | None = None
        if isinstance(target, int):
            self._fd, self.path = target, f"<fd {target}>"
        elif isinstance(target, (str, bytes, os.PathLike)):
            self.path = os.fsdecode(target)
            if self.path == "-":
                self._fd, self.path = 1, "<stdout>"
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._fd = self._owned = os.open(self.path, flags, 0o666)
        else:
            self._file = target
            self.path = str(getattr(target, "name", "<stream>"))

    def put(self, record: bytes) -> None:
        """Add one whole record, or several."""
        self._parts.append(record)
        self._gathered += len(record)
        if self._gathered >= GATHER:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        parts, self._parts, self._gathered = self._parts, [], 0
        data = b"".join(parts)
        if not data:
            return
        if self._file is not None:
            self._file.write(data)
            return
        view, done = memoryview(data), 0
        try:
            while done < len(data):
                done += os.write(self._fd, view[done:])
        except OSError as error:
            if done and error.errno != errno.EPIPE and stat.S_ISREG(os.fstat(self._fd).st_mode):
                whole = 0
                for part in parts:
                    if whole + len(part) > done:
                        break
                    whole += len(part)
                os.ftruncate(self._fd, os.lseek(self._fd, whole - done, os.SEEK_CUR))
            raise OSError(error.errno, error.strerror, self.path) from None

    def close(self) -> None:
        """Write what was gathered and close the file if it was opened here."""
        try:
            self.flush()
        finally:
            if self._owned >= 0:
                fd, self._owned, self._fd = self._owned, -1, -1
                os.close(fd)


class PcapWriter:
    """Writes a pcap file, version 2.4.

    ``target`` is a path ("-" is standard output), a file descriptor or a binary file object; a path is
    created or emptied. ``linktype`` is a DLT number, ``snaplen`` the snapshot length in the header,
    ``fcs`` the upper six bits of the link type field (`Layout.fcs`). ``precision`` is 6 (microseconds) or
    9. ``byteorder`` is "little" or "big"; this machine's is the default.

    Finer time stamps than ``precision`` lose their last digits, as in libpcap. Seconds are written modulo
    2**32: pcap ends in 2106. All packets must be of the file's link type.
    """

    __slots__ = ("_digits", "_output", "_pack", "linktype")

    def __init__(
        self,
        target: Target,
        *,
        linktype: int,
        snaplen: int = linktypes.MAXIMUM_SNAPLEN,
        precision: int = 6,
        byteorder: str = sys.byteorder,
        fcs: int = 0,
    ) -> None:
        if precision not in (6, 9) or byteorder not in ("little", "big"):
            raise CaptureError(
                f"pcap has precision 6 or 9 and byte order little or big, not {precision} {byteorder}"
            )
        self.linktype = linktype
        self._digits = precision
        order = "<" if byteorder == "little" else ">"
        magic = NANO if precision == 9 else MICRO
        number = linktypes.to_file(linktype) | fcs
        header = Struct(order + "IHHIIII").pack(magic, 2, 4, 0, 0, snaplen, number)
        self._pack = Struct(order + "IIII").pack
        self._output = Output(target)
        self._output.put(header)

    @classmethod
    def like(cls, target: Target, reader: Reader, *, precision: int = 6) -> PcapWriter:
        """A writer with the header that ``tcpdump -r IN -w target`` writes for this input."""
        fcs = reader.layout.fcs if reader.layout else 0
        return cls(target, linktype=reader.linktype, snaplen=reader.snaplen, precision=precision, fcs=fcs)

    @property
    def path(self) -> str:
        return self._output.path

    def write(self, packet: Packet) -> None:
        """Add one packet."""
        data, wirelen, time_ns, linktype, _, _, carry = packet
        if linktype != self.linktype:
            raise CaptureError(
                f"a pcap file has one link type: a packet of {linktypes.name(linktype)} in a file of "
                f"{linktypes.name(self.linktype)} (pcapng can hold both)",
                path=self.path,
            )
        sec, frac = divmod(time_ns, 1_000_000_000)
        if carry:
            sec, frac = sec - carry, frac + carry * 1_000_000_000
        if self._digits == 6:
            frac //= 1000
        head = self._pack(sec & 0xFFFFFFFF, frac & 0xFFFFFFFF, len(data), wirelen)
        self._output.put(head + data)

    def write_records(self, records: bytes) -> None:
        """Add records that are already framed as this file's are (a piece ends between records)."""
        self._output.put(records)

    def flush(self) -> None:
        """Hand everything written so far to the system."""
        self._output.flush()

    def close(self) -> None:
        """Finish the file."""
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
