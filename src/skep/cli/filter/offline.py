"""`skep filter -r`: captures filtered, counted, copied or summarised."""

from __future__ import annotations

import os
import sys

from skep.cli.filter.ending import Endable
from skep.cli.filter.options import Arguments, Usage
from skep.cli.filter.request import nanoseconds, recipe
from skep.errors import SkepError
from skep.tap.input import Input
from skep.tap.layout import Mode

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from skep.cli.filter.progress import Bar
    from skep.cli.filter.summary import Printer
    from skep.tap.output import PcapOutput
    from skep.tap.prepare import Recipe

#: bytes of input from which a progress bar is worth its import: mapped, and read in the ordinary way
_LONG, _LONG_STREAM = 256 << 20, 8 << 20
_THREADS_FROM = 16 << 20  # a shorter file is done before a second thread has started


def run(args: Arguments) -> int:
    """Filter the captures that -r and -V name, in order."""
    with Endable():
        return _run(args, _paths(args))


def _run(args: Arguments, paths: list[str]) -> int:
    request = recipe(args)
    write = args.groups[0].write
    if any(map(args.numbers.__contains__, ("rotate_size", "rotate_seconds", "rotate_files"))):
        from skep.cli.filter.rotate import check, offline

        check(args)
        return offline(args, paths, request)
    if args.flag("pcapng"):
        if write is None:
            raise Usage("--pcapng needs -w, the file to write")
        from skep.cli.filter.keep import run as keep

        return keep(args, paths, request, write)
    return _Job(args, paths, request).run()


def _paths(args: Arguments) -> list[str]:
    paths, lists = list(args.list("inputs")), args.list("input_lists")
    others = [*lists, args.value("expression_file")]
    _read_once([*paths, *others])
    for name in lists:
        if name == "-":
            paths += [line for line in sys.stdin.read().splitlines() if line]
        else:
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                paths += [line for line in file.read().splitlines() if line]
    if not paths:
        raise Usage("-V names a file without a capture in it")
    _read_once([*paths, *others])
    return paths


def _read_once(names: list[str | None]) -> None:
    if names.count("-") > 1:
        raise Usage("standard input can be read once, by one of -r, -V and -F")


class _Job:
    """One run over all inputs: totals, and where matches go."""

    def __init__(self, args: Arguments, paths: list[str], request: Recipe) -> None:
        self.args = args
        self.paths = paths
        self.recipe = request
        self.nano = nanoseconds(args)
        self.write = args.groups[0].write
        self.limit = args.groups[0].limit
        self.output: PcapOutput | None = None
        self.shown: Printer | None = None
        self.link = -1
        self.seen = 0
        self.matched = 0
        self.bytes = 0
        self.noted = self.opened = False

    def run(self) -> int:
        started = _now()
        status = 0
        guard = None
        printer: Callable[[memoryview, int], object] | None = None
        try:
            for path in self.paths:
                with Input(path, self.recipe) as source:
                    self.opened = True
                    if guard is None and source.fast:
                        from skep.tap.guard import Guard

                        guard = Guard()
                    self._announce(source)
                    if printer is None and self._prints():
                        printer = self._printer()
                    try:
                        self._one(source, printer, guard is not None and guard.active)
                    except SkepError as error:
                        # Damage: what came before has been delivered; the next input may be good.
                        sys.stdout.flush()
                        print(f"skep filter: {error}", file=sys.stderr)
                        status = 1
                    finally:
                        self.seen += source.seen
                        self.matched += source.matched
                        self.bytes += source.size or 0
                if self.limit is not None and self.matched >= self.limit:
                    break
        finally:
            if self.output is not None:
                self.output.close()
            if guard is not None:
                guard.close()
            if self.args.flag("count") and self.opened:
                print(f"{self.matched} packet{'' if self.matched == 1 else 's'}")
            if self.args.flag("stats") and self.opened:
                sys.stdout.flush()
                stats(self.seen, self.matched, self.bytes, _now() - started)
        return status

    def _announce(self, source: Input) -> None:
        announce(source)
        if source.prepared.missing and not self.noted:
            self.noted = True
            print(f"skep filter: interpreting, which is slow: {source.prepared.missing}", file=sys.stderr)

    def _one(self, source: Input, printer: Callable[[memoryview, int], object] | None, mapped: bool) -> None:
        args = self.args
        mode, sink = Mode.COUNT, None
        plain = source.prepared.plain
        if self.write is not None:
            sink, mode = self._writer(source), Mode.EMIT
            if printer is not None:
                sink = _both(sink, printer, plain.linktype)
        elif printer is not None and source.blocks:
            show = self._shown().packet
            for packet in source.matches(None if self.limit is None else self.limit - self.matched):
                show(packet.data, packet.wirelen, packet.linktype, packet.time_ns)
            return
        elif printer is not None:
            link = plain.linktype
            sink, mode = (lambda *pieces: [printer(data, link) for data in pieces]), Mode.EMIT
        large = (source.size or 0) >= _THREADS_FROM
        bar = None if printer is not None else progress_bar(args, source)
        try:
            source.run(
                mode=mode,
                sink=sink,
                nano=self.nano,
                limit=None if self.limit is None else self.limit - self.matched,
                threads=args.number("threads", min(len(os.sched_getaffinity(0)), 8)) if large else 1,
                mapped=mapped,
                eager=bool(args.flag("unbuffered") or args.flag("line_buffered")),
                progress=bar.at if bar is not None else None,
            )
        finally:
            if bar is not None:
                bar.close()

    def _prints(self) -> bool:
        return bool(self.args.flag("print")) or (self.write is None and not self.args.flag("count"))

    def _writer(self, source: Input) -> Callable[..., object]:
        plain = source.prepared.plain
        if self.output is None:
            assert self.write is not None
            not_an_input(self.write, self.paths)
            from skep.tap.output import PcapOutput

            self.output = PcapOutput(
                self.write, link=plain.link, snaplen=plain.snaplen, nano=self.nano, fcs=plain.fcs
            )
            self.link = plain.linktype
        elif self.link != plain.linktype:
            raise SkepError(
                f"{source.path}: its link type {source.prepared.title} does not fit into {self.write} beside "
                "the first input's (--pcapng can hold both)"
            )
        return self.output.write

    def _shown(self) -> Printer:
        if self.shown is None:
            from skep.cli.filter.summary import Printer

            self.shown = Printer(self.args, nano=self.nano)
        return self.shown

    def _printer(self) -> Callable[[memoryview, int], object]:
        return self._shown().show


def progress_bar(args: Arguments, source: Input) -> Bar | None:
    """A bar for a long capture when somebody looks."""
    size = source.size or 0
    if size < (_LONG if source.fast else _LONG_STREAM) or args.flag("no_progress") or not sys.stderr.isatty():
        return None
    from skep.cli.filter.progress import Bar

    return Bar(source.path, size)


def announce(source: Input) -> None:
    """tcpdump's line about a capture that was opened."""
    print(
        f"reading from file {source.path if source.path != '<stdin>' else '-'}, "
        f"link-type {source.prepared.title}, snapshot length {source.prepared.plain.snaplen}",
        file=sys.stderr,
    )


def _both(
    write: Callable[..., object], show: Callable[[memoryview, int], object], linktype: int
) -> Callable[..., object]:
    """A sink that writes pieces and prints them (--print)."""

    def sink(*pieces: memoryview) -> None:
        write(*pieces)
        for data in pieces:
            show(memoryview(data), linktype)

    return sink


def printer(args: Arguments) -> Printer | None:
    """What --print asks for, where packets are copied one by one."""
    from skep.cli.filter.summary import Printer

    return Printer(args, nano=nanoseconds(args)) if args.flag("print") else None


def not_an_input(write: str, paths: list[str]) -> None:
    """Refuse to empty a file that is about to be read, or to read what is being written; "-" on either side
    may be a file, too (``< FILE``, ``>> FILE``)."""
    target = _file(write, 1)
    for path in paths:
        if target is not None and _file(path, 0) == target:
            if write == "-":
                raise SkepError(f"standard output is the input {path}: what is written would be read again")
            raise SkepError(f"{write} is an input: writing to it would empty it first")


def _file(path: str, standard: int) -> tuple[int, int] | None:
    """What tells a regular file from all others, None for anything else; "-" is descriptor ``standard``."""
    from stat import S_ISREG

    try:
        info = os.fstat(standard) if path == "-" else os.stat(path)
    except OSError:
        return None
    return (info.st_dev, info.st_ino) if S_ISREG(info.st_mode) else None


def told(args: Arguments, seen: int, matched: int, seconds: float) -> None:
    """What --count and --stats ask for, after packets that were copied one by one."""
    if args.flag("count"):
        print(f"{matched} packet{'' if matched == 1 else 's'}")
    if args.flag("stats"):
        stats(seen, matched, 0, seconds)


def stats(seen: int, matched: int, size: int, seconds: float) -> None:
    """The line of --stats; ``size`` in bytes, 0 where unknown."""
    rate = seen / seconds / 1e6 if seconds else 0.0
    speed = f", {size / seconds / 1e9:.2f} GB/s" if size and seconds else ""
    print(
        f"{seen} packets read, {matched} matched, {seconds * 1e3:.1f} ms, {rate:.2f} M packets/s{speed}",
        file=sys.stderr,
    )


def _now() -> float:
    import time

    return time.monotonic()
