"""Kernel pointers kept in map values: loading them, and what may be stored or exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier.facts import records as rec
from skep.verifier.facts.btfwalk import ids_match
from skep.verifier.precision import mark_precise
from skep.verifier.ptr import Ptr, btf_of
from skep.verifier.stack import is_null
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env
    from skep.verifier.facts.records import Field

#: kernel objects that stay while RCU is held
_RCU_PROTECTED: Final = frozenset(
    ("prog_test_ref_kfunc", "cgroup", "bpf_cpumask", "task_struct", "bpf_crypto_ctx")
)
_LDX: Final = 1
_ST: Final = 2


def pointee(env: Env, field: Field) -> tuple[Btf, int]:
    """What a kernel pointer points to: a struct of the kernel's when it has one of that name."""
    types = env.subject.types
    value = field.btf[field.btf_id]
    if types is not None and types is not field.btf:
        found = types.find(value[1], value[0])
        if found is not None:
            return types, found
    return field.btf, field.btf_id


def _in_kernel(env: Env, btf: object) -> bool:
    return btf is env.subject.types


def check_kptr_access(env: Env, reg: int, value_reg: int, field: Field, write: bool) -> Value | None:
    """A load (its value) or store of a kernel pointer in a map's value."""
    insn = env.code[env.pc]
    if insn.opcode >> 5 != 3:  # BPF_MEM
        env.reject("kptr in map can only be accessed using BPF_MEM instruction mode")
    if write and field.kind & (rec.KPTR_REF | rec.KPTR_PERCPU):
        env.reject("store to referenced kptr disallowed")
    if write and field.kind == rec.UPTR:
        env.reject("store to uptr disallowed")
    btf, btf_id = pointee(env, field)
    if not write:
        if field.kind == rec.UPTR:
            size = btf.size_of(btf_id)
            return env.ptrs.make(k.PTR_TO_MEM | k.PTR_MAYBE_NULL, id=env.new_id(), aux=size)
        flags = _loaded_flags(env, field, btf, btf_id)
        return env.ptrs.make(k.PTR_TO_BTF_ID | flags, id=env.new_id(), aux=btf_id, obj=btf)
    if insn.opcode & 7 == _ST:
        if insn.imm:
            env.reject(f"BPF_ST imm must be 0 when storing to kptr at off={field.off}")
    elif not is_null(env.state.regs[value_reg]):
        match_kptr(env, field, value_reg)
    elif env.mended:
        mark_precise(env, value_reg)  # another number must not be taken for it
    return None


def _loaded_flags(env: Env, field: Field, btf: Btf, btf_id: int) -> int:
    flags = k.PTR_MAYBE_NULL
    own = not _in_kernel(env, btf)
    safe = field.kind == rec.KPTR_PERCPU or (
        field.kind == rec.KPTR_REF and (own or btf[btf_id][1] in _RCU_PROTECTED)
    )
    if not (safe and env.in_rcu()):
        return flags | k.PTR_UNTRUSTED
    flags |= k.MEM_RCU
    if field.kind == rec.KPTR_PERCPU:
        flags |= k.MEM_PERCPU
    elif own:
        flags |= k.MEM_ALLOC
    if own and rec.record_of(btf, btf_id).has(rec.GRAPH_NODE):
        flags |= k.NON_OWN_REF
    return flags


def match_kptr(env: Env, field: Field, reg: int) -> None:
    """The pointer in ``reg`` may be stored in ``field`` (map_kptr_match_type)."""
    from skep.verifier.mem import check_fixed_pointer

    p = env.state.regs[reg]
    btf, btf_id = pointee(env, field)
    flags = k.PTR_MAYBE_NULL | k.PTR_TRUSTED | k.MEM_RCU
    name = ""
    if isinstance(p, Ptr) and p.type & k.BASE_MASK == k.PTR_TO_BTF_ID and not _in_kernel(env, p.obj):
        flags = k.PTR_MAYBE_NULL | k.MEM_ALLOC
        if field.kind == rec.KPTR_PERCPU:
            flags |= k.MEM_PERCPU
    elif field.kind == rec.KPTR_UNREF:
        flags |= k.PTR_UNTRUSTED
    if (
        isinstance(p, Ptr)
        and p.type & k.BASE_MASK == k.PTR_TO_BTF_ID
        and not p.type & ~k.BASE_MASK & ~flags
        and p.obj is not None
        and (not env.mended or (field.kind == rec.KPTR_PERCPU) == bool(p.type & k.MEM_PERCPU))
    ):
        own = btf_of(p)
        name = own[p.aux].name
        check_fixed_pointer(env, reg, p, True)
        if ids_match(own, p.aux, p.off, btf, btf_id, field.kind != rec.KPTR_UNREF):
            return
    wanted = btf[btf_id][1]
    text = f"invalid kptr access, R{reg} type={k.kind_name(p.type)}{name} expected=ptr_{wanted}"
    if field.kind == rec.KPTR_UNREF:
        text += f" or untrusted_ptr_{wanted}"
    env.reject(text)
