"""A tour of `skep.Filter` on a small real capture: `make demo`, or `python examples/demo.py [EXPRESSION]`.

Shows the compiled program in words, what it finds, how fast it is on a longer copy of the capture, and
who talked most. Needs no rights. With `rich` and a terminal it is drawn in colour, else it is plain text.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import skep
from skep import capture
from skep.tap.summary import summary

HERE = Path(__file__).resolve().parent
CAPTURE = HERE / "two-hosts.pcap"
EXPRESSION = "tcp port 80 or tcp port 8080"
LONG = 256 << 20  # bytes of the copy that is timed
TOP = 6


class Page:
    """Where the demo prints: rich on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console: Any = None
        if sys.stdout.isatty():
            try:
                from rich.console import Console
            except ImportError:
                return
            self._console = Console(highlight=False)

    def heading(self, text: str) -> None:
        if self._console:
            self._console.print()
            self._console.rule(f"[bold]{text}", align="left", style="dim")
        else:
            print(f"\n== {text}")

    def listing(self, lines: list[str]) -> None:
        """Instructions, each with its meaning after a semicolon."""
        for line in lines:
            code, mark, words = line.partition("  ; ")
            if self._console:
                from rich.text import Text

                self._console.print(Text.assemble((code.expandtabs(), "cyan"), "  ", words), soft_wrap=True)
            else:
                print(f"{code}{mark}{words}")

    def table(self, columns: list[str], rows: list[list[str]]) -> None:
        """The first column is text, the others are numbers."""
        if self._console:
            from rich.table import Table

            table = Table(box=None, pad_edge=False, header_style="bold")
            for number, column in enumerate(columns):
                table.add_column(column, justify="right" if number else "left")
            for row in rows:
                table.add_row(*row)
            self._console.print(table)
            return
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for row in [columns, *rows]:
            first, *rest = row
            cells = [
                f"{first:<{widths[0]}}",
                *(f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)),
            ]
            print("  ".join(cells).rstrip())

    def say(self, text: str) -> None:
        print(text)


def talks(matches: list[skep.tap.Match]) -> Counter[str]:
    """Wire bytes of each conversation, both directions together."""
    found: Counter[str] = Counter()
    for match in matches:
        source, arrow, rest = summary(bytes(match.packet), match.wirelen, match.linktype).partition(" > ")
        if arrow:
            ends = (source.split(" ")[-1], rest.partition(": ")[0])
            found[" <> ".join(sorted(map(host, ends)))] += match.wirelen
    return found


def host(end: str) -> str:
    """An address without its port: 10.0.0.1.80 and fe80::1.80 have one, 10.0.0.1 and fe80::1 have none."""
    address, dot, port = end.rpartition(".")
    return (
        address
        if dot and port.isdigit() and ("." in address or ":" in address) and address.count(".") != 2
        else end
    )


def long_copy(target: Path) -> int:
    """The example again and again, as one capture of some hundred megabytes; its packets."""
    data = CAPTURE.read_bytes()
    with capture.open(CAPTURE) as reader:
        packets = sum(1 for _ in reader)
    times = LONG // len(data)
    with open(target, "wb") as file:
        file.write(data[:24])
        for _ in range(times):
            file.write(data[24:])
    return packets * times


def command(args: list[str]) -> tuple[float, str]:
    """(seconds, standard output) of the quicker of two runs."""
    best, output = float("inf"), ""
    for _ in range(2):
        start = time.perf_counter()
        done = subprocess.run(args, capture_output=True, text=True)
        best, output = min(best, time.perf_counter() - start), done.stdout.strip()
    return best, output


def speed(page: Page, expression: str) -> None:
    with tempfile.TemporaryDirectory(prefix="skep-demo-") as folder:
        path = Path(folder) / "long.pcap"
        packets = long_copy(path)
        size = path.stat().st_size
        path.chmod(0o644)
        os.chmod(folder, 0o755)
        rows: list[list[str]] = []

        def row(what: str, seconds: float, output: str) -> None:
            rate = [f"{packets / seconds / 1e6:.1f}", f"{size / seconds / 1e9:.1f}"]
            rows.append([what, output.split()[0], f"{seconds * 1e3:.0f}", *rate])

        row(
            "skep filter",
            *command([sys.executable, "-m", "skep", "filter", "-r", str(path), "--count", expression]),
        )
        tcpdump = shutil.which("tcpdump", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if tcpdump:
            seconds, output = command([tcpdump, "-r", str(path), "--count", expression])
            if output:
                row("tcpdump", seconds, output)
        page.say(f"{packets:,} packets, {size / 1e6:.0f} MB, whole processes, the second run of each:")
        page.table(["", "matched", "ms", "M packets/s", "GB/s"], rows)


def main() -> int:
    expression = " ".join(sys.argv[1:]) or EXPRESSION
    page = Page()
    try:
        filter_ = skep.Filter(expression)
        page.heading(f"{expression!r} as classic BPF, {len(filter_.cbpf)} instructions")
        page.listing(filter_.explain().splitlines())

        run = filter_.run(CAPTURE)
        matches = list(run)
        page.heading(f"{CAPTURE.name}: {len(matches)} of {run.seen} packets match; the first of them")
        for match in matches[:TOP]:
            page.say(f"{match.number:5}  {summary(bytes(match.packet), match.wirelen, match.linktype)}")

        total = sum(match.wirelen for match in matches) or 1
        rows = [
            [who, f"{size:,}", f"{100 * size / total:.0f} %"] for who, size in talks(matches).most_common(TOP)
        ]
        if rows:
            page.heading("who said most")
            page.table(["hosts", "bytes", "share"], rows)

        page.heading("speed")
        speed(page, expression)
    except skep.SkepError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
