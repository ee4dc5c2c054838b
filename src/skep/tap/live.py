"""Capturing from an interface: `capture` for one filter; `Tap`, what the command builds on."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from skep.errors import KernelError, SkepError
from skep.isa import ClassicInsn
from skep.tap.filter import Filter, integer
from skep.tap.link import Link, counters
from skep.tap.native import ScanCode
from skep.tap.prepare import Recipe, asks_the_kernel, native
from skep.tap.ring import LivePacket, Ring

MAXIMUM_SNAPLEN = 262144

#: direction -> what `LivePacket.outgoing` may be
_DIRECTIONS = {"in": (False,), "out": (True,), "inout": (False, True)}
_LAST_BLOCK = 0.1  # seconds in which the kernel hands over the ring's last block

#: Calls and the errors by which the kernel says that a program is too much for it, or bpf(2) not allowed.
_NO_ROOM = {
    "SO_ATTACH_FILTER": (errno.ENOMEM,),
    "SO_ATTACH_BPF": (errno.ENOMEM,),
    "BPF_PROG_LOAD": (errno.EPERM, errno.EACCES, errno.E2BIG, errno.ENOMEM, errno.ENOSPC, errno.ENOSYS),
}


class Counts(NamedTuple):
    """``seen``: packets the interface carried meanwhile (None: unknown); ``received``: let through by the
    kernel's filter; ``kept``: delivered; ``dropped``: let through but lost for lack of room."""

    seen: int | None
    received: int
    kept: int
    dropped: int


def link_of(interface: str, wanted: int | None = None) -> int:
    """DLT number of an interface's frames; cooked ones can be had as ``wanted`` (v1 or v2).

    Raises `KernelError` for an interface that does not exist or has no frames as wanted.
    """
    return Link(interface, wanted).linktype


class Tap:
    """One filter on one interface with a ring of its own; a context manager.

    The filter runs in the kernel and says how much of a packet is kept. Where the kernel cannot run it it
    runs here, as native code: for cooked link types, whose header exists only here, and for programs
    that the kernel has no room for (``here`` then says why, it is "" otherwise).

    Args:
        interface: a name, or "any".
        recipe: the expression; "" keeps everything.
        snaplen: bytes kept of a packet.
        size: bytes of ring. promiscuous: also frames for other machines.
        direction: "in", "out" or "inout".

    Raises:
        ValueError: ``direction`` is none of these, or ``snaplen`` is negative.
        KernelError: no such interface, or the kernel refuses.
    """

    def __init__(
        self,
        interface: str,
        recipe: Recipe,
        *,
        snaplen: int = MAXIMUM_SNAPLEN,
        size: int = 8 << 20,
        timeout: int = 50,
        promiscuous: bool = True,
        direction: str = "inout",
    ) -> None:
        if direction not in _DIRECTIONS:
            raise ValueError(f"direction {direction!r}: in, out or inout")
        if snaplen < 0:
            raise ValueError(f"snaplen {snaplen}: bytes kept of a packet are not negative")
        self.link = Link(interface, recipe.linktype)
        self.snaplen = snaplen
        self.kept = 0
        self._directions = _DIRECTIONS[direction]
        self._code: ScanCode | None = None
        self._before = counters(interface)
        self.here = "the header of a cooked link type is made here" if self.link.cooked else ""

        def ring(insns: tuple[ClassicInsn, ...] | None) -> Ring:
            return Ring(
                self.link, insns, snaplen=snaplen, size=size, timeout=timeout, promiscuous=promiscuous
            )

        if not self.here:
            self.insns = recipe.compile(self.link.linktype, snaplen, live=True)
            try:
                self.ring = ring(self.insns)
            except KernelError as error:
                if error.cmd not in _NO_ROOM or error.errno not in _NO_ROOM[error.cmd]:
                    raise
                self.here = str(error)
        if self.here:
            self.insns = recipe.compile(self.link.linktype, snaplen)
            if asks_the_kernel(self.insns):
                raise KernelError(
                    errno.EOPNOTSUPP,
                    "inbound, outbound and ifindex can be asked in the kernel only, which does not run this: "
                    f"{self.here}",
                )
            self._code, _, _ = native(self.insns)
            self.ring = ring(None)

    def fileno(self) -> int:
        """For poll and select."""
        return self.ring.fileno()

    def ready(self) -> Iterator[LivePacket]:
        """The packets that are there now."""
        for packet in self.ring.packets():
            if packet.outgoing not in self._directions:
                continue
            if self.here and not self._judge(packet):
                continue
            self.kept += 1
            yield packet

    def check(self) -> None:
        """Raises `KernelError` when no packets can come any more: the interface is down or gone. Those from
        before are `ready` by then."""
        number = self.ring.trouble()
        if not number:
            return
        time.sleep(_LAST_BLOCK)
        name = self.link.name
        if number != errno.ENETDOWN:
            raise KernelError(number, f"{name}: {os.strerror(number)}")
        there = any(name == known for _, known in socket.if_nameindex())
        raise KernelError(number, f"the interface {name} {'is down' if there else 'disappeared'}")

    def _judge(self, packet: LivePacket) -> int:
        if self._code is not None:
            return self._code.match(packet.data, packet.wirelen)
        from skep.vm import classic

        return classic.run(self.insns, packet.data, packet.wirelen)

    def counts(self) -> Counts:
        """What came and went since the start."""
        received, dropped = self.ring.statistics()
        now = counters(self.link.name)
        seen = None if now is None or self._before is None else now - self._before
        return Counts(seen, received, self.kept, dropped)

    def close(self) -> None:
        self.ring.close()

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Capture:
    """Iterate over it for `LivePacket` values; a context manager. See `capture`."""

    def __init__(self, tap: Tap, seconds: float | None) -> None:
        self._tap = tap
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._counts: Counts | None = None
        self.linktype = tap.link.linktype

    def __iter__(self) -> Iterator[LivePacket]:
        if self._tap.fileno() < 0:
            raise SkepError(f"the capture from {self._tap.link.name} has been closed")
        poll = select.poll()
        poll.register(self._tap.fileno(), select.POLLIN)
        while True:
            yield from self._tap.ready()
            wait: float | None = None
            if self._deadline is not None:
                wait = max(0.0, self._deadline - time.monotonic()) * 1000
                if not wait:
                    yield from self._tap.ready()
                    return
            if any(event & select.POLLERR for _, event in poll.poll(wait)):
                try:
                    self._tap.check()
                except KernelError:
                    yield from self._tap.ready()
                    raise

    def counts(self) -> Counts:
        """What came and went since the start, until `close`."""
        return self._tap.counts() if self._counts is None else self._counts

    def close(self) -> None:
        """End the capture; its counts stay."""
        if self._counts is None:
            self._counts = self._tap.counts()
        self._tap.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def capture(
    interface: str,
    *,
    filter: str | Filter = "",
    snaplen: int | None = None,
    size: int = 8 << 20,
    promiscuous: bool = True,
    direction: str = "inout",
    seconds: float | None = None,
) -> Capture:
    """Capture packets that match ``filter`` (evaluated in the kernel) from an interface.

        with skep.tap.capture("eth0", filter="tcp port 80", snaplen=96) as packets:
            for packet in packets:
                print(packet.time_ns, packet.wirelen, packet.data[:14].hex())

    ``snaplen`` bytes are kept of a packet; by default as many as ``filter`` keeps if it is a `Filter`, else
    262,144. ``size`` is the ring's size in bytes, ``seconds`` ends the iteration after that time (None:
    never).

    Raises:
        TypeError, ValueError: an argument of another type, a negative length, another direction.
        FilterSyntaxError: the expression is refused. PermissionDenied: CAP_NET_RAW is missing.
        KernelError: no such interface, or the kernel refuses; later, the interface goes down.
    """
    if not isinstance(interface, str):
        raise TypeError(f"an interface is called by its name, a str, not {type(interface).__name__}")
    if isinstance(filter, Filter):
        recipe, kept = filter.recipe, min(filter.snaplen & 0xFFFFFFFF, MAXIMUM_SNAPLEN)
    elif isinstance(filter, str):
        recipe, kept = Recipe(filter), MAXIMUM_SNAPLEN
    else:
        raise TypeError(f"a filter is an expression or a skep.Filter, not {type(filter).__name__}")
    limit = None if seconds is None else float(seconds)
    tap = Tap(
        interface,
        recipe,
        snaplen=kept if snaplen is None else integer("a snapshot length", snaplen),
        size=integer("a ring's size", size),
        promiscuous=promiscuous,
        direction=direction,
    )
    return Capture(tap, limit)


def wait(taps: Sequence[Tap], milliseconds: float | None) -> list[Tap]:
    """Those of ``taps`` that have packets, waiting for the first if need be (None: for ever)."""
    poll = select.poll()
    by_fd = {tap.fileno(): tap for tap in taps}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poll.poll(milliseconds)]
