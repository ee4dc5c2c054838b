"""Global variables of a program: ``seen: u64 = bpf.var(0)``, ``only_pid: u32 = bpf.const(0)``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Global:
    """A global variable and its first value; its name and type are those of the module's annotation.

    ``readonly`` ones lie in ``.rodata``: the verifier knows their value, so a test of one costs nothing.
    Others lie in ``.data``, or ``.bss`` when they start as zero.
    """

    __slots__ = ("readonly", "section", "value")

    def __init__(self, value: Any, readonly: bool, section: str | None = None) -> None:
        self.value = value
        self.readonly = readonly
        self.section = section

    def __repr__(self) -> str:
        return f"bpf.{'const' if self.readonly else 'var'}({self.value!r})"


def var(value: Any = 0, *, section: str | None = None) -> Any:
    """A variable that programs and Python read and write (``obj.data.NAME``, ``obj.bss.NAME``)."""
    return Global(value, False, section)


def const(value: Any = 0, *, section: str | None = None) -> Any:
    """A constant that can be set before loading: ``skep.load(prog, variables={"only_pid": 7})``."""
    return Global(value, True, section)
