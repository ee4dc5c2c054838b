"""The struct that a syscall program is given (BPF_PROG_RUN's ctx_in), where the verifier takes it as memory.

A context is read and written at constant offsets of the register the program was called with, and its parts
are no memory for helpers or subprograms (check_ptr_off_reg in kernel/bpf/verifier.c). Fields that need more,
an array with a variable index, a text that a helper fills, lie in a copy on the stack, which every way out
writes back: nobody else sees the struct while the program runs.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

from skep.lang.aggregates import StructStorage
from skep.lang.layout import Storage
from skep.lang.values import PtrType, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_NAME: Final = "%given"
#: copies of so much leave room on the stack for the program's own variables
_MOST: Final = 384
_PART: Final = re.compile(r"\s*(%\w+) = getelementptr inbounds i8, ptr (%\w+), i64 ([^\s,]+)")
_KEPT: Final = re.compile(r"\s*store ptr (%\w+|null), ptr (%s\w+)\b")
_TAKEN: Final = re.compile(r"\s*(%\w+) = load ptr, ptr (%s\w+)\b")
_ACCESS: Final = re.compile(r"\s*(?:%\w+ = load \w+|store i\d+ \S+), ptr (%\w+),")

#: where a copy begins in the struct, a multiple of 8; the bytes that it is of
Copy = tuple[int, int, int]


def bind(c: Walker, storage: Storage, node: ast.AST) -> Value:
    """The parameter; `finish` decides where its fields lie."""
    c.given = (storage, node)
    return Value(PtrType(storage, "mem"), _NAME)


def finish(c: Walker) -> None:
    """Once the program is walked: addresses in the struct become those in the context, or in a copy."""
    if c.given is None:
        return
    storage, node = c.given
    offsets = _offsets(c.em.lines)
    spans: list[tuple[int, int]] = []
    indexed = False
    for at, variable in _as_memory(c.em.lines, offsets):
        spans.append(_field(storage, at, leaf=variable))
        indexed = indexed or variable
    copies = _merged(spans)
    size = sum(-(-(end - base) // 8) * 8 for base, _, end in copies)
    if size > _MOST:
        if indexed:
            raise c.error(
                node,
                "what a syscall program is given is read and written at constant places; arrays with other "
                f"indices are copied to the stack, and these have {size} bytes (at most {_MOST})",
                "keep the array in a map's value, or loop with bpf.unroll(range(n))",
            )
        copies = []
    slots = [f"  {_NAME} = call ptr @llvm.preserve.static.offset(ptr %ctx)"]
    c.unit.declare("declare ptr @llvm.preserve.static.offset(ptr)")
    back: list[str] = []
    for number, (base, _, end) in enumerate(copies):
        slots.append(f"  {_NAME}.{number} = alloca [{end - base} x i8], align 8")
        slots += _copied(number, copies[number], into=True)
        back += _copied(number, copies[number], into=False)
    c.em.slots += slots
    made: list[str] = []
    for line in c.em.lines:
        if line.startswith("  ret "):
            # Each way out has its own names.
            made += [re.sub(r"(%given\.[io]\w+)", rf"\1.{len(made)}", one) for one in back]
        made.append(_moved(line, offsets, copies))
    c.em.lines[:] = made


def _offsets(lines: list[str]) -> dict[str, int]:
    """Addresses at constant offsets in the struct, those included that a variable holds."""
    known = {_NAME: 0}
    held: dict[str, set[int | None]] = {}
    for line in lines:
        kept = _KEPT.match(line)
        if kept is not None:
            held.setdefault(kept[2], set()).add(None)
    while True:
        before = len(known)
        now: dict[str, set[int | None]] = {}
        for line in lines:
            if (made := _PART.match(line)) is not None:
                if made[2] in known and made[3].isdigit():
                    known[made[1]] = known[made[2]] + int(made[3])
            elif (kept := _KEPT.match(line)) is not None:
                now.setdefault(kept[2], set()).add(known.get(kept[1]))
            elif (taken := _TAKEN.match(line)) is not None:
                offset = next(iter(held.get(taken[2], ())), None)
                if offset is not None and len(held[taken[2]]) == 1:
                    known[taken[1]] = offset
        if len(known) == before and now == held:
            return known
        held = now


def _as_memory(lines: list[str], offsets: dict[str, int]) -> list[tuple[int, bool]]:
    """(Offset, whether an element is chosen there) of addresses that are more than loaded or stored at."""
    found = []
    slots = {m[2] for line in lines if (m := _TAKEN.match(line)) is not None and m[1] in offsets}
    for line in lines:
        here = [name for name in re.findall(r"%\w+", line) if name in offsets]
        if not here or ((kept := _KEPT.match(line)) is not None and kept[2] in slots):
            continue
        if (made := _PART.match(line)) is not None:
            if made[1] not in offsets:
                found.append((offsets[made[2]], True))
        elif _TAKEN.match(line) is None and (
            (access := _ACCESS.match(line)) is None or len(here) > 1 or access[1] != here[0]
        ):
            found += [(offsets[name], False) for name in here]
    return found


def _field(storage: Storage, at: int, *, leaf: bool) -> tuple[int, int]:
    """(Start, end) of the field at ``at``: the largest that begins there, or the smallest (``leaf``)."""
    start = 0
    while isinstance(storage, StructStorage) and (leaf or at != start):
        inside = [f for f in storage.fields.values() if start + f.offset <= at < start + f.offset + f.of.size]
        if not inside or storage.union:
            break
        start, storage = start + inside[0].offset, inside[0].of
    return start, start + storage.size


def _merged(spans: list[tuple[int, int]]) -> list[Copy]:
    """What is copied. Each copy is aligned as the struct is."""
    made: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if made and start < made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], end))
        else:
            made.append((start, end))
    return [(start & ~7, start, end) for start, end in made]


def _copied(number: int, copy: Copy, *, into: bool) -> list[str]:
    """A copy in pieces at constant offsets of the context, which a memcpy would not keep."""
    made = []
    base, at, end = copy
    while at < end:
        size = next(n for n in (8, 4, 2, 1) if at % n == 0 and at + n <= end)
        names = [f"{_NAME}.{'i' if into else 'o'}{number}x{at}{part}" for part in ("a", "b", "c")]
        made.append(f"  {names[0]} = getelementptr inbounds i8, ptr {_NAME}, i64 {at}")
        made.append(f"  {names[1]} = getelementptr inbounds i8, ptr {_NAME}.{number}, i64 {at - base}")
        source, to = (names[0], names[1]) if into else (names[1], names[0])
        made.append(f"  {names[2]} = load i{8 * size}, ptr {source}, align {size}")
        made.append(f"  store i{8 * size} {names[2]}, ptr {to}, align {size}")
        at += size
    return made


def _moved(line: str, offsets: dict[str, int], copies: list[Copy]) -> str:
    """The line with its addresses in the struct where they lie now."""

    def place(name: str) -> tuple[str, int]:
        at = offsets[name]
        for number, (base, start, end) in enumerate(copies):
            if start <= at < end:
                return f"{_NAME}.{number}", at - base
        return _NAME, at

    made = _PART.match(line) or _TAKEN.match(line)
    if made is not None and made[1] in offsets:
        base, at = place(made[1])
        return f"  {made[1]} = getelementptr inbounds i8, ptr {base}, i64 {at}{line[made.end() :]}"
    return re.sub(rf"{_NAME}\b", place(_NAME)[0], line)
