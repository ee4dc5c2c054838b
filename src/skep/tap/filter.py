"""`Filter`: a tcpdump expression as a Python object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from skep.errors import SkepError
from skep.tap.layout import INDEX_ENTRY, Mode
from skep.tap.prepare import Recipe, asks_the_kernel, native

if TYPE_CHECKING:
    import os
    import socket

    from skep.capture import Reader
    from skep.capture.source import BinaryFile
    from skep.errors import CaptureError
    from skep.isa import ClassicInsn, Insn
    from skep.tap.native import ScanCode

EN10MB = 1
MAXIMUM_SNAPLEN = 262144

#: numpy.dtype of `Batch.table`: the packet's number in the capture, where its bytes begin in `Batch.data`,
#: how many there are, how many it had on the wire, its time in seconds and a fraction (`Batch.units`).
TABLE = [
    ("number", "<u8"),
    ("offset", "<u8"),
    ("length", "<u4"),
    ("wirelen", "<u4"),
    ("sec", "<u4"),
    ("fraction", "<u4"),
]


class Match(NamedTuple):
    """A packet that matched. ``number`` counts the capture's packets from 0; ``offset`` is where the
    packet's bytes begin in a plain pcap file, None for other kinds; ``length`` bytes were captured,
    ``wirelen`` went over the wire; ``packet`` views them; ``linktype`` is a DLT number."""

    number: int
    offset: int | None
    length: int
    wirelen: int
    time_ns: int
    packet: memoryview
    linktype: int


class Table:
    """Index entries, 32 bytes each (`TABLE`), as numpy.asarray sees them without copying."""

    __slots__ = ("_raw", "size")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.size = len(raw) // INDEX_ENTRY

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return self._raw

    @property
    def __array_interface__(self) -> dict[str, Any]:
        import ctypes

        address = ctypes.cast(ctypes.c_char_p(self._raw), ctypes.c_void_p).value or 0
        return {
            "version": 3,
            "shape": (self.size,),
            "typestr": f"|V{INDEX_ENTRY}",
            "descr": TABLE,
            "data": (address, True),
        }


class Batch(NamedTuple):
    """Matches of one stretch of a capture.

    ``data`` holds the packets' bytes (``numpy.frombuffer(batch.data, "u1")`` views them), ``table``
    says where. ``offset`` is the file offset of ``data`` in a plain pcap file, else None. ``units``
    are fractions of a second.
    """

    table: Table
    data: bytes
    offset: int | None
    units: int
    linktype: int

    def matches(self) -> Iterator[Match]:
        """The entries one by one."""
        from struct import iter_unpack

        scale = 1_000_000_000 // self.units
        view = memoryview(self.data)
        for number, at, length, wirelen, sec, fraction in iter_unpack("=QQIIII", bytes(self.table)):
            offset = None if self.offset is None else self.offset + at
            time_ns = sec * 1_000_000_000 + fraction * scale
            yield Match(number, offset, length, wirelen, time_ns, view[at : at + length], self.linktype)


class Run:
    """A filter over a capture, lazily: iterate over it for `Match`, or over `batches`. Use it once."""

    def __init__(self, owner: Filter, capture: str | os.PathLike[str] | BinaryFile | Reader) -> None:
        self._owner = owner
        self._capture = capture
        self.seen = 0

    def __iter__(self) -> Iterator[Match]:
        for batch in self.batches():
            yield from batch.matches()

    def batches(self) -> Iterator[Batch]:
        """Matches by stretches of some 256 KB; stretches without a match are left out.

        Raises:
            CaptureError: at damage, after everything before it; or the file cannot be read.
        """
        from skep import capture
        from skep.capture import Reader

        try:
            if isinstance(self._capture, Reader):
                yield from self._of(self._capture)
            else:
                with capture.open(self._capture) as reader:
                    yield from self._of(reader)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> CaptureError:
        from skep.errors import CaptureError

        path = error.filename
        if path is None:
            path = getattr(self._capture, "path", getattr(self._capture, "name", self._capture))
        return CaptureError(error.strerror or str(error), path=str(path) or repr(""))

    def _of(self, reader: Reader) -> Iterator[Batch]:
        from skep.capture.stream import Stream

        stream = Stream(reader)
        layout = stream.layout
        swapped = stream.raw and layout.byteorder != _host()
        foreign = reader.byteorder != _host()
        scans: dict[int, ScanCode | None] = {}

        def code_for(linktype: int) -> ScanCode | None:
            if linktype not in scans:
                scans[linktype] = native(
                    self._owner.program(linktype, reader.snaplen, foreign), swapped=swapped
                )[0]
            return scans[linktype]

        first = code_for(layout.linktype)
        if first is None:
            yield from self._interpreted(reader)
            return
        from skep.tap.layout import Status
        from skep.tap.streams import BufferScan

        scan = BufferScan(first, layout, mode=Mode.INDEX)
        plain_file = stream.raw and reader.compression is None
        offset = 0
        for batch in stream:
            kept = len(scan.tail)
            code = first if batch.linktype == layout.linktype else code_for(batch.linktype)
            start = stream.offset - kept
            out = scan.feed(batch.records, code)
            offset = start + len(scan.data) - len(scan.tail)
            self.seen = scan.seen
            if out:
                where = start if plain_file else None
                yield Batch(Table(out), scan.data, where, layout.units, batch.linktype)
            if scan.status == Status.BAD:
                break
        if scan.tail:
            error = stream.error(scan.tail[: layout.record_header], len(scan.tail), offset)
            if error is not None:
                raise error

    def _interpreted(self, reader: Reader) -> Iterator[Batch]:
        """Without native code: one packet a batch."""
        from struct import pack

        from skep.vm import classic

        programs: dict[int, tuple[ClassicInsn, ...]] = {}
        for index, packet in enumerate(reader):
            self.seen = index + 1
            insns = programs.get(packet.linktype)
            if insns is None:
                insns = programs[packet.linktype] = self._owner.program(
                    packet.linktype, reader.snaplen, reader.byteorder != _host()
                )
            if classic.run(insns, packet.data, packet.wirelen):
                sec, nsec = divmod(packet.time_ns, 1_000_000_000)
                entry = pack("=QQIIII", index, 0, len(packet.data), packet.wirelen, sec, nsec)
                yield Batch(Table(entry), packet.data, None, 1_000_000_000, packet.linktype)

    def count(self) -> int:
        """How many packets match; the fastest way to know."""
        import os

        if not isinstance(self._capture, (str, os.PathLike)):
            return sum(len(batch.table) for batch in self.batches())
        from skep.tap.input import Input

        try:
            with Input(os.fspath(self._capture), self._owner.recipe) as source:
                source.run(threads=min(len(os.sched_getaffinity(0)), 8))
                self.seen = source.seen
                return source.matched
        except OSError as error:
            raise self._unreadable(error) from error


class Filter:
    """A tcpdump expression, compiled.

        web = skep.Filter("tcp port 80")
        web.matches(frame)                      # one packet
        for match in web.run("trace.pcap"):     # a capture, lazily
            print(match.number, match.wirelen, bytes(match.packet[:14]))

    Args:
        expression: pcap-filter(7)'s language; "" matches everything.
        linktype: DLT number or name of the packets `matches` gets; Ethernet if None. Captures are
            filtered by their own link type unless one is given here.
        snaplen: what the program returns for a match, bytes.
        optimise, scoped_tunnels, ipv6_transport: see `skep.filter.compile`.

    Raises:
        FilterSyntaxError: the expression is refused.

    Native code is made (or taken from the cache) when first needed. Without llvmlite and with nothing cached
    everything works in the interpreter, slowly.
    """

    def __init__(
        self,
        expression: str = "",
        *,
        linktype: int | str | None = None,
        snaplen: int = MAXIMUM_SNAPLEN,
        optimise: bool = True,
        scoped_tunnels: bool = False,
        ipv6_transport: bool = False,
    ) -> None:
        if not isinstance(expression, str):
            raise TypeError(f"an expression is a str, not {type(expression).__name__}")
        snaplen = integer("a snapshot length", snaplen)
        number = _number(linktype)
        self.recipe = Recipe(
            expression,
            optimise=optimise,
            linktype=number,
            scoped_tunnels=scoped_tunnels,
            ipv6_transport=ipv6_transport,
        )
        self.expression = expression
        self.linktype = EN10MB if number is None else number
        self.snaplen = snaplen
        #: the classic program
        self.cbpf: tuple[ClassicInsn, ...] = self.recipe.compile(self.linktype, snaplen)
        self._code: ScanCode | None = None
        self._tried = False

    def __getstate__(self) -> dict[str, Any]:
        """Without the machine code, which another process makes (or finds in the cache) itself."""
        return self.__dict__ | {"_code": None, "_tried": False}

    def program(self, linktype: int, snaplen: int, swapped: bool) -> tuple[ClassicInsn, ...]:
        """The classic program for a capture file of ``linktype`` and ``snaplen``."""
        return self.recipe.compile(linktype, snaplen, savefile=True, swapped=swapped)

    @property
    def ebpf(self) -> tuple[Insn, ...]:
        """The program translated to eBPF, as a socket filter."""
        from skep.filter.ebpf import translate

        return tuple(translate(self.cbpf, form="skb"))

    def keep(self, packet: bytes | bytearray | memoryview, wirelen: int | None = None) -> int:
        """The filter's return value: how many bytes of ``packet`` to keep, 0 for no match.

        Raises:
            SkepError: the filter asks for metadata that only the kernel has (`inbound`, `ifindex`).
            TypeError: ``packet`` is no buffer. ValueError: ``wirelen`` is no 32-bit number.
        """
        if not self._tried:
            if asks_the_kernel(self.cbpf):
                raise SkepError(
                    f"{self.expression!r} asks what the kernel alone knows of a packet (inbound, ifindex): "
                    "attach() and live captures can tell, the packet's bytes cannot"
                )
            self._tried = True
            self._code, _, _ = native(self.cbpf)
        if isinstance(packet, bytes):
            data = packet
        else:
            try:
                data = bytes(memoryview(packet))
            except TypeError:
                raise TypeError(
                    "a packet is a buffer (bytes, memoryview, a NumPy array, `.data` of a captured one), "
                    f"not {type(packet).__name__}"
                ) from None
        length = len(data) if wirelen is None else integer("wirelen", wirelen)
        if not 0 <= length < 1 << 32:
            raise ValueError(f"wirelen {length}: a length in bytes, 0 to 2**32 - 1")
        if self._code is not None:
            return self._code.match(data, length)
        from skep.vm import classic

        return classic.run(self.cbpf, data, length)

    def matches(self, packet: bytes | bytearray | memoryview, wirelen: int | None = None) -> bool:
        """Whether a packet (bytes from its link-level header on) matches.

        ``wirelen`` is its length on the wire where more was sent than captured.
        """
        return self.keep(packet, wirelen) != 0

    def run(self, capture: str | os.PathLike[str] | BinaryFile | Reader) -> Run:
        """Filter a capture: a path, a binary file object, or a `skep.capture.Reader`, of which what has not
        been read is filtered.

        Raises:
            TypeError: it is none of these. A file that cannot be read is found out by the first packet asked
                for (`CaptureError` with its path).
        """
        from os import PathLike

        from skep.capture import Reader

        if not isinstance(capture, (str, PathLike, Reader)) and not hasattr(capture, "read"):
            raise TypeError(
                "a capture is a path, a binary file object (io.BytesIO for bytes at hand) or a "
                f"skep.capture.Reader, not {type(capture).__name__}; matches() takes single packets"
            )
        return Run(self, capture)

    def attach(self, sock: socket.socket) -> str:
        """Have the kernel filter what ``sock`` receives; "classic" or "ebpf", the form attached.

        What the socket has queued is thrown away: it was not filtered. On packet sockets the expression is
        compiled as for a live capture, where VLAN tags are not in the packet.

        Raises:
            KernelError: the kernel refuses.
        """
        import socket as sockets

        from skep.tap.attach import attach

        _a_socket(sock)
        live = sock.family == sockets.AF_PACKET
        return attach(sock, self.recipe.compile(self.linktype, self.snaplen, live=live))

    def detach(self, sock: socket.socket) -> None:
        """Take the filter off a socket, whichever `attach` put there: from now on it receives everything.

        Raises:
            KernelError: there is none (ENOENT), or it is locked (`PermissionDenied`).
        """
        from skep.tap.attach import detach

        _a_socket(sock)
        detach(sock)

    def explain(self) -> str:
        """The listing with each instruction's meaning beside it."""
        from skep.filter.listing import explained

        return "\n".join(explained(self.cbpf, self.linktype))

    def __repr__(self) -> str:
        from skep.capture import linktypes

        return (
            f"Filter({self.expression!r}, linktype={linktypes.name(self.linktype)!r}, {len(self.cbpf)} insns)"
        )


def _a_socket(sock: object) -> None:
    import socket as sockets

    if not isinstance(sock, sockets.socket):
        raise TypeError(f"a filter is attached to a socket.socket, not {type(sock).__name__}")


def integer(what: str, value: int) -> int:
    """A number that a caller gave, NumPy's among them."""
    from operator import index

    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{what} is an int, not {type(value).__name__}") from None


def _number(linktype: int | str | None) -> int | None:
    from skep.capture import linktypes

    if linktype is None:
        return None
    if not isinstance(linktype, str):
        # A capture file's number (raw IP: 101) is taken, too: none of them is another's DLT.
        return linktypes.from_file(integer("a link type without a name", linktype))
    from skep.errors import SkepError

    number = linktypes.by_name(linktype)
    if number is None:
        raise SkepError(f"link type {linktype!r} is not known (skep filter -L lists them)")
    return number


def _host() -> str:
    import sys

    return sys.byteorder


__all__ = ["TABLE", "Batch", "Filter", "Match", "Run", "Table"]
