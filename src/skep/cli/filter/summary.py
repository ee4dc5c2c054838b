"""Printing matches, a line each."""

from __future__ import annotations

import sys
import time

from skep.cli.filter.options import Arguments
from skep.tap.summary import summary


class Printer:
    """Prints records in pcap framing (host byte order) as tcpdump's options for time and links ask."""

    def __init__(self, args: Arguments, *, nano: bool) -> None:
        self._digits = 9 if nano else 6
        self._link_header = bool(args.flag("link_header"))
        self._style = args.flag("times")
        self._number = 0 if args.flag("number") else -1
        self._each = bool(args.flag("line_buffered") or args.flag("unbuffered"))
        self._day = (-1, "")

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
            sys.stdout.write("\n".join(lines) + "\n")
            if self._each:
                sys.stdout.flush()

    def line(self, packet: bytes, wirelen: int, linktype: int, sec: int, fraction: int) -> str:
        """One packet's line."""
        text = self._time(sec, fraction) + summary(packet, wirelen, linktype, link_header=self._link_header)
        if self._number >= 0:
            self._number += 1
            text = f"{self._number:5}  {text}"
        return text

    def _time(self, sec: int, fraction: int) -> str:
        if self._style == 1:
            return ""
        if self._style == 2:
            return f"{sec}.{fraction:0{self._digits}} "
        if self._day[0] != sec:
            style = "%Y-%m-%d %H:%M:%S" if self._style >= 4 else "%H:%M:%S"
            self._day = (sec, time.strftime(style, time.localtime(sec)))
        return f"{self._day[1]}.{fraction:0{self._digits}} "
