"""Everything skep raises on purpose.

    SkepError
    ├ FormatError(path, offset)     ElfError, BtfError, CaptureError, DecodeError
    ├ SourceError(file, span)       AsmError, FilterSyntaxError, CompileError
    ├ LinkError                     UnresolvedSymbol, CoreReloError
    ├ VerifierError(log, insn, source, reason, hint)
    ├ ExecutionError(pc, registers)
    ├ MissingDependency(extra)
    └ KernelError(OSError; cmd)     NotSupported(feature, since), MapIncompatible,
                                    PermissionDenied(missing capability or lockdown)

``str(error)`` is one line: what, where, and what to do next. Everything else is an attribute.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skep.explain import Explanation


class SkepError(Exception):
    """Base of every error skep raises on purpose."""


# --- inputs that are not what they claim to be -------------------------------------------------


class FormatError(SkepError):
    """A file or byte string is damaged.

    ``path`` is the file's name or None, ``offset`` the byte offset of the damage or None.
    """

    def __init__(self, reason: str, *, path: str | None = None, offset: int | None = None) -> None:
        self.reason = reason
        self.path = path
        self.offset = offset
        where = path or ""
        if offset is not None:
            where += f"{' ' if where else ''}at byte {offset}"
        super().__init__(f"{where}: {reason}" if where else reason)


class ElfError(FormatError):
    """An ELF object cannot be read."""


class BtfError(FormatError):
    """BTF type information cannot be read."""


class CaptureError(FormatError):
    """A capture file is damaged; packets before ``offset`` have been delivered."""


class DecodeError(FormatError):
    """Bytes are not BPF instructions. ``offset`` is in bytes from the start of the program."""


# --- source text that cannot be compiled -------------------------------------------------------


class SourceError(SkepError):
    """Source text is refused.

    ``source`` is the whole text (or the one line) the span points into, ``line`` is 1-based,
    ``column`` and ``end_column`` are 0-based offsets in characters into that line.
    """

    def __init__(
        self,
        reason: str,
        *,
        file: str | None = None,
        source: str | None = None,
        line: int = 1,
        column: int | None = None,
        end_column: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.reason = reason
        self.file = file
        self.source = source
        self.line = line
        self.column = column
        self.end_column = end_column
        self.hint = hint
        if file is not None:
            where = f"{file}:{line}" + (f":{column + 1}" if column is not None else "")
        elif column is not None:
            where = f"line {line} column {column + 1}" if line > 1 else f"column {column + 1}"
        else:
            where = ""
        text = f"{where}: {reason}" if where else reason
        super().__init__(f"{text} ({hint})" if hint else text)

    def pointer(self, width: int = 76) -> str:
        """The source line and a caret under the span, clipped to ``width``; "" without a source.

        Nothing in it moves a terminal's cursor: what is not printable is shown as a replacement character.
        """
        if self.source is None or self.column is None:
            return ""
        lines = self.source.split("\n")  # as lines are counted; str.splitlines() knows more ends of them
        text = lines[min(self.line - 1, len(lines) - 1)].rstrip("\r").replace("\t", " ")
        if not text.isprintable():
            text = "".join(char if char.isprintable() else "\ufffd" for char in text)
        start = min(self.column, len(text))
        end = max(start + 1, min(self.end_column or 0, len(text)))
        left = max(0, start - width // 2)
        shown = text[left : left + width]
        if left:
            shown = "…" + shown[1:]
        if left + width < len(text):
            shown = shown[:-1] + "…"
        carets = max(1, min(end - left, width) - (start - left))
        return f"{shown}\n{' ' * (start - left)}{'^' * carets}"


class AsmError(SourceError):
    """Assembly text is refused."""


class FilterSyntaxError(SourceError):
    """A filter expression is refused."""


class CompileError(SourceError):
    """A program cannot be compiled: outside the language, or the code generator failed."""


# --- putting objects together ------------------------------------------------------------------


class LinkError(SkepError):
    """Objects do not fit together."""


class UnresolvedSymbol(LinkError):
    """No object or kernel has the symbol."""


class CoreReloError(LinkError):
    """A CO-RE relocation has no answer in the target's types."""


# --- admission and execution -------------------------------------------------------------------


class VerifierError(SkepError):
    """A program is refused before it runs.

    ``insn`` is the slot index of the refused instruction or None, ``source`` the source line it
    came from, ``log`` the verifier's own log, ``hint`` what to write instead. ``explanation`` has all
    that can be told (the place, the register's story, the path), or None when the log says nothing.
    """

    def __init__(
        self,
        reason: str,
        *,
        insn: int | None = None,
        source: str | None = None,
        log: str = "",
        hint: str | None = None,
        explanation: Explanation | None = None,
    ) -> None:
        self.reason = reason
        self.insn = insn
        self.source = source
        self.log = log
        self.hint = hint
        self.explanation = explanation
        text = f"insn {insn}: {reason}" if insn is not None else reason
        super().__init__(f"{text} ({hint})" if hint else text)


class ExecutionError(SkepError):
    """A running program was stopped.

    ``pc`` is the slot index of the instruction that could not go on; ``registers`` holds r0..r10
    as unsigned 64-bit numbers where the engine knows them (the interpreter), else None.
    """

    def __init__(self, reason: str, *, pc: int, registers: Sequence[int] | None = None) -> None:
        self.reason = reason
        self.pc = pc
        self.registers = tuple(registers) if registers is not None else None
        super().__init__(f"insn {pc}: {reason}")


class MissingDependency(SkepError):
    """An optional library is not installed. ``extra`` is the skep extra that brings it."""

    def __init__(self, what: str, *, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an optional library: pip install 'skep[{extra}]'")


# --- the live kernel ---------------------------------------------------------------------------


class KernelError(SkepError, OSError):
    """A system call failed. ``cmd`` names it (``BPF_PROG_LOAD``), ``errno`` is the kernel's answer.

    ``log`` is what the verifier wrote about a refused program, else ""; ``count`` how many elements a
    batch command had done when it failed.
    """

    log: str = ""
    count: int = 0

    def __init__(self, errno: int, reason: str | None = None, *, cmd: str | None = None) -> None:
        OSError.__init__(self, errno, reason or os.strerror(errno))
        self.cmd = cmd
        self.reason = reason or os.strerror(errno)

    def __str__(self) -> str:
        return f"{self.cmd}: {self.reason}" if self.cmd else self.reason


class NotSupported(KernelError):
    """The kernel lacks a feature. ``since`` is the first Linux version that has it."""

    def __init__(self, errno: int, feature: str, *, since: str | None = None, cmd: str | None = None) -> None:
        self.feature = feature
        self.since = since
        super().__init__(
            errno, f"{feature} is not supported here" + (f" (Linux {since} has it)" if since else ""), cmd=cmd
        )


class MapIncompatible(KernelError):
    """An existing map differs from the one asked for. ``differences`` maps a field to (have, want)."""

    def __init__(
        self,
        errno: int,
        reason: str,
        *,
        differences: Mapping[str, tuple[object, object]],
        cmd: str | None = None,
    ) -> None:
        self.differences = dict(differences)
        super().__init__(errno, reason, cmd=cmd)


class PermissionDenied(KernelError):
    """The kernel refused. ``missing`` names the capability or the lockdown that stands in the way."""

    def __init__(
        self, errno: int, reason: str, *, missing: str | None = None, cmd: str | None = None
    ) -> None:
        self.missing = missing
        super().__init__(errno, reason, cmd=cmd)
