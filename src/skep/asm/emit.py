"""Slots as they are made, and the labels that are still to be found."""

from __future__ import annotations

import re

from skep.asm.lex import Line, Token
from skep.errors import AsmError
from skep.isa import opcodes as op
from skep.isa.ebpf import Insn


class Emitter:
    """Collects slots; resolves labels when the text has ended."""

    __slots__ = ("_first_exit", "_fixups", "_labels", "constants", "file", "insns", "source")

    def __init__(self, source: str, file: str | None) -> None:
        self.source = source
        self.file = file
        self.insns: list[Insn] = []
        self.constants: dict[str, int] = {}
        self._labels: dict[str, tuple[int, int]] = {}  # name -> slot, line
        self._fixups: list[tuple[int, str, Token, Line]] = []
        self._first_exit: int | None = None

    def emit(self, *insns: Insn) -> None:
        if insns[0].opcode == op.EXIT and self._first_exit is None:
            self._first_exit = len(self.insns)
        self.insns += insns

    def label(self, name: str, line: int, column: int) -> None:
        if name in self._labels:
            raise AsmError(
                f"label {name} is defined twice, first in line {self._labels[name][1]}",
                file=self.file,
                source=self.source,
                line=line,
                column=column,
                end_column=column + len(name),
            )
        self._labels[name] = (len(self.insns), line)

    def refer(self, field: str, name: Token, line: Line) -> None:
        """The slot about to be emitted holds, in ``field`` ("off" or "imm"), the distance to a label."""
        self._fixups.append((len(self.insns), field, name, line))

    def annotate(self, start: int, text: str, line: Line) -> None:
        """Apply ``src=1 imm=4``, written after ``#@``, to the instruction at slot ``start``."""
        for part in text.split():
            field, _, value = part.partition("=")
            if not re.fullmatch(r"-?(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})", value):
                line.fail(f"annotation {part[:40]!r}: expected FIELD=NUMBER")
            number = int(value, 16 if "x" in value else 10)
            if field == "high" and start + 1 < len(self.insns):
                self.insns[start + 1] = self.insns[start + 1]._replace(imm=number)
            elif field in ("dst", "src", "off", "imm") and start < len(self.insns):
                self.insns[start] = self.insns[start]._replace(**{field: number})
            else:
                line.fail(f"annotation {part[:40]!r}: dst, src, off, imm and high are known")

    def finish(self) -> list[Insn]:
        for slot, field, name, line in self._fixups:
            found = self._labels.get(name.text)
            if found is not None:
                target = found[0]
            elif name.text == "exit" and self._first_exit is not None:
                target = self._first_exit  # ubpf's assembler names the first exit so
            else:
                line.fail(f"no label {name.text}", name, "write NAME: before the instruction it stands for")
            distance = target - slot - 1
            if field == "off" and not -(1 << 15) <= distance < 1 << 15:
                line.fail(f"label {name.text} is {distance} slots away, out of 16 bits", name, "use gotol")
            self.insns[slot] = self.insns[slot]._replace(**{field: distance})
        return self.insns
