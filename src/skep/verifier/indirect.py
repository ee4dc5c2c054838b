"""Indirect jumps (``gotox``, Linux 6.19): tables of instructions, and where a jump through one may lead.

A table is a map of type INSN_ARRAY; an object has it in section .jumptables. A load from it gives a pointer
to an instruction (PTR_TO_INSN), which remembers where in the table it was read: a jump through it leads to
each entry that this may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.uapi.enums import MapType
from skep.verifier import kinds as k
from skep.verifier.insn import Insn
from skep.verifier.ptr import Ptr
from skep.verifier.subject import MapFacts

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.state import State

GOTOX: Final = op.BPF_JMP | op.BPF_JA | op.BPF_X
#: bytes of an entry, as programs see it
ENTRY: Final = 8
_INSN_ARRAY: Final = int(MapType.INSN_ARRAY)
_MAP_LOADS: Final = (
    op.BPF_PSEUDO_MAP_FD,
    op.BPF_PSEUDO_MAP_VALUE,
    op.BPF_PSEUDO_MAP_IDX,
    op.BPF_PSEUDO_MAP_IDX_VALUE,
)


class GotoX(Insn):
    """``gotox dst``. ``slots`` are all that the tables of its function name (filled in by the CFG check)."""

    __slots__ = ("slots",)

    def __init__(self, pc: int, dst: int) -> None:
        super().__init__(pc, GOTOX, dst, 0, 0, 0)
        self.slots: tuple[int, ...] = ()

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        p = st.regs[self.dst]
        if p.type != k.PTR_TO_INSN or not isinstance(p, Ptr):
            env.reject(f"R{self.dst} has type {k.kind_name(p.type)}, expected PTR_TO_INSN")
        row = p.obj
        assert isinstance(row, MapFacts) and row.table is not None
        first, last = (p.off + p.var.umin) // ENTRY, (p.off + p.var.umax) // ENTRY
        if last >= row.max_entries:
            what = f"R{self.dst} points to outside of jump table: [{first},{last}]"
            env.reject(f"{what} max_entries {row.max_entries}")
        *others, target = sorted(set(row.table[first : last + 1]))
        for other in others:
            env.push_branch(other, env.pc)
        return target


def slots_of(env: Env, pc: int, start: int, end: int) -> tuple[int, ...]:
    """Where the indirect jump at ``pc``, in the function ``start`` to ``end``-1, may lead, ascending."""
    found: set[int] = set()
    for table in _tables(env):
        if start <= min(table) < end:
            found.update(table)
    if not found:
        env.pc = pc
        env.reject(f"no jump tables found for subprog starting at {start}")
    if not all(start <= slot < end for slot in found):
        env.pc = pc
        env.reject(f"jump table for insn {pc} points outside of the subprog [{start},{end}]")
    return tuple(sorted(found))


def _tables(env: Env) -> list[tuple[int, ...]]:
    """The tables of the maps that the program names."""
    insns, maps = env.subject.insns, env.subject.maps
    used = {raw.imm for raw in insns if raw.opcode == op.LD_IMM64 and raw.src in _MAP_LOADS}
    rows = [maps[index] for index in sorted(used) if 0 <= index < len(maps)]
    return [row.table for row in rows if row.type == _INSN_ARRAY and row.table]


def check_table(env: Env, row: MapFacts) -> None:
    """Every entry is an instruction of the program, and not the second half of one."""
    insns = env.subject.insns
    table = row.table
    if table is not None and len(table) == row.max_entries:
        for slot in table:
            if not 0 <= slot < len(insns) or (slot and insns[slot - 1].opcode == op.LD_IMM64):
                break
        else:
            return
    env.reject("Failed to properly initialize insn array")


def load(env: Env, p: Ptr, off: int, size: int) -> Ptr:
    """What a load of ``size`` bytes at ``off`` from the table's start gives."""
    if size != ENTRY:
        env.reject(f"Invalid read of {size} bytes from insn_array")
    return env.ptrs.make(k.PTR_TO_INSN, off=off, var=p.var, obj=p.obj)
