"""Accesses outside of a map value or other memory of known size: how far its index may go."""

from __future__ import annotations

# ruff: noqa: E501 (sentences stay whole)
import re

from skep.explain import story
from skep.explain.advice import Finding, _bytes, _span
from skep.explain.states import Value

#: no index has reason to be larger; a bound beyond it is none
_NO_BOUND = 1 << 29


def map_bounds(f: Finding) -> tuple[str, str]:
    """The label and the advice for an access by a pointer that has a size."""
    held = f.held()
    size = _size(f, held)
    off, access = f.number("off"), _access(f)
    low_high = story.bounds(held) if held is not None else (None, None)
    high = low_high[1]
    varies = held is not None and any(name in held.fields for name in ("var_off", "umax", "smax"))
    what = f"a value of {_bytes(size)}" if size else "this memory"
    if varies and f.search("min value is negative|unbounded min|smin"):
        return (
            "the index may be negative",
            f"make the index unsigned, or test `index >= 0` as well; the largest that fits {what} is checked next",
        )
    if f.search("unbounded memory access") or (varies and (high is None or high > _NO_BOUND)):
        return f"the index into {what} has no upper bound", _bound(f, held, size, access)
    if varies and high is not None and size:
        reached = off if off > high else _fixed(held) + high
        return (
            f"the largest index reaches offset {reached}, {what} ends at {size}",
            f"the offset may be {size - access} at most for {_bytes(access)}, the bound is too wide by "
            f"{_bytes(max(1, reached + access - size))}: {_bound(f, held, size, access)}",
        )
    if not size:
        return "this lies outside the memory", "check the size that was asked for"
    if held is not None and _GLOBALS.search(held.fields.get("map", "")):
        return (
            f"{_span(off, access)} {'lies' if access == 1 else 'lie'} outside of the program's global variables ({_bytes(size)} in all)",
            "an index or a loop runs past the end of a global array: compare the loop's bound with the array's length",
        )
    return (
        f"{_span(off, access)} {'lies' if access == 1 else 'lie'} outside {what}",
        f"offsets 0 to {max(0, size - access)} can be accessed with {_bytes(access)}; is the value's type larger than the map's "
        "value_size, or does an index run past the end of an array?",
    )


def _size(f: Finding, held: Value | None) -> int:
    """The size of the memory, 0 when the log does not tell."""
    if size := f.number("vs"):
        return size
    if found := f.search(r"(?:value|mem)_size=(\d+)"):
        return int(found[1])
    return (held.integer("vs") or held.integer("sz") or 0) if held is not None else 0


def _fixed(held: Value | None) -> int:
    """The constant part of a pointer's offset."""
    return (held.integer("off") or held.integer("imm") or 0) if held is not None else 0


_GLOBALS = re.compile(r"\.(?:rodata|data|bss)")
_MEMORY = re.compile(r"\*\([us](\d+) \*\)\(r\d+ ([+-]\d+)\)")


def _access(f: Finding) -> int:
    """How many bytes are accessed: of the message, of the instruction, or of a call's length argument."""
    if size := f.number("size"):
        return size
    last = f.trail.last
    if last is None:
        return 1
    if found := _MEMORY.search(last.text):
        return int(found[1]) // 8
    length = story.value(last, f"R{(f.register or 0) + 1}", before=True)
    return (story.bounds(length)[1] or 1) if length is not None and story.called(last) else 1


def _bound(f: Finding, held: Value | None, size: int, access: int) -> str:
    """The test that makes the access fit, in the index's own unit."""
    if not size:
        return "test it before: `if (index >= LENGTH) return …;`, or mask it: `index &= LENGTH - 1`"
    last = f.trail.last
    found = _MEMORY.search(last.text) if last is not None else None
    room = size - _fixed(held) - (int(found[2]) if found else 0) - access
    scale = _scale(f)
    most = room // scale
    if most < 1:
        return f"nothing but offset 0 fits: {_bytes(access)} are accessed"
    said = f"test it before: `if (index > {most}) return …;`"
    mask = (1 << ((most + 1).bit_length() - 1)) - 1
    if mask:
        said += f", or mask it: `index &= {mask}`"
    return said + (f" (each is {_bytes(scale)})" if scale > 1 else "")


def _scale(f: Finding) -> int:
    """What the index was multiplied with before it was added to the pointer."""
    for chapter in reversed(f.chapters):
        added = re.match(r"r\d+ \+= r(\d+)$", chapter.step.text)
        if added is None:
            continue
        scale = 1
        for event in reversed(story.of_register(f.trail, int(added[1]), chapter.step)):
            times = re.match(r"[rw]\d+ (<<|\*)= (\d+|0x[0-9a-f]+)$", event.step.text)
            if times:
                number = int(times[2], 0)
                scale *= 1 << number if times[1] == "<<" and number < 32 else number
            elif not re.match(r"(?:if |[rw]\d+ = [rw]\d+$)", event.step.text):
                break
        return scale if 0 < scale < _NO_BOUND else 1
    return 1
