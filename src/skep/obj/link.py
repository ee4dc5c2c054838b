"""Putting a program together: its subprograms behind it, calls and types relocated.

Subprograms come in the order in which libbpf appends them (each at its first call, then what it calls), so
that the kernel shows the same program whoever loaded it.
"""

from __future__ import annotations

import struct
from sys import byteorder

from skep.errors import LinkError, UnresolvedSymbol
from skep.isa.opcodes import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC
from skep.obj.linked import ExternRef, JumpRef, LinkedProgram, MapRef
from skep.obj.spec import LIBRARY as NAMES
from skep.obj.spec import ObjectSpec, Reloc, SubprogSpec
from skep.uapi.enums import ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from skep.obj.core import CoreTarget

_EXCEPTION: Final = "exception_callback:"
_DECL_TAG: Final = 17  # skep.btf.types, which plain programs do without
_LITTLE: Final = byteorder == "little"


def link_program(spec: ObjectSpec, name: str, *, target: CoreTarget | None = None) -> LinkedProgram:
    """Program ``name`` of ``spec`` with everything it calls.

    ``target`` are the types that CO-RE relocations are answered from: the running kernel's by default, read
    only when a relocation asks. Pass one `CoreTarget` for all programs of an object: it remembers answers.
    Raises LinkError for a name that is no program, UnresolvedSymbol for a function or variable nobody
    defines, CoreReloError where libbpf too refuses an object (ambiguous types); a relocation that merely
    has no answer is recorded in ``failed_relos``.
    """
    program = spec.programs.get(name)
    if program is None:
        known = ", ".join(spec.programs) or "none"
        raise LinkError(f"{_where(spec)}: no program {name!r}; there are: {known}")
    if program.type == ProgType.UNSPEC:
        raise LinkError(
            f"{_where(spec)}: program {name!r}: section {program.section!r} says no program type: "
            f"set spec.programs[{name!r}].type, or give `type TYPE` to skep prog load"
        )
    return _Linker(spec, LinkedProgram(spec, program), target).run(name)


def _where(spec: ObjectSpec) -> str:
    return spec.path or spec.name or "object"


class _Linker:
    def __init__(self, spec: ObjectSpec, linked: LinkedProgram, target: CoreTarget | None) -> None:
        self.spec = spec
        self.linked = linked
        self.target = target
        self.at: dict[str, int] = {}
        self.calls: list[tuple[int, str, int]] = []  # slot, function, pseudo source register
        self.has_types = spec.has_btf

    def run(self, name: str) -> LinkedProgram:
        linked = self.linked
        self.follow(name)
        callback = self.exception_callback(name)
        if callback is not None and callback not in self.at:
            self.follow(callback)
        code = linked.code
        for slot, function, pseudo in self.calls:
            struct.pack_into("=i", code, 8 * slot + 4, self.at[function] - slot - 1)
            at = 8 * slot + 1
            code[at] = code[at] & 0x0F | pseudo << 4 if _LITTLE else code[at] & 0xF0 | pseudo
        self.check_records()
        return linked

    def follow(self, name: str) -> None:
        """Append a function and what it refers to, depth first."""
        pending: list[Iterator[str]] = [self.append(name)]
        while pending:
            for called in pending[-1]:
                if called not in self.at:
                    pending.append(self.append(called))
                    break
            else:
                pending.pop()

    def exception_callback(self, name: str) -> str | None:
        """The function that the program's declaration tag says to call when it throws (Linux 6.7)."""
        function = self.spec.functions.get(name)
        if function is None or not function.btf_id or not self.spec.btf_mentions(_EXCEPTION):
            return None
        btf = self.spec.btf
        assert btf is not None
        found = [
            tag[1]
            for _, tag in btf.items()
            if tag[0] == _DECL_TAG
            and tag[2] == function.btf_id
            and tag[3] == -1
            and tag[1].startswith(_EXCEPTION)
        ]
        if len(found) != 1:
            return None  # of several the verifier complains
        callback: str = found[0].removeprefix(_EXCEPTION)
        known = self.spec.functions.get(callback)
        if known is None or not known.is_global:
            what = "no function of this object" if known is None else "not global"
            raise LinkError(f"{_where(self.spec)}: {name}: its exception callback {callback!r} is {what}")
        return callback

    def append(self, key: str) -> Iterator[str]:
        """Put a function at the end; gives the functions that it refers to, in order."""
        linked = self.linked
        base = self.at[key] = len(linked.code) // 8
        linked.subprogs.append((base, key))
        function = self.spec.functions.get(key)
        if function is None:
            self.append_library(key, base)
            return iter(())
        linked.code += function.code
        start = 8 * function.start
        if self.has_types:
            linked.func_infos.append((base, function.btf_id))
            linked.line_infos += [
                ((row[0] - start) // 8 + base, row[1], row[2], row[3]) for row in function.line_infos
            ]
        if function.core_relos:
            self.relocate_types(function, base)
        return iter(self.references(function, base))

    def append_library(self, name: str, base: int) -> None:
        from skep.obj.library import DISCARDED, code

        self.linked.code += code(name)
        if self.spec.btf is not None:
            from skep.obj.fixed_btf import library_func_id, library_name_offset

            plain = name.removesuffix(DISCARDED)
            text = library_name_offset(self.spec.btf, plain)
            self.linked.func_infos.append((base, library_func_id(self.spec.btf, plain)))
            self.linked.line_infos.append((base, text, text, 1 << 10))

    def references(self, function: SubprogSpec, base: int) -> list[str]:
        linked = self.linked
        called: list[str] = []
        for pc, kind, symbol, offset in function.relocs:
            slot = base + pc
            if kind == "map":
                linked.map_refs.append(MapRef(slot, symbol))
            elif kind == "data":
                linked.map_refs.append(MapRef(slot, symbol, offset))
            elif kind == "jumptable":
                linked.jump_refs.append(JumpRef(slot, self.jump_table(function, base, symbol), offset))
            elif kind in ("call", "func"):
                self.calls.append((slot, symbol, BPF_PSEUDO_CALL if kind == "call" else BPF_PSEUDO_FUNC))
                called.append(symbol)
            else:
                called += self.extern(function, Reloc(slot, kind, symbol, offset))
        return called

    def jump_table(self, function: SubprogSpec, base: int, key: str) -> tuple[int, ...]:
        """The slots of a jump table, counted from the program's start."""
        slots = tuple(slot - function.start for slot in self.spec.jump_tables[key])
        count = len(function.code) // 8
        outside = next((slot for slot in slots if not 0 <= slot < count), None)
        if outside is not None:
            raise LinkError(
                f"{_where(self.spec)}: {function.name}: jump table {key} leads to insn {outside} of {count}"
            )
        return tuple(slot + base for slot in slots)

    def extern(self, function: SubprogSpec, reloc: Reloc) -> tuple[str, ...]:
        extern = self.spec.externs[reloc.symbol]
        is_call = reloc.kind == "extern_call"
        if extern.kind == "unknown" and not extern.weak:
            if is_call and extern.name in NAMES:
                from skep.obj.library import variant

                base = self.at[function.name]
                chosen = variant(extern.name, function.insns, reloc.pc - base)
                self.calls.append((reloc.pc, chosen, BPF_PSEUDO_CALL))
                return (chosen,)
            raise UnresolvedSymbol(
                f"{_where(self.spec)}: {function.name} uses {extern.name!r}, which is not defined: "
                "link the object that defines it (skep link), or, if the kernel does, compile with -g"
            )
        self.linked.extern_refs.append(ExternRef(reloc.pc, extern.name, is_call))
        return ()

    def relocate_types(self, function: SubprogSpec, base: int) -> None:
        btf = self.spec.btf
        assert btf is not None
        from skep.obj.core import CoreTarget, relocate

        if self.target is None:
            self.target = CoreTarget.kernel()
        where = f"{_where(self.spec)}: {function.name}"
        self.linked.failed_relos += relocate(
            self.linked.code, base, function, self.target.resolver(btf), where
        )

    def check_records(self) -> None:
        """Leave out records that a kernel would refuse: those of functions must be complete."""
        linked = self.linked
        if not all(id for _, id in linked.func_infos):
            linked.func_infos.clear()
        lines = linked.line_infos
        starts = {row[0] for row in lines}
        if not linked.func_infos or not all(slot in starts for slot, _ in linked.subprogs):
            lines.clear()
        elif len(starts) != len(lines):
            linked.line_infos = [row for i, row in enumerate(lines) if not i or row[0] > lines[i - 1][0]]
