"""Addresses as numbers. Shapes were checked by the lexer; values are checked here."""

from __future__ import annotations

import re


def ipv4(text: str) -> tuple[int, int] | None:
    """Value and width in bits of one to four dotted decimal numbers (10.1 -> 0x0a01, 16).

    None if a part is over 255 or not decimal. Leading zeros do not make a part octal.
    """
    parts = text.split(".")
    value = 0
    for part in parts:
        if not (part.isascii() and part.isdigit()):
            return None
        # Converting a long run of digits is quadratic, and only zeros can make one small.
        octet = int(part if len(part) < 20 else part.lstrip("0")[:4] or "0")
        if octet > 255:
            return None
        value = value << 8 | octet
    return value, 8 * len(parts)


def ipv6(text: str) -> int | None:
    """The 128-bit value of an IPv6 address in text (RFC 4291), None if it is none."""
    if "." in text:
        head, _, quad = text.rpartition(":")
        parts = quad.split(".")
        if len(parts) != 4 or any(
            not part.isdigit() or len(part) > 3 or (part[0] == "0" and len(part) > 1) or int(part) > 255
            for part in parts
        ):
            return None
        a, b, c, d = map(int, parts)
        text = f"{head}:{a << 8 | b:x}:{c << 8 | d:x}"
    left, gap, right = text.partition("::")
    before = left.split(":") if left else []
    after = right.split(":") if right else []
    missing = 8 - len(before) - len(after)
    if (missing < 1 if gap else missing != 0) or "::" in right:
        return None
    value = 0
    try:
        for part in (*before, *("0" * missing), *after):
            if not 1 <= len(part) <= 4:
                return None
            value = value << 16 | int(part, 16)
    except ValueError:
        return None
    return value


def mac(text: str) -> bytes:
    """Bytes of a hardware address: groups of one or two hex digits, ':', '-', '.' or nothing between."""
    return bytes(int(group, 16) for group in re.findall("[0-9A-Fa-f]{1,2}", text))


def aton(text: str) -> int | None:
    """inet_aton(3): one to four numbers in C's notations, the last fills what is left."""
    parts = text.split(".")
    if len(parts) > 4:
        return None
    numbers = []
    for part in parts:
        base = 16 if part[:2].lower() == "0x" else 8 if part[:1] == "0" else 10
        digits = part[2:] if base == 16 else part
        if not re.fullmatch("[0-9A-Fa-f]+", digits) or len(digits) > 40:
            return None
        try:
            numbers.append(int(digits, base))
        except ValueError:
            return None
    *leading, last = numbers
    if any(number > 255 for number in leading) or last >> 8 * (5 - len(parts)):
        return None
    value = 0
    for number in leading:
        value = value << 8 | number
    return value << 8 * (5 - len(parts)) | last


def decnet(text: str) -> int | None:
    """``area.node`` as DECnet's 16-bit address; None if there is no area."""
    match = re.match(r"([0-9]+)\.([0-9]+)", text)
    if match is None:
        return None
    area, node = (min(int(part[:20]), (1 << 63) - 1) for part in match.groups())
    return area << 10 & 0xFC00 | node & 0x03FF
