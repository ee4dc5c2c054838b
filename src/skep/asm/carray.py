"""Programs as C initialisers, written and read: struct bpf_insn and struct sock_filter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn

from skep.asm import tcpdump
from skep.asm.linux import text as linux_text
from skep.errors import AsmError
from skep.isa import opcodes as op
from skep.isa.classic import ClassicInsn
from skep.isa.ebpf import Insn

_EXTENDED: Final = ("code", "dst_reg", "src_reg", "off", "imm")
_CLASSIC: Final = ("code", "jt", "jf", "k")
_FIELD: Final = r"\s*(?:\.([A-Za-z_]+)\s*=)?\s*(-?(?:0[xX][0-9a-fA-F]{1,32}|[0-9]{1,32}))[uU]?\s*"
_EXTENDED_LIMITS: Final = ((0, 255), (0, 15), (0, 15), (-(1 << 15), (1 << 15) - 1), (-(1 << 31), 0xFFFFFFFF))
_CLASSIC_LIMITS: Final = ((0, 0xFFFF), (0, 255), (0, 255), (-(1 << 31), 0xFFFFFFFF))


def extended(insns: Sequence[Insn]) -> list[str]:
    """An array of struct bpf_insn, each slot with its Linux text in a comment."""
    lines = ["struct bpf_insn program[] = {"]
    tail = False
    for pc, (code, dst, src, off, imm) in enumerate(insns):
        note = "" if tail else f" /* {linux_text(insns, pc)} */"
        tail = not tail and code == op.LD_IMM64
        fields = f".code = 0x{code:02x}, .dst_reg = {dst}, .src_reg = {src}, .off = {off}, .imm = {imm}"
        lines.append(f"\t{{ {fields} }},{note}")
    return [*lines, "};"]


def classic(insns: Iterable[ClassicInsn]) -> list[str]:
    """An array of struct sock_filter, each instruction with its tcpdump text in a comment."""
    lines = ["struct sock_filter program[] = {"]
    for pc, insn in enumerate(insns):
        name, operand = tcpdump.operation(insn, pc)
        code, jt, jf, k = insn
        lines.append(
            f"\t{{ 0x{code:02x}, {jt}, {jf}, 0x{k:08x} }}, /* {pc}: {name} {operand}".rstrip() + " */"
        )
    return [*lines, "};"]


def read_extended(lines: Sequence[tuple[int, str]], source: str, file: str | None) -> list[Insn]:
    """Slots of initialisers `{ .code = 0xb7, … }` or `{ 0xb7, dst, src, off, imm }`."""
    insns: list[Insn] = []
    for values in _initialisers(lines, source, file, _EXTENDED, _EXTENDED_LIMITS):
        imm = values[4] - (1 << 32) if values[4] > 0x7FFFFFFF else values[4]
        insns.append(Insn(values[0], values[1], values[2], values[3], imm))
    return insns


def read_classic(lines: Sequence[tuple[int, str]], source: str, file: str | None) -> list[ClassicInsn]:
    """Instructions of initialisers `{ 0x28, 0, 0, 0x0000000c }` (`tcpdump -dd`), `.code = …` too."""
    return [
        ClassicInsn(code, jt, jf, k & 0xFFFFFFFF)
        for code, jt, jf, k in _initialisers(lines, source, file, _CLASSIC, _CLASSIC_LIMITS)
    ]


def _initialisers(
    lines: Sequence[tuple[int, str]],
    source: str,
    file: str | None,
    names: tuple[str, ...],
    limits: tuple[tuple[int, int], ...],
) -> Iterable[list[int]]:
    for number, line in lines:
        rest = line
        opening = re.match(r"\s*(?:(?:static|const)\s+)*struct\s+\w+\s+\w+\s*\[\s*\d*\s*\]\s*=\s*\{\s*", rest)
        at = opening.end() if opening else 0
        while at < len(rest) and (found := re.compile(r"\s*\{([^{}]*)\}\s*,?\s*").match(rest, at)):
            yield _fields(found.group(1), names, limits, (number, found.start(1), source, file))
            at = found.end()
        if rest[at:].strip().rstrip(";, }").strip():
            column = at + len(rest[at:]) - len(rest[at:].lstrip())
            _fail("expected { … } with one instruction", (number, column, source, file), rest[at:].strip())


def _fields(
    inner: str,
    names: tuple[str, ...],
    limits: tuple[tuple[int, int], ...],
    where: tuple[int, int, str, str | None],
) -> list[int]:
    values = [0] * len(names)
    parts = inner.split(",")
    if not parts[-1].strip():
        parts.pop()
    at = where[1]
    for position, part in enumerate(parts):
        here = (where[0], at + len(part) - len(part.lstrip()), where[2], where[3])
        at += len(part) + 1
        found = re.fullmatch(
            r"\s*(?:\.([A-Za-z_]+)\s*=)?\s*(-?(?:0[xX][0-9a-fA-F]{1,32}|[0-9]{1,32}))[uU]?\s*", part
        )
        if found is None:
            _fail("expected a number, or .FIELD = NUMBER", here, part.strip())
        if found.group(1) is not None and found.group(1) not in names:
            _fail(f"no field .{found.group(1)} ({', '.join(names)} exist)", here, part.strip())
        index = names.index(found.group(1)) if found.group(1) else position
        if index >= len(names):
            _fail(f"one value too many: {', '.join(names)}", here, part.strip())
        value = (
            int(found.group(2), 0)
            if found.group(2).lower().lstrip("-").startswith("0x")
            else int(found.group(2))
        )
        low, high = limits[index]
        if not low <= value <= high:
            _fail(f"{names[index]} {value} is outside {low} to {high}", here, part.strip())
        values[index] = value
    return values


def _fail(reason: str, where: tuple[int, int, str, str | None], span: str) -> NoReturn:
    line, column, source, file = where
    raise AsmError(
        reason, file=file, source=source, line=line, column=column, end_column=column + max(1, len(span))
    )
