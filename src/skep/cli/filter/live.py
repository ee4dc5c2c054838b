"""`skep filter -i`: live capture with one filter or several, and --send."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

from skep.capture import PcapngWriter, PcapWriter
from skep.capture.packet import Packet
from skep.cli.filter.ending import stop
from skep.cli.filter.options import Arguments, Group, Usage
from skep.cli.filter.request import expression, nanoseconds, recipe, snaplen
from skep.cli.filter.rotate import Finished, Rotating, asked, check
from skep.cli.filter.summary import Printer
from skep.errors import KernelError
from skep.tap.live import Counts, Tap, wait
from skep.tap.prepare import title
from skep.tap.ring import LivePacket

_RING_KIB = 8 << 10
_FLUSH_EVERY = 1.0  # seconds that written packets may wait in our buffer


class _Lane:
    """One filter: its tap, where its packets go, and when it is done."""

    def __init__(self, args: Arguments, interface: str, group: Group, text: str) -> None:
        self.text = text
        self.limit = group.limit
        self.nano = nanoseconds(args)
        length = snaplen(group.snaplen)
        self.tap = Tap(
            interface,
            recipe(args, text, interface=interface),
            snaplen=length,
            size=args.number("buffer", _RING_KIB) << 10,
            timeout=5 if any(map(args.flag, ("unbuffered", "line_buffered", "immediate"))) else 50,
            promiscuous=not args.flag("no_promiscuous"),
            direction=args.value("direction") or "inout",
        )
        self.linktype = self.tap.link.linktype
        if self.tap.here and not self.tap.link.cooked:
            print(f"skep filter: filtering here, not in the kernel: {self.tap.here}", file=sys.stderr)
        self.where = group.write
        self.each = bool(args.flag("unbuffered"))
        self.over = False  # -W files of -G seconds are full
        self._writer: PcapWriter | PcapngWriter | Rotating | None = None
        self._put: Callable[[LivePacket], object] | None = None
        try:
            if group.write is not None and asked(args):
                precision, link = (9 if self.nano else 6), self.linktype

                def opener(name: str) -> PcapWriter:
                    return PcapWriter(name, linktype=link, snaplen=length, precision=precision)

                rotating = self._writer = Rotating.of(args, group.write, opener)
                self._put = lambda packet: rotating.write(self._packet(packet))
            elif group.write is not None and args.flag("pcapng"):
                writer = self._writer = PcapngWriter(group.write)
                number = writer.interface(self.linktype, snaplen=length, name=interface)
                self._put = lambda packet: writer.write(self._packet(packet), interface=number)
            elif group.write is not None:
                precision = 9 if self.nano else 6
                plain = self._writer = PcapWriter(
                    group.write, linktype=self.linktype, snaplen=length, precision=precision
                )
                self._put = lambda packet: plain.write(self._packet(packet))
            if args.flag("print") or (group.write is None and not args.flag("count")):
                self._put = self._printing(Printer(args, nano=self.nano, live=True), self._put)
        except BaseException:
            self.tap.close()
            raise

    @property
    def done(self) -> bool:
        return self.over or (self.limit is not None and self.tap.kept >= self.limit)

    def take(self) -> None:
        """Deliver what is there."""
        if self.done:
            return
        for packet in self.tap.ready():
            try:
                if self._put is not None:
                    self._put(packet)
            except Finished:
                self.over = True
                break
            if self.each:
                self.flush()
            if self.done:
                break

    def _packet(self, packet: LivePacket) -> Packet:
        return Packet(packet.data, packet.wirelen, packet.time_ns, self.linktype)

    def _printing(
        self, printer: Printer, put: Callable[[LivePacket], object] | None
    ) -> Callable[[LivePacket], object]:
        def show(packet: LivePacket) -> None:
            if put is not None:
                put(packet)
            printer.packet(packet.data, packet.wirelen, self.linktype, packet.time_ns)
            sys.stdout.flush()

        return show

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> Counts:
        counts = self.tap.counts()
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self.tap.close()
        return counts


def run(args: Arguments, interface: str) -> int:
    """Capture until -c is reached or Ctrl-C."""
    groups = args.groups
    check(args)
    command = expression(args)
    if len(groups) == 1:
        texts = [command]
    else:
        first, groups = groups[0], groups[1:]
        if command:
            raise Usage("with --filter every expression belongs to one: none may stand alone")
        if first.write or first.limit or first.snaplen:
            raise Usage("-w, -s and -c come after the --filter they belong to")
        texts = [group.expression or "" for group in groups]
    targets = [group.write for group in groups if group.write not in (None, "/dev/null")]
    if len(set(targets)) < len(targets):
        raise Usage("two filters write to the same file")
    lanes: list[_Lane] = []
    try:
        lanes += (_Lane(args, interface, group, text) for group, text in zip(groups, texts, strict=True))
        _end_on_signals()
        link = lanes[0].tap.link
        lengths = ", ".join(str(lane.tap.snaplen) for lane in lanes)
        print(
            f"listening on {interface}, link-type {title(link.linktype)}, snapshot length {lengths} bytes",
            file=sys.stderr,
            flush=True,
        )
        _loop(lanes)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        _finish(args, lanes)
    return 0


def _end_on_signals() -> None:
    from signal import SIGINT, SIGTERM, signal

    signal(SIGTERM, stop)
    signal(SIGINT, stop)  # a shell's `&` has it ignored, and scripts end captures with it


def _loop(lanes: list[_Lane]) -> None:
    flushed = time.monotonic()
    while not all(lane.done for lane in lanes):
        ready = wait([lane.tap for lane in lanes if not lane.done], _FLUSH_EVERY * 1000)
        for lane in lanes:
            if lane.tap in ready:
                lane.take()
                try:
                    lane.tap.check()
                except KernelError:
                    for each in lanes:
                        each.take()
                    raise
        if time.monotonic() - flushed >= _FLUSH_EVERY:
            flushed = time.monotonic()
            for lane in lanes:
                lane.flush()


def _finish(args: Arguments, lanes: list[_Lane]) -> None:
    """Close everything and print the counts, as tcpdump words them."""
    sys.stdout.flush()
    failure: BaseException | None = None
    for lane in lanes:
        try:
            counts = lane.close()
        except BaseException as error:
            failure = failure or error
            continue
        if args.flag("count"):
            print(_packets(counts.kept))
        if len(lanes) > 1:
            print(
                f"{lane.text or 'everything'!r}{f' > {lane.where}' if lane.where else ''}:", file=sys.stderr
            )
        for text in (
            f"{_packets(counts.kept)} captured",
            f"{_packets(counts.received)} received by filter",
            f"{_packets(counts.dropped)} dropped by kernel",
            *([f"{_packets(counts.seen)} seen on the interface"] if counts.seen is not None else []),
        ):
            print(text, file=sys.stderr)
    if failure is not None:
        raise failure


def _packets(count: int) -> str:
    return f"{count} packet{'' if count == 1 else 's'}"


def send(args: Arguments, path: str, interface: str) -> int:
    """Send the frames of a capture that match the expression."""
    from skep.capture import linktypes
    from skep.errors import SkepError
    from skep.tap.input import Input
    from skep.tap.send import Sender

    for name, given in (
        ("-w", args.groups[0].write is not None),
        ("-r", args.list("inputs") or args.list("input_lists")),
        ("--filter", len(args.groups) > 1),
        ("-d", any(map(args.flag, ("listing", "ebpf", "native", "explain")))),
        ("--count", args.flag("count")),
        ("--print", args.flag("print")),
    ):
        if given:
            raise Usage(f"--send sends what matches of its own capture: {name} has no meaning beside it")
    rate = args.value("pps")
    try:
        pps = None if rate is None else float(rate)
    except ValueError:
        pps = 0.0
    if pps is not None and not 0 < pps < 1e9:
        raise Usage(f"--pps takes frames a second, not {rate!r}")
    request = recipe(args)
    repeat = args.number("repeat", 1)
    if repeat > 1 and path == "-":
        raise Usage("standard input can be sent once, not again and again")
    limit = args.groups[0].limit
    started = time.monotonic()
    octets = 0
    with Sender(interface) as sender:

        def frames() -> Iterator[bytes]:
            nonlocal octets
            for _ in range(repeat):
                with Input(path, request) as source:
                    for packet in source.packets():
                        if packet.linktype != sender.link.linktype:
                            raise SkepError(
                                f"{path} holds {linktypes.name(packet.linktype)} frames, {interface} "
                                f"takes {linktypes.name(sender.link.linktype)}"
                            )
                        if limit is not None and sender.sent >= limit:
                            return
                        if source.judge(packet):
                            yield packet.data
                            octets += len(packet.data)  # it was sent

        try:
            sender.send_all(frames(), pps=pps)
        except KeyboardInterrupt:
            print(file=sys.stderr)
        finally:
            seconds = time.monotonic() - started
            print(
                f"{_packets(sender.sent)} sent, {octets} bytes, {seconds:.3f} s, "
                f"{sender.sent / seconds if seconds else 0:.0f} packets/s",
                file=sys.stderr,
            )
    return 0
