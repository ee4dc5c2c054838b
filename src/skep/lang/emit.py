"""The text of one function's IR, as it grows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

#: calls that may change memory, and atomic operations
_CHANGES = re.compile(r"(tail )?call (?!.*(asm|@llvm\.(?!mem)))")


class Mark(NamedTuple):
    """A point to go back to: see `Emit.mark`."""

    lines: int
    label: str
    ended: bool


class Emit:
    """Instructions in order, the stack slots apart; ``dbg`` is the location given to what comes next."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.slots: list[str] = []
        self.dbg = ""
        #: the block that is being filled
        self.label_now = "body"
        #: the block has its terminator: nothing may follow but a label
        self.ended = False
        #: looks at each call of a helper, when there is one
        self.guard: Callable[[str], None] | None = None
        #: pointers into an arena (`skep.lang.arena`), and what refuses to give one to the kernel
        self.shared: set[str] = set()
        self.refuse_shared: Callable[[], None] | None = None
        #: told of each instruction that may change memory, but for stores while ``quiet`` is not 0
        self.changes: Callable[[], None] | None = None
        self.quiet = 0
        self._scalars: set[str] = set()
        self._count = 0
        self._slots: dict[object, str] = {}
        self._free: dict[tuple[int, int], list[str]] = {}
        self._used: list[tuple[tuple[int, int], str]] = []

    def op(self, text: str) -> str:
        """Emit an instruction that has a result; the result's name."""
        if self.guard is not None and "inttoptr (i64 " in text and "call " in text:
            self.guard(text)
        if self.changes is not None and (
            _CHANGES.match(text) or (text.startswith(("atomicrmw", "cmpxchg")) and not self.quiet)
        ):
            self.changes()
        self._count += 1
        name = f"%r{self._count}"
        if self.shared:
            text = self._in_space(text, name)
        self.lines.append(f"  {name} = {text}{self.dbg}")
        return name

    def do(self, text: str) -> None:
        """Emit an instruction without a result."""
        if self.changes is not None and (
            _CHANGES.match(text)
            or (text.startswith("store ") and not self.quiet and self._target(text) not in self._scalars)
        ):
            self.changes()
        if self.shared:
            text = self._in_space(text)
        self.lines.append(f"  {text}{self.dbg}")

    @staticmethod
    def _target(store: str) -> str:
        return store.rpartition(", ptr ")[2].split(",")[0]

    def _in_space(self, text: str, name: str = "") -> str:
        """The instruction with the pointers into an arena typed as such.

        LLVM then keeps accesses there apart from others (the verifier wants each instruction to make one
        kind only), and casts addresses itself.
        """
        words = text.split()
        found = [i for i, word in enumerate(words) if word.strip(",()") in self.shared]
        if not found:
            return text
        if "call " in text:
            if "@llvm.mem" not in text:
                assert self.refuse_shared is not None
                self.refuse_shared()
            arguments = text[text.index("(") + 1 :].split(", ")
            spaces = ["p1" if one.split()[-1] in self.shared else "p0" for one in arguments]
            many = ".".join(spaces[: text.count(".p0")])
            start = text.index(".p0")
            end = start + 3 * text.count(".p0")
            text = f"{text[:start]}.{many}{text[end:]}"
        elif name and text.startswith("getelementptr"):
            self.shared.add(name)
        parts = text.split("ptr ")
        for i in range(1, len(parts)):
            operand = parts[i].split(",")[0].split(")")[0].split()[-1:]
            if operand and operand[0] in self.shared:
                parts[i] = f"addrspace(1) {parts[i]}"
        return "ptr ".join(parts)

    def label(self, hint: str = "b") -> str:
        """A fresh block name."""
        self._count += 1
        return f"{hint}{self._count}"

    def place(self, label: str) -> None:
        """Start the block ``label``; the one before falls into it when it has no terminator."""
        if not self.ended:
            self.do(f"br label %{label}")
        self.lines.append(f"{label}:")
        self.label_now = label
        self.ended = False

    def br(self, label: str) -> None:
        self.do(f"br label %{label}")
        self.ended = True

    def cond(self, test: str, true: str, false: str) -> None:
        self.do(f"br i1 {test}, label %{true}, label %{false}")
        self.ended = True

    def ret(self, operand: str) -> None:
        """``operand`` with its type, or "void"."""
        self.do(f"ret {operand}")
        self.ended = True

    def alloca(self, size: int, align: int = 8, key: object = None) -> str:
        """A stack slot of ``size`` bytes; the same one again for an equal ``key``."""
        if key is not None:
            key = (key, size, align)
            known = self._slots.get(key)
            if known is not None:
                return known
        name = f"%s{len(self.slots)}"
        self.slots.append(f"  {name} = alloca [{size} x i8], align {align}")
        if key is not None:
            self._slots[key] = name
        return name

    def temporary(self, size: int, align: int) -> str:
        """A stack slot that is free again at the end of the statement."""
        free = self._free.setdefault((size, align), [])
        name = free.pop() if free else self.alloca(size, align)
        self._used.append(((size, align), name))
        return name

    def temporaries(self) -> int:
        """How many are in use: what `release` goes back to."""
        return len(self._used)

    def release(self, mark: int) -> None:
        while len(self._used) > mark:
            key, name = self._used.pop()
            self._free[key].append(name)

    def slot(self, llvm: str, key: object) -> str:
        """A stack slot for one scalar of IR type ``llvm``."""
        key = (key, llvm)
        known = self._slots.get(key)
        if known is None:
            known = self._slots[key] = f"%s{len(self.slots)}"
            self.slots.append(f"  {known} = alloca {llvm}")
            self._scalars.add(known)
        return known

    def mark(self) -> Mark:
        """A point that `back` returns to, dropping what was emitted since (slots stay)."""
        return Mark(len(self.lines), self.label_now, self.ended)

    def back(self, mark: Mark) -> None:
        del self.lines[mark.lines :]
        self.label_now = mark.label
        self.ended = mark.ended

    def text(self) -> str:
        """The body, from the entry block on."""
        return "\n".join(["entry:", *self.slots, "  br label %body", "body:", *self.lines])
