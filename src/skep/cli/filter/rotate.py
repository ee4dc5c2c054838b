"""-C, -G and -W: output in several files, named as tcpdump names them."""

from __future__ import annotations

import time
from collections.abc import Callable

from skep.capture import PcapWriter
from skep.capture.packet import Packet
from skep.cli.filter.options import Arguments, Usage
from skep.tap.prepare import Recipe

MEGABYTE = 1_000_000
FILE_HEADER, RECORD_HEADER = 24, 16  # bytes
_DESTS = ("rotate_size", "rotate_seconds", "rotate_files")


class Finished(Exception):
    """-W files of -G seconds are full: the capture ends here."""


def asked(args: Arguments) -> bool:
    """Whether the command line asks for more than one output file."""
    return any(args.number(dest, 0) for dest in _DESTS)


class Rotating:
    """A pcap writer that goes on in another file when one is large or old enough.

    ``path`` is the first name; with ``seconds`` it is put through strftime. A new file is begun before the
    packet that finds the present one larger than ``size`` bytes, or older than ``seconds``. With ``files``,
    names carry a number of as many digits as the last one needs; after the last comes the first again (by
    size), or `Finished` (by time alone).
    """

    def __init__(
        self, path: str, opener: Callable[[str], PcapWriter], *, size: int, seconds: int, files: int
    ) -> None:
        self._path = path
        self._open = opener
        self._size, self._seconds, self._files = size, seconds, files
        # Beside -G, tcpdump numbers files only when they were cut by size; and one file alone has no number.
        self._digits = len(str(files - 1)) if files > 1 and size else 0
        self._number = 0
        self._turns = 0
        self._started = time.time()
        self._writer = opener(self._name())
        self._written = FILE_HEADER

    @classmethod
    def of(cls, args: Arguments, path: str, opener: Callable[[str], PcapWriter]) -> Rotating:
        """As -C, -G and -W say.

        Raises:
            Usage: -W alone, or output that cannot be rotated.
        """
        size, seconds, files = (args.number(dest, 0) for dest in _DESTS)
        if files and not (size or seconds):
            raise Usage(
                "-W bounds the number of files that -C (size) or -G (seconds) makes: give one of them"
            )
        if path == "-":
            raise Usage("standard output is one file: -C, -G and -W need -w FILE")
        if args.flag("pcapng"):
            raise Usage("-C, -G and -W write pcap files: leave out --pcapng")
        return cls(path, opener, size=size * MEGABYTE, seconds=seconds, files=files)

    def _name(self) -> str:
        name = self._path
        if self._seconds:
            name = time.strftime(name, time.localtime(self._started)) or name
        if self._number == 0 and not self._digits:
            return name
        return f"{name}{self._number:0{self._digits}}"

    def write(self, packet: Packet) -> None:
        """Write a packet, into the next file if this one is done.

        Raises:
            Finished: there are to be no more files.
        """
        if self._seconds:
            now = time.time()
            if now - self._started >= self._seconds:
                self._started = now
                self._turns += 1
                if self._files and not self._size and self._turns >= self._files:
                    raise Finished
                self._number = 0
                self._next()
        if self._size and self._written > self._size:
            self._number += 1
            if self._files and self._number >= self._files:
                self._number = 0
            self._next()
        self._writer.write(packet)
        self._written += RECORD_HEADER + len(packet.data)

    def _next(self) -> None:
        self._writer.close()
        self._writer = self._open(self._name())
        self._written = FILE_HEADER

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def offline(args: Arguments, paths: list[str], request: Recipe) -> int:
    """`skep filter -r IN… -w OUT -C N`: matches in files of a size."""
    import sys

    from skep.cli.filter.offline import announce, not_an_input, printer, progress_bar, told
    from skep.cli.filter.request import nanoseconds
    from skep.errors import SkepError
    from skep.tap.input import Input

    started = time.monotonic()
    group = args.groups[0]
    assert group.write is not None
    precision = 9 if nanoseconds(args) else 6
    writer: Rotating | None = None
    link = -1
    status = seen = matched = 0
    shown, each = printer(args), bool(args.flag("unbuffered"))
    try:
        for path in paths:
            with Input(path, request) as source:
                announce(source)
                plain = source.prepared.plain
                if writer is None:
                    not_an_input(group.write, paths)
                    link = plain.linktype

                    def opener(
                        name: str, link: int = link, snaplen: int = plain.snaplen, fcs: int = plain.fcs
                    ) -> PcapWriter:
                        not_an_input(name, paths)
                        return PcapWriter(name, linktype=link, snaplen=snaplen, precision=precision, fcs=fcs)

                    writer = Rotating.of(args, group.write, opener)
                bar = None if shown is not None else progress_bar(args, source)
                if bar is not None:
                    source.watch(bar.at)
                try:
                    for packet in source.packets():
                        seen += 1
                        if source.judge(packet):
                            if packet.linktype != link:
                                raise SkepError(f"{path}: its link type does not fit into {group.write}")
                            matched += 1
                            writer.write(packet)
                            if each:
                                writer.flush()
                            if shown is not None:
                                shown.packet(packet.data, packet.wirelen, packet.linktype, packet.time_ns)
                            if matched == group.limit:
                                break
                except SkepError as error:
                    print(f"skep filter: {error}", file=sys.stderr)
                    status = 1
                finally:
                    if bar is not None:
                        bar.close()
            if matched == group.limit:
                break
    except Finished:
        pass
    finally:
        if writer is not None:
            writer.close()
        told(args, seen, matched, time.monotonic() - started)
    return status


def check(args: Arguments) -> None:
    """Refuse -C, -G and -W where nothing is written.

    Raises:
        Usage: there is no -w.
    """
    if asked(args) and all(group.write is None for group in args.groups):
        raise Usage("-C, -G and -W rotate what -w writes: give -w FILE")
