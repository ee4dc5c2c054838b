"""One capture file through one filter, by the fastest way that its form allows.

A plain pcap file goes through the native loop (`skep.tap.scan`). Everything else (pcapng, compressed,
pipes, odd pcap variants, no native code) is read by `skep.capture` packet by packet, and so is whatever a
scan could not finish: that way damage is judged, and told, in one place.
"""

from __future__ import annotations

import os
import stat
import sys

from skep.tap.layout import Mode
from skep.tap.plain import FILE_HEADER, Plain
from skep.tap.prepare import Ahead, Prepared, Recipe, native, prepare, prepare_plain, recall

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from skep.capture import Block, Packet, Reader, Stream
    from skep.errors import SkepError
    from skep.tap.native import ScanCode
    from skep.tap.scan import Sink

_GATHER = 1 << 18  # bytes of records handed to a sink at a time


class Input:
    """An opened capture; a context manager.

    ``path`` as errors name it, ``prepared`` the filter for its (first) link type, ``size`` in bytes or
    None where unknown. After `run`: ``seen`` and ``matched`` packets, also when it raised.

    Raises (constructor): `CaptureError`, `FilterSyntaxError`, `OSError`.
    """

    def __init__(self, origin: str, recipe: Recipe) -> None:
        self.recipe = recipe
        self.reader: Reader | None = None
        self.seen = 0
        self.matched = 0
        self.size: int | None = None
        self.fast = False
        self.path = "<stdin>" if origin == "-" else origin
        self._judges: dict[int, Judge] = {}
        self._codes: dict[int, ScanCode] = {}
        self.fd = 0 if origin == "-" else os.open(origin, os.O_RDONLY | os.O_CLOEXEC)
        self._owned = origin != "-"
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        info = os.fstat(self.fd)
        regular = stat.S_ISREG(info.st_mode) and (self._owned or os.lseek(self.fd, 0, os.SEEK_CUR) == 0)
        if stat.S_ISREG(info.st_mode):
            self.size = info.st_size
        elif stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(21, "Is a directory", self.path)
        header = b""
        if regular:
            header = os.pread(self.fd, FILE_HEADER, 0)
            known = recall(self.recipe, header)
            if known is not None:
                self.prepared, self.fast = known, True
                return
            with Ahead() as early:
                reader = self._reader()
                layout = reader.layout
                if layout is not None and layout.plain and reader.compression is None:
                    self.prepared = prepare(self.recipe, layout, header, early)
                    self.fast = self.prepared.code is not None
                    return
        reader = self._reader()
        plain = framed(reader.linktype, reader.snaplen, reader)
        swapped = reader.byteorder != sys.byteorder
        form = b"framed" + bytes((swapped,)) + plain.pack()
        known = recall(self.recipe, form)
        if known is not None:
            self.prepared = known
            return
        with Ahead() as early:
            self.prepared = prepare_plain(self.recipe, plain, form, early, swapped=swapped)

    def _reader(self) -> Reader:
        from skep import capture

        if self.reader is None:
            self.reader = capture.open(self.fd, name=self.path)
        return self.reader

    def run(
        self,
        *,
        mode: int = Mode.COUNT,
        sink: Sink | None = None,
        nano: bool = False,
        limit: int | None = None,
        threads: int = 1,
        mapped: bool = False,
        eager: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Judge every packet; ``sink`` gets those that match as pcap records in host byte order.

        The records' times have ``nano`` or microseconds. ``eager`` hands over each record at once.

        Raises:
            CaptureError: at damage, after everything before it was counted and handed over; or when
                records of several link types meet a sink.
        """
        if not self.fast:
            if progress is not None:
                self.watch(progress)
            if self.prepared.code is not None:
                self._stream(mode, sink, nano, limit)
            else:
                self._slow(self._packets(None), mode, sink, nano, limit, eager)
            return
        from skep.tap.scan import FileScan

        assert self.prepared.code is not None
        plain = self.prepared.plain
        # The loop only ever divides: microseconds that must become nanoseconds take the other way.
        if mode == Mode.EMIT and nano and plain.units == 10**6:
            self._slow(self._packets(FILE_HEADER), mode, sink, nano, limit, eager)
            return
        scan = FileScan(
            self.prepared.code,
            self.fd,
            plain,
            mode=mode,
            sink=sink,
            divisor=1 if nano or plain.units == 10**6 else 1000,
            limit=limit,
            threads=threads,
            mapped=mapped,
            progress=progress,
        )
        try:
            scan.run()
        finally:
            self.seen, self.matched = scan.seen, scan.matched
        if not scan.finished:
            left = None if limit is None else limit - scan.matched
            self._slow(self._packets(scan.end), mode, sink, nano, left, eager)

    @property
    def blocks(self) -> bool:
        """Whether it is pcapng: its times can be later than a pcap record's, its link types several."""
        return not self.fast and self._reader().layout is None

    def matches(self, limit: int | None = None) -> Iterator[Packet]:
        """The first ``limit`` packets that match, one by one, with all that is known of each."""
        if limit is not None and limit <= 0:
            return
        for packet in self.packets():
            self.seen += 1
            if self.judge(packet):
                self.matched += 1
                yield packet
                if self.matched == limit:
                    return

    def watch(self, progress: Callable[[int], object]) -> None:
        """Tell ``progress`` how many bytes of the file have been read, whatever becomes of them here."""
        source = self._reader().source
        plain, fd = source.read, self.fd

        def read() -> bytes:
            data = plain()
            progress(os.lseek(fd, 0, os.SEEK_CUR))
            return data

        source.read = read

    def items(self) -> Iterable[Packet | Block]:
        """Every packet and, of a pcapng file, every other block, for a copy that keeps them all."""
        return self._reader().items()

    def packets(self) -> Iterable[Packet]:
        """Every packet, unjudged."""
        return self._reader()

    def _stream(self, mode: int, sink: Sink | None, nano: bool, limit: int | None) -> None:
        """Everything that is not a plain file, in pcap framing."""
        from skep.capture.stream import Stream
        from skep.tap.layout import Status
        from skep.tap.streams import BufferScan

        stream = Stream(self._reader(), precision=9 if nano else None)
        layout = stream.layout
        code = self.prepared.code
        if stream.raw and layout.byteorder != sys.byteorder:
            code = native(self.prepared.classic(), swapped=True)[0]
        assert code is not None
        if limit is not None and limit <= 0:
            return
        divisor = 1 if nano or layout.units == 10**6 else 1000
        if stream.raw and self._reader().compression is None:
            self._pipe(code, stream, mode, sink, divisor, limit)
            return
        scan = BufferScan(code, layout, mode=mode, divisor=divisor, limit=limit)
        offset = 0
        try:
            for batch in stream:
                foreign = batch.linktype != layout.linktype
                out = scan.feed(batch.records, self._code_for(batch.linktype) if foreign else None)
                offset = stream.offset + len(batch.records) - len(scan.tail)
                if sink is not None and out:
                    if foreign:
                        raise self._mixed()
                    sink(memoryview(out))
                if scan.status in (Status.BAD, Status.LIMIT):
                    break
            if scan.tail and scan.status != Status.LIMIT:
                error = stream.error(scan.tail[: layout.record_header], len(scan.tail), offset)
                if error is not None:
                    raise error
        finally:
            self.seen, self.matched = scan.seen, scan.matched

    def _packets(self, offset: int | None) -> Iterable[Packet]:
        """The capture's packets from the record at ``offset`` of a pcap file; None: from where it stands."""
        reader = self._reader()
        if offset is None or reader.layout is None:
            return reader
        from skep.capture.pcap import PcapRecords

        os.lseek(self.fd, offset, os.SEEK_SET)
        return PcapRecords(reader.layout, reader.source, b"", offset).packets()

    def _slow(
        self,
        packets: Iterable[Packet],
        mode: int,
        sink: Sink | None,
        nano: bool,
        limit: int | None,
        eager: bool,
    ) -> None:
        gathered = bytearray()
        emit = mode == Mode.EMIT and sink is not None
        linktype = self.prepared.plain.linktype
        try:
            if limit is not None and limit <= 0:
                return
            for packet in packets:
                self.seen += 1
                if not self.judge(packet):
                    continue
                self.matched += 1
                if emit:
                    if packet.linktype != linktype:
                        raise self._mixed()
                    gathered += record(packet, nano)
                    if eager or len(gathered) >= _GATHER:
                        self._hand(sink, gathered)
                if limit is not None:
                    limit -= 1
                    if not limit:
                        break
        finally:
            self._hand(sink, gathered)

    def _pipe(
        self, code: ScanCode, stream: Stream, mode: int, sink: Sink | None, divisor: int, limit: int | None
    ) -> None:
        """A plain pcap file from something that cannot be mapped."""
        from skep.tap.layout import Status
        from skep.tap.streams import PipeScan

        # The reader may have read ahead; what it has is the stream's first batch.
        first = next(iter(stream), None)
        start = first.records if first is not None else b""
        layout = stream.layout
        scan = PipeScan(code, layout, self.fd, start, stream.offset, mode=mode, divisor=divisor, limit=limit)
        try:
            while scan.status not in (Status.BAD, Status.LIMIT):
                out = scan.step()
                if out is None:
                    break
                if sink is not None and out:
                    sink(memoryview(out))
            if scan.tail:
                error = stream.error(scan.tail[: layout.record_header], len(scan.tail), scan.offset)
                if error is not None:
                    raise error
        finally:
            self.seen, self.matched = scan.seen, scan.matched

    def _mixed(self) -> SkepError:
        from skep.errors import CaptureError

        return CaptureError(
            "packets of several link types do not fit into one pcap file (--pcapng can hold them)",
            path=self.path,
        )

    def _code_for(self, linktype: int) -> ScanCode:
        """Native code for a link type other than the first."""
        known = self._codes.get(linktype)
        if known is None:
            other = self._prepare_other(linktype)
            if other.code is None:
                from skep.errors import SkepError

                raise SkepError(other.missing)
            known = self._codes[linktype] = other.code
        return known

    @staticmethod
    def _hand(sink: Sink | None, gathered: bytearray) -> None:
        if sink is not None and gathered:
            data = bytes(gathered)
            gathered.clear()
            sink(memoryview(data))

    def judge(self, packet: Packet) -> int:
        """The filter's return value for a packet of this input."""
        judge = self._judges.get(packet.linktype)
        if judge is None:
            judge = self._judges[packet.linktype] = self._judge_for(packet.linktype)
        return judge(packet.data, packet.wirelen)

    def _judge_for(self, linktype: int) -> Judge:
        plain = self.prepared.plain
        if linktype == plain.linktype:
            return Judge(self.prepared)
        return Judge(self._prepare_other(linktype))

    def _prepare_other(self, linktype: int) -> Prepared:
        plain = framed(linktype, self.prepared.plain.snaplen, None)
        return prepare_plain(self.recipe, plain, swapped=self._reader().byteorder != sys.byteorder)

    def close(self) -> None:
        if self._owned:
            self._owned = False
            os.close(self.fd)

    def __enter__(self) -> Input:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Judge:
    """A filter's verdict on one packet at a time: native code, or the interpreter."""

    __slots__ = ("_insns", "_match")

    def __init__(self, prepared: Prepared) -> None:
        self._match = prepared.code.match if prepared.code is not None else None
        self._insns = prepared.classic() if self._match is None else []

    def __call__(self, packet: bytes, wirelen: int) -> int:
        if self._match is not None:
            return self._match(packet, wirelen)
        from skep.vm import classic

        return classic.run(self._insns, packet, wirelen)


def framed(linktype: int, snaplen: int, reader: Reader | None) -> Plain:
    """Records that skep itself frames, in host byte order."""
    from skep.capture import linktypes

    fcs = reader.layout.fcs if reader is not None and reader.layout is not None else 0
    return Plain(
        big_endian=sys.byteorder == "big",
        units=10**6,
        snaplen=snaplen,
        record_limit=linktypes.record_limit(linktype),
        linktype=linktype,
        link=linktypes.to_file(linktype),
        fcs=fcs,
    )


def record(packet: Packet, nano: bool) -> bytes:
    """A packet as a pcap record in host byte order. Finer times lose their last digits."""
    sec, fraction = divmod(packet.time_ns, 1_000_000_000)
    if packet.carry:
        sec, fraction = sec - packet.carry, fraction + packet.carry * 1_000_000_000
    if not nano:
        fraction //= 1000
    order = sys.byteorder
    return b"".join(
        (
            (sec & 0xFFFFFFFF).to_bytes(4, order),
            (fraction & 0xFFFFFFFF).to_bytes(4, order),
            len(packet.data).to_bytes(4, order),
            packet.wirelen.to_bytes(4, order),
            packet.data,
        )
    )
