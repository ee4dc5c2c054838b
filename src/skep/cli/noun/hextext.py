"""Bytes as bpftool prints them."""

from __future__ import annotations


def json_bytes(data: bytes | bytearray) -> list[str]:
    """``["0x01", "0xff"]``"""
    return [f"0x{byte:02x}" for byte in data]


def plain_bytes(data: bytes | bytearray, separator: str = " ") -> str:
    """16 bytes a line, a wider gap in the middle."""
    out: list[str] = []
    for i, byte in enumerate(data):
        gap = "" if not i else "\n" if not i % 16 else "  " if not i % 8 else separator
        out.append(f"{gap}{byte:02x}")
    return "".join(out)


def table(data: bytes | bytearray) -> str:
    """Rows of offset, hex digits and letters, as `prog run` shows what a program left."""
    rows: list[str] = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        cells = "".join(
            f"{row[i]:02x}{' ' if i % 2 else ''}" if i < len(row) else "   " if i % 2 else "  "
            for i in range(16)
        )
        letters = "".join(
            f"{chr(byte) if 32 <= byte <= 126 else '.'}{' ' if i == 7 else ''}" for i, byte in enumerate(row)
        )
        rows.append(f"{start:07x}\t{cells}| {letters}\n")
    return "".join(rows)
