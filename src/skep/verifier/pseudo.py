"""What a 64-bit immediate stands for: maps, addresses in their values, kernel variables, functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.errors import BtfError
from skep.isa import opcodes as op
from skep.isa.ebpf import Insn as RawInsn
from skep.verifier import kinds as k
from skep.verifier.admission import check_map
from skep.verifier.indirect import check_table
from skep.verifier.strict import no_kernel_memory
from skep.verifier.subprogs import subprog_at
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env
    from skep.verifier.memory_insns import LoadImm64
    from skep.verifier.subject import MapFacts

_MAX_OFF: Final = 1 << 29
_ARENA: Final = 33
#: maps whose values have an address: array (of one element), arena, and the insn array
_TABLE: Final = 34
_DIRECT: Final = (2, _ARENA, _TABLE)
_TRACING: Final = frozenset((5, 7, 17, 24, 26, 11))


def check_pseudo(env: Env, pc: int, raw: RawInsn, tail: RawInsn) -> None:
    """A reference that can be resolved at all; before any path is followed."""
    env.pc = pc
    src = raw.src
    if src == op.BPF_PSEUDO_BTF_ID:
        _btf_variable(env, raw.imm, tail.imm)
        return
    if src == op.BPF_PSEUDO_FUNC:
        return
    if src in (op.BPF_PSEUDO_MAP_FD, op.BPF_PSEUDO_MAP_IDX):
        if tail.imm:
            env.reject("unrecognized bpf_ld_imm64 insn")
    elif src not in (op.BPF_PSEUDO_MAP_VALUE, op.BPF_PSEUDO_MAP_IDX_VALUE):
        env.reject("unrecognized bpf_ld_imm64 insn")
    if not 0 <= raw.imm < len(env.subject.maps):
        env.reject(f"fd {raw.imm} is not pointing to valid bpf_map")
    row = env.subject.maps[raw.imm]
    check_map(env, row)
    if row.type == _TABLE:
        check_table(env, row)
    if row.type == _ARENA and not (env.leaks and env.bpf):
        env.reject("CAP_BPF and CAP_PERFMON are required to use arena")
    if src in (op.BPF_PSEUDO_MAP_VALUE, op.BPF_PSEUDO_MAP_IDX_VALUE):
        _check_direct(env, row, tail.imm & 0xFFFF_FFFF)


def _check_direct(env: Env, row: MapFacts, off: int) -> None:
    if off >= _MAX_OFF:
        env.reject(f"direct value offset of {off} is not allowed")
    if row.type not in _DIRECT:
        env.reject("no direct value access support for this map type")
    if row.type == _TABLE:
        if off & 7 or off >= row.extent:
            env.reject(f"invalid access to map value pointer, value_size={row.value_size} off={off}")
        return
    size = row.value_size if row.type != _ARENA else row.max_entries * 4096
    if (row.type != _ARENA and row.max_entries != 1) or off >= size:
        env.reject(f"invalid access to map value pointer, value_size={row.value_size} off={off}")


def load_pseudo(env: Env, insn: LoadImm64) -> Value:
    """The value that the instruction loads, each time."""
    src = insn.src
    tail = env.subject.insns[insn.pc + 1]
    if src == op.BPF_PSEUDO_BTF_ID:
        return _btf_variable(env, insn.imm, tail.imm)
    if src == op.BPF_PSEUDO_FUNC:
        number = subprog_at(env, insn.pc + insn.imm + 1)
        if not env.subject.funcs:
            env.reject("missing btf func_info")
        if number == 0:
            env.reject("callback function cannot be the main program")
        if env.subprogs[number].is_global:
            env.reject("callback function not static")
        env.func_refs[insn.pc] = number
        return env.ptrs.make(k.PTR_TO_FUNC, aux=number)
    row = env.subject.maps[insn.imm]
    if src in (op.BPF_PSEUDO_MAP_VALUE, op.BPF_PSEUDO_MAP_IDX_VALUE):
        if row.type == _ARENA:
            return env.scalars.unknown
        return env.ptrs.make(k.PTR_TO_MAP_VALUE, off=tail.imm & 0xFFFF_FFFF, obj=row)
    return env.ptrs.make(k.CONST_PTR_TO_MAP, obj=row)


def _btf_variable(env: Env, id: int, module: int) -> Value:
    types = env.subject.types
    if types is None:
        env.reject("kernel is missing BTF, make sure CONFIG_DEBUG_INFO_BTF=y is specified in Kconfig.")
    if not 0 < id < len(types):
        env.reject(f"ldimm64 insn specifies invalid btf_id {id}.")
    value = types[id]
    no_kernel_memory(env, f"'{value[1]}'")
    if value[0] not in (12, 14):
        env.reject(f"pseudo btf_id {id} in ldimm64 isn't KIND_VAR or KIND_FUNC")
    if value[0] == 12:
        return env.ptrs.make(k.PTR_TO_MEM | k.MEM_RDONLY, aux=0)
    target = types.resolve(value[2])
    if _is_percpu(env, types, id):
        return env.ptrs.make(k.PTR_TO_BTF_ID | k.MEM_PERCPU, aux=value[2], obj=types)
    if types[target][0] in (4, 5):
        return env.ptrs.make(k.PTR_TO_BTF_ID, aux=value[2], obj=types)
    try:
        size = types.size_of(target)
    except BtfError:
        env.reject(f"ldimm64 unable to resolve the size of type '{types[target][1]}': -22")
    return env.ptrs.make(k.PTR_TO_MEM | k.MEM_RDONLY, aux=size)


def _is_percpu(env: Env, types: Btf, id: int) -> bool:
    if env.percpu is None:
        section = types.find(".data..percpu", 15)
        env.percpu = frozenset([row[0] for row in types[section][3]]) if section is not None else frozenset()
    return id in env.percpu
