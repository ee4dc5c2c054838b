"""Printing matches, a line each."""

from __future__ import annotations

import sys
import time

from skep.cli.filter.options import Arguments
from skep.tap.summary import summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_LONGEST = 262144  # bytes of a packet


def _interfaces() -> Callable[[int], str]:
    """This network namespace's names of interfaces by index; one that is gone is called by its number."""
    import socket

    known: dict[int, str] = {}

    def name(index: int) -> str:
        if index not in known:
            try:
                known[index] = socket.if_indextoname(index)
            except OSError:
                return f"if{index}"
        return known[index]

    return name


def _dumper(args: Arguments) -> Callable[[bytes, int, int], str] | None:
    """What -x, -X or -A adds to a line; given twice, with the link-level header. -X beats -x beats -A."""
    letter = next((letter for letter in ("X", "x", "A") if args.flag(f"dump_{letter}")), None)
    if letter is None:
        return None
    from skep.tap.headers import link_length
    from skep.tap.hexdump import characters, hexadecimal

    whole = args.flag(f"dump_{letter}") > 1

    def dump(packet: bytes, linktype: int, wirelen: int) -> str:
        data = packet if whole else packet[link_length(packet, linktype, wirelen) :]
        if not data and not whole:
            return ""
        return characters(data) if letter == "A" else hexadecimal(data, text=letter == "X")

    return dump


def _impossible(caplen: int, wirelen: int) -> str:
    """What tcpdump prints in place of a packet whose lengths in bytes cannot be; "" for a usual one."""
    if 0 < caplen <= wirelen <= _LONGEST:
        return ""
    wrong = [
        text
        for holds, text in (
            (caplen == 0, "caplen==0"),
            (wirelen == 0, "len==0"),
            (0 < wirelen < caplen, f"len({wirelen}) < caplen({caplen})"),
            (caplen > _LONGEST, f"caplen({caplen}) > {_LONGEST}"),
            (wirelen > _LONGEST, f"len({wirelen}) > {_LONGEST}"),
        )
        if holds
    ]
    return f"[Invalid header: {', '.join(wrong)}]"


class Printer:
    """Prints records in pcap framing (host byte order) as tcpdump's options for time and links ask."""

    def __init__(self, args: Arguments, *, nano: bool, live: bool = False) -> None:
        self._interface = _interfaces() if live else None
        self._digits = 9 if nano else 6
        self._link_header = bool(args.flag("link_header"))
        self._style = args.flag("times")
        self._dump = _dumper(args)
        self._number = 0 if args.flag("number") else -1
        self._each = bool(args.flag("line_buffered") or args.flag("unbuffered"))
        self._day = (-1, "")
        self._before: int | None = None  # for times since another packet, in units of the last digit

    def show(self, data: memoryview, linktype: int) -> None:
        """Print every record of ``data``."""
        at, order = 0, sys.byteorder
        lines = []
        while at < len(data):
            sec, fraction, caplen, wirelen = (
                int.from_bytes(data[i : i + 4], order) for i in range(at, at + 16, 4)
            )
            at += 16 + caplen
            lines.append(self.line(bytes(data[at - caplen : at]), wirelen, linktype, sec, fraction))
        if lines:
            self._put("\n".join(lines) + "\n")

    def line(self, packet: bytes, wirelen: int, linktype: int, sec: int, fraction: int) -> str:
        """One packet's line, with what -x, -X or -A put below it."""
        wrong = _impossible(len(packet), wirelen)
        if wrong:
            self._number += self._number >= 0
            return f"{self._number:5}  {wrong}" if self._number >= 0 else wrong
        text = self._time(sec, fraction) + summary(
            packet, wirelen, linktype, link_header=self._link_header, interface=self._interface
        )
        if self._number >= 0:
            self._number += 1
            text = f"{self._number:5}  {text}"
        return text if self._dump is None else text + self._dump(packet, linktype, wirelen)

    def packet(self, data: bytes, wirelen: int, linktype: int, time_ns: int) -> None:
        """Print one packet."""
        sec, fraction = divmod(time_ns, 1_000_000_000)
        if self._digits == 6:
            fraction //= 1000
        self._put(self.line(data, wirelen, linktype, sec, fraction) + "\n")

    def _put(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            if self._each:
                sys.stdout.flush()
        except OSError as error:
            error.filename = "standard output"  # a large text is not kept to be refused once more
            raise

    def _since(self, now: int) -> str:
        """Time since the packet before (-ttt) or the first one (-ttttt)."""
        past = now - (now if self._before is None else self._before)
        if self._style == 3 or self._before is None:
            self._before = now
        sec, fraction = divmod(abs(past), 10**self._digits)
        clock = f"{sec // 3600 % 24:02}:{sec // 60 % 60:02}:{sec % 60:02}.{fraction:0{self._digits}}"
        return f"{'-' if past < 0 else ' '}{clock} "

    def _time(self, sec: int, fraction: int) -> str:
        if self._style == 1:
            return ""
        if self._style in (3, 5):
            return self._since(sec * 10**self._digits + fraction)
        if self._style == 2:
            return f"{sec}.{fraction:0{self._digits}} "
        if self._day[0] != sec:
            style = "%Y-%m-%d %H:%M:%S" if self._style >= 4 else "%H:%M:%S"
            self._day = (sec, time.strftime(style, time.localtime(sec)))
        return f"{self._day[1]}.{fraction:0{self._digits}} "
