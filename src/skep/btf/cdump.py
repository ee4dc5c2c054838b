"""BTF printed as a C header, ``vmlinux.h``: what ``bpftool btf dump file F format c`` prints.

C wants a struct defined before another embeds it, and no more than declared before another points to it.
So types are first put in an order that satisfies the strong (embedding) links, then printed in that order
with a forward declaration wherever a weak (pointer) link runs ahead.
"""

from __future__ import annotations

from skep.btf import types as t
from skep.btf.cdecl import CText
from skep.btf.graph import Decoded, TypeGraph
from skep.btf.types import references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final


_NOT: Final = 0
_BUSY: Final = 1
_DONE: Final = 2
_DEEPEST: Final = 300
_PASS: Final = t.MODIFIERS | {t.PTR, t.ARRAY}

PROLOGUE: Final = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
#: what prototypes of kernel functions need; only in headers that have some
_KSYMS: Final = """\
#ifndef BPF_NO_KFUNC_PROTOTYPES
#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif

#ifndef __weak
#define __weak __attribute__((weak))
#endif
#endif

"""
_KFUNC_TAG: Final = "bpf_kfunc"
EPILOGUE: Final = """\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""

# GCC's names for Arm vector elements, which no compiler lets a header use undeclared.
_ALIASES: Final = {
    "__Poly8_t": "unsigned char",
    "__Poly16_t": "unsigned short",
    "__Poly64_t": "unsigned long long",
    "__Poly128_t": "unsigned __int128",
}


def c_dump(
    btf: TypeGraph, ids: Iterable[int] | None = None, *, enum_modes: bool = True, kfuncs: bool = True
) -> str:
    """A C header that defines the types ``ids`` (all by default) and what they need.

    Compiles to the layout BTF describes, and equals what bpftool 7.1 and libbpf 1.1 print. Older ones (Linux
    6.1's among them) leave out ``mode(byte)`` on one-byte enums, which makes structs with such members too
    large: ``enum_modes=False`` does as they do. With all types come, as from bpftool 7.5 on, prototypes of
    the kernel functions that programs may call, where the BTF tags them (Linux 6.11); ``kfuncs=False`` leaves
    them out. Raises BtfError for types that contain themselves or are nested beyond reason.
    """
    dump = CDump(btf, enum_modes=enum_modes)
    for id in range(1, len(dump)) if ids is None else ids:
        dump.add(id)
    prologue = PROLOGUE
    if kfuncs and ids is None and dump.add_kfuncs():
        prologue += _KSYMS
    return prologue + dump.text() + EPILOGUE


class CDump:
    """A header in the making: `add` types, then take the `text`."""

    def __init__(self, graph: TypeGraph, *, enum_modes: bool = True) -> None:
        graph = Decoded(graph)
        self._c = CText(graph, enum_modes=enum_modes)
        self._graph = graph
        count = len(graph)
        self._c.limit += 64 * count
        self._ordered = bytearray(count)
        self._emitted = bytearray(count)
        self._forward = bytearray(count)  # a declaration (of a typedef: the definition) is out already
        self._referenced = bytearray(count)
        self._ordered[0] = self._emitted[0] = _DONE
        self._queue: list[int] = []
        self._depth = 0
        value = self._c.value
        for id in range(1, count):
            for reference in references(value(id)):
                if not 0 <= reference < count:
                    graph.fail(id, f"names type {reference}, of {count - 1}")
                self._referenced[reference] = 1

    def __len__(self) -> int:
        """One more than the last id."""
        return len(self._ordered)

    def add(self, id: int) -> None:
        """Define type ``id`` and everything that must come before it."""
        if not 0 <= id < len(self._ordered):
            self._graph.fail(id, f"does not exist: there are {len(self._ordered) - 1}")
        self._queue.clear()
        self._order(id, False)
        for ready in self._queue:
            self._emit(ready, 0)

    def add_kfuncs(self) -> int:
        """Declare the functions tagged as kfuncs, whose types must have been added; how many there are."""
        value = self._c.value
        out = self._c.out
        found: dict[str, int] = {}
        for id in range(1, len(self)):
            tag = value(id)
            if tag[0] == t.DECL_TAG and tag[1] == _KFUNC_TAG and tag[3] == -1:
                function = value(tag[2])
                if function[0] == t.FUNC:
                    found.setdefault(function[1], function[2])
        if found:
            out.append("\n/* BPF kfuncs */\n#ifndef BPF_NO_KFUNC_PROTOTYPES\n")
            for name, proto in found.items():
                out.append("extern ")
                self._c.declaration(proto, name, 0)
                out.append(" __weak __ksym;\n")
            out.append("#endif\n\n")
        return len(found)

    def text(self) -> str:
        """The C text of all that was added."""
        return "".join(self._c.out)

    # --- order ---------------------------------------------------------------------------------

    def _order(self, id: int, through_ptr: bool) -> bool:
        """Queue what must be defined before ``id``, then ``id``. True when the link to it is strong."""
        ordered = self._ordered
        if ordered[id] == _DONE:
            return True
        value = self._c.value
        here = value(id)
        pointers: list[int] = []
        steps = 0
        # What is only a way to another type is walked here, without a call.
        while here[0] in _PASS:
            if here[0] == t.PTR:
                pointers.append(id)
                through_ptr = True
            elif here[0] == t.ARRAY:
                through_ptr = False
            id = here[2]
            if ordered[id] == _DONE:
                for pointer in pointers:
                    ordered[pointer] = _DONE
                return True
            here = value(id)
            steps += 1
            if steps > 4096:
                self._graph.fail(id, "a chain of types that is a loop, or more than 4,096 types long")
        strong = self._order_definition(id, through_ptr)
        for pointer in pointers:
            ordered[pointer] = _DONE
        return strong

    def _order_definition(self, id: int, through_ptr: bool) -> bool:
        ordered = self._ordered
        here = self._c.value(id)
        kind, name = here[0], here[1]
        if ordered[id] == _BUSY:
            if kind in (t.STRUCT, t.UNION) and through_ptr and name:
                return False  # a loop that a forward declaration breaks
            self._graph.fail(id, f"{self._graph.describe(id)} contains itself")
        if kind in (t.STRUCT, t.UNION):
            if through_ptr and name:
                return False
            ordered[id] = _BUSY
            self._down(id)
            for member in here[3]:
                if ordered[member[1]] != _DONE:
                    self._order(member[1], False)
            self._depth -= 1
            if name:
                self._queue.append(id)
            ordered[id] = _DONE
            return True
        if kind in (t.ENUM, t.ENUM64, t.FWD):
            if name or not self._referenced[id]:
                self._queue.append(id)
            ordered[id] = _DONE
            return True
        if kind == t.TYPEDEF:
            self._down(id)
            strong = self._order(here[2], through_ptr)
            self._depth -= 1
            if through_ptr and not strong:
                return False
            self._queue.append(id)
            ordered[id] = _DONE
            return True
        if kind == t.FUNC_PROTO:
            self._down(id)
            strong = self._order(here[2], through_ptr)
            for param in here[3]:
                if self._order(param[1], through_ptr):
                    strong = True
            self._depth -= 1
            return strong
        ordered[id] = _DONE
        return False

    def _down(self, id: int) -> None:
        self._depth += 1
        self._c.spend(id)
        if self._depth > _DEEPEST:
            self._graph.fail(id, f"types nested more than {_DEEPEST} deep")

    # --- print ---------------------------------------------------------------------------------

    def _end(self) -> None:
        self._c.out.append(";\n\n")

    def _typedef(self, id: int) -> None:
        value = self._c.value(id)
        if value[1] != "__builtin_va_list":  # the compiler has it built in
            self._c.typedef(id, value)
            self._end()

    def _emit(self, id: int, inside: int) -> None:
        """Print what type ``id`` needs declared; ``inside`` is the struct it is needed for, 0 for none."""
        emitted = self._emitted
        value = self._c.value
        here = value(id)
        while here[0] in _PASS:
            if emitted[id] == _DONE:
                return
            id = here[2]
            here = value(id)
        state = emitted[id]
        if state == _DONE:
            return
        if state == _BUSY:
            self._emit_again(id, inside)
            return
        kind = here[0]
        if kind in (t.STRUCT, t.UNION):
            self._emit_composite(id, inside)
        elif kind == t.TYPEDEF:
            emitted[id] = _BUSY
            self._down(id)
            self._emit(here[2], id)
            self._depth -= 1
            if not self._forward[id]:
                self._typedef(id)
            emitted[id] = _DONE
        elif kind in (t.ENUM, t.ENUM64):
            if inside == 0:
                self._c.enum(id, here, 0)
                self._end()
            emitted[id] = _DONE
        elif kind == t.FWD:
            self._c.out.append(self._c.forward(here, self._c.tag(id, here)))
            self._end()
            emitted[id] = _DONE
        elif kind == t.FUNC_PROTO:
            self._down(id)
            self._emit(here[2], inside)
            for param in here[3]:
                self._emit(param[1], inside)
            self._depth -= 1
        elif kind == t.INT:
            if here[1] in _ALIASES:
                self._c.out.append(f"typedef {_ALIASES[here[1]]} {here[1]}")
                self._end()
            emitted[id] = _DONE

    def _emit_again(self, id: int, inside: int) -> None:
        """Type ``id`` is needed while it is being printed: a declaration will do."""
        if self._forward[id]:
            return
        here = self._c.value(id)
        if here[0] in (t.STRUCT, t.UNION):
            if id == inside:
                return
            if not here[1]:
                self._graph.fail(id, "an anonymous struct contains itself")
            self._c.out.append(self._c.composite_head(id, here))
            self._end()
        else:
            self._typedef(id)
        self._forward[id] = 1

    def _emit_composite(self, id: int, inside: int) -> None:
        here = self._c.value(id)
        top = inside == 0
        self._emitted[id] = _BUSY
        if top or not here[1]:
            outer = id if here[1] else inside
            self._down(id)
            for member in here[3]:
                self._emit(member[1], outer)
            self._depth -= 1
        elif not self._forward[id] and id != inside:
            self._c.out.append(self._c.composite_head(id, here))
            self._end()
            self._forward[id] = 1
        if top:
            self._c.composite(id, here, 0)
            self._end()
            self._emitted[id] = _DONE
        else:
            self._emitted[id] = _NOT
