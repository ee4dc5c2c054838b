"""A packet's bytes as tcpdump -x, -X and -A print them below its line."""

from __future__ import annotations

_GRAPH = bytes(byte if 33 <= byte < 127 else 46 for byte in range(256)).decode("ascii")
_PLAIN = {byte: _GRAPH[byte] for byte in range(256)} | {9: "\t", 10: "\n", 32: " "}


def hexadecimal(data: bytes, *, text: bool = False) -> str:
    """Lines of 16 bytes, each with its offset; with ``text`` also as characters. Starts with a line feed."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        pairs = row.hex(" ", -2)  # groups of two bytes, counted from the left
        if text:
            shown = "".join(map(_GRAPH.__getitem__, row))
            lines.append(f"\n\t0x{at:04x}:  {pairs:<39}  {shown}")
        else:
            lines.append(f"\n\t0x{at:04x}:  {pairs}")
    return "".join(lines)


def characters(data: bytes) -> str:
    """The bytes as text, unprintable ones as dots. Starts with a line feed.

    As in tcpdump a carriage return is left out before a line feed, and as one of the last two bytes.
    """
    text = data[:-2].replace(b"\r\n", b"\n") + data[-2:].replace(b"\r", b"")
    if data[-3:-1] == b"\r\n":  # the pair lies across the cut
        text = data[:-3].replace(b"\r\n", b"\n") + data[-2:].replace(b"\r", b"")
    return "\n" + "".join(map(_PLAIN.__getitem__, text))
