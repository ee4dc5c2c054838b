"""Format strings of bpf_snprintf, bpf_trace_printk and bpf_seq_printf: what is allowed in them."""

from __future__ import annotations

from typing import Final

_MAX_ARGS: Final = 12
_DIGITS: Final = b"0123456789"
_SPACE: Final = b" \t\n\v\f\r"


def arguments(text: bytes, given: int) -> int | None:
    """How many arguments ``text`` uses, None when it is malformed or uses more than ``given``.

    The rules are those of bpf_bprintf_prepare: printable characters, and %c %d %i %u %x %s %p and a few forms
    of pointers, with ``l`` and ``ll``.
    """
    if given > _MAX_ARGS:
        return None
    used = 0
    i = 0
    n = len(text)
    while i < n:
        c = text[i]
        if (not 32 <= c < 127 and c not in _SPACE) or c >= 128:
            return None
        if c != 0x25:  # %
            i += 1
            continue
        if text[i + 1 : i + 2] == b"%":
            i += 2
            continue
        if used >= given:
            return None
        i += 1
        while text[i : i + 1] and text[i] in b"0+- ":
            i += 1
        if text[i : i + 1] and text[i] in b"123456789":
            while text[i : i + 1] and text[i] in _DIGITS:
                i += 1
        end = _conversion(text, i)
        if end is None:
            return None
        used += 1
        i = end
    return used


def _conversion(text: bytes, i: int) -> int | None:
    """Where the conversion that starts at ``i`` ends."""
    c = text[i : i + 1]
    if c == b"p":
        after = text[i + 1 : i + 3]
        if after[:1] in (b"k", b"u") and after[1:2] == b"s":
            return i + 3
        if after[:1] in (b"", b"K", b"x", b"s", b"S", b"B") or (after[:1] and _ends(after[0])):
            return i + 2 if after[:1] and not _ends(after[0]) else i + 1
        if after in (b"i4", b"I4", b"i6", b"I6"):
            return i + 3
        return None
    if c == b"s":
        return i + 1
    if c == b"c":
        return i + 1
    if c == b"l":
        i += 1
        if text[i : i + 1] == b"l":
            i += 1
    return i + 1 if text[i : i + 1] in (b"i", b"d", b"u", b"x", b"X") else None


def _ends(c: int) -> bool:
    """A space or punctuation: a plain %p."""
    return c in _SPACE or (33 <= c < 127 and not chr(c).isalnum())
