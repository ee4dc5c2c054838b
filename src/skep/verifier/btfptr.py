"""Pointers to kernel structs: members are read through their types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.errors import BtfError
from skep.verifier import kinds as k
from skep.verifier import tnum
from skep.verifier.nullness import is_trusted
from skep.verifier.ptr import Ptr, btf_of
from skep.verifier.strict import no_kernel_memory
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.verifier.env import Env

#: members that are as good as the pointer they are read through, by struct (verifier.c, __safe_*)
_RCU: Final = {
    "task_struct": ("cpus_ptr", "cgroups", "real_parent", "group_leader"),
    "cgroup": ("kn",),
    "css_set": ("dfl_cgrp",),
    "cgroup_subsys_state": ("cgroup",),
}
_RCU_OR_NULL: Final = {"mm_struct": ("exe_file",), "sk_buff": ("sk",), "request_sock": ("sk",)}
_TRUSTED: Final = {
    "bpf_iter_meta": ("seq",),
    "bpf_iter__task": ("meta", "task"),
    "linux_binprm": ("file",),
    "file": ("f_inode",),
    "dentry": ("d_inode",),
}
_TRUSTED_OR_NULL: Final = {
    "socket": ("sk",),
    "vm_area_struct": ("vm_mm", "vm_file"),
    "dentry": ("d_inode",),
}
#: before, programs were held to see no dentry without an inode
_NEGATIVE_DENTRIES: Final = (6, 17)
_TRUSTING: Final = k.MEM_ALLOC | k.PTR_TRUSTED | k.NON_OWN_REF


def check_access(env: Env, reg: int, p: Ptr, off: int, size: int, write: bool) -> Value | None:
    """A load (or store) through a pointer to a struct; what the load gives, None for a number."""
    from skep.verifier.facts import btfwalk

    btf = p.obj
    if btf is None:
        env.reject(f"R{reg} invalid mem access '{k.kind_name(p.type)}'")
    types = btf_of(p)
    name = types[p.aux].name
    alloc = bool(p.type & k.MEM_ALLOC)
    no_kernel_memory(env, f"'struct {name}'")
    if not env.leaks:
        env.reject(f"'struct {name}' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN")
    if not env.subject.gpl_compatible and not alloc:
        env.reject(f"Cannot access kernel 'struct {name}' from non-GPL compatible program")
    if off < 0:
        env.reject(f"R{reg} is ptr_{name} invalid negative access: off={off}")
    if not p.var.const or p.var.tv:
        text = tnum.text(p.var.tv, p.var.tm)
        env.reject(f"R{reg} is ptr_{name} invalid variable offset: off={off}, var_off={text}")
    if p.type & k.MEM_USER:
        env.reject(f"R{reg} is ptr_{name} access user memory: off={off}")
    if p.type & k.MEM_PERCPU:
        env.reject(f"R{reg} is ptr_{name} access percpu memory: off={off}")
    if write:
        if p.type & k.PTR_UNTRUSTED:
            env.reject("only read is supported")
        if not alloc:
            from skep.verifier.facts.struct_writes import check_struct_write

            check_struct_write(env, types, p, off, size)
            return None
    if alloc:
        from skep.verifier.facts.records import check_special_alloc

        check_special_alloc(env, types, p, off, size)
        if write:
            found = btfwalk.struct_access(types, p.aux, off, size, alloc=True)
            if found.what == btfwalk.ERROR:
                env.reject(found.reason)
            return None
    key = (id(types), p.aux, off, size, alloc)
    found = env.walk_memo.get(key) or btfwalk.struct_access(
        types, p.aux, off, size, alloc=alloc, kernel=env.kernel
    )
    env.walk_memo[key] = found
    if found.what == btfwalk.ERROR:
        env.reject(found.reason)
    if found.what == btfwalk.UNTRUSTED:
        return env.ptrs.make(k.PTR_TO_MEM | k.MEM_RDONLY | k.PTR_UNTRUSTED)
    if found.what != btfwalk.POINTER:
        return None
    return loaded(env, p, found.btf_id, found.flags, found.field)


def loaded(env: Env, p: Ptr, btf_id: int, flags: int, field: str) -> Value:
    """A pointer read from member ``field`` of the struct that ``p`` points to."""
    flag = flags
    types = btf_of(p)
    if p.type & k.PTR_UNTRUSTED:
        flag = k.PTR_UNTRUSTED
    elif is_trusted(p) or p.type & k.MEM_RCU:
        outer = types[p.aux].name
        if field in _TRUSTED.get(outer, ()) and not (outer == "dentry" and env.kernel >= _NEGATIVE_DENTRIES):
            flag |= k.PTR_TRUSTED
        elif field in _TRUSTED_OR_NULL.get(outer, ()):
            flag |= k.PTR_TRUSTED | k.PTR_MAYBE_NULL
        elif env.in_rcu() and not p.type & k.PTR_MAYBE_NULL:
            if field in _RCU.get(outer, ()):
                flag |= k.MEM_RCU
            elif flag & k.MEM_RCU or field in _RCU_OR_NULL.get(outer, ()):
                flag |= k.MEM_RCU | k.PTR_MAYBE_NULL
                if field in _RCU_OR_NULL.get(outer, ()):
                    flag &= ~k.PTR_UNTRUSTED
            elif not flag & (k.MEM_PERCPU | k.MEM_USER):
                flag &= ~(_TRUSTING | k.MEM_RCU)
        else:
            flag = k.PTR_UNTRUSTED
    else:
        flag &= ~(_TRUSTING | k.MEM_RCU)
    id = env.new_id() if flag & k.PTR_MAYBE_NULL else 0
    return env.ptrs.make(k.PTR_TO_BTF_ID | flag, id=id, aux=btf_id, obj=types)


def check_map_pointer(env: Env, reg: int, p: Ptr, off: int, size: int, write: bool) -> Value | None:
    """A load from the map itself (``struct bpf_map``)."""
    from skep.verifier.facts import btfwalk
    from skep.verifier.facts.map_structs import map_struct
    from skep.verifier.subject import MapFacts

    row = p.obj
    assert isinstance(row, MapFacts)
    types = env.subject.types
    if types is None:
        env.reject("map_ptr access not supported without CONFIG_DEBUG_INFO_BTF")
    name = map_struct(row.type)
    try:
        struct_id = types.require(name, 4)
    except BtfError:
        env.reject(f"map_ptr access not supported for map type {row.type}")
    no_kernel_memory(env, f"'struct {name}'")
    if not env.leaks:
        env.reject(f"'struct {name}' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN")
    if off < 0:
        env.reject(f"R{reg} is {name} invalid negative access: off={off}")
    if write:
        env.reject(f"only read from {name} is supported")
    found = btfwalk.struct_access(types, struct_id, off, size)
    if found.what == btfwalk.ERROR:
        env.reject(found.reason)
    if found.what != btfwalk.POINTER:
        return None
    id = env.new_id() if found.flags & k.PTR_MAYBE_NULL else 0
    return env.ptrs.make(k.PTR_TO_BTF_ID | found.flags, id=id, aux=found.btf_id, obj=types)
