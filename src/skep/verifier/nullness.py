"""Pointers that may be NULL: what they are once that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier.facts.records import has_spin_lock, has_timer
from skep.verifier.pointers import MAX_VAR_OFF
from skep.verifier.ptr import Ptr
from skep.verifier.subject import MapFacts
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.verifier.env import Env

_XSKMAP: Final = 17
_SOCKMAP: Final = 15
_SOCKHASH: Final = 18
_NEVER_NULL: Final = frozenset(
    (
        k.PTR_TO_SOCKET,
        k.PTR_TO_TCP_SOCK,
        k.PTR_TO_XDP_SOCK,
        k.PTR_TO_BUF,
        k.PTR_TO_MAP_VALUE,
        k.PTR_TO_MAP_KEY,
        k.PTR_TO_SOCK_COMMON,
        k.PTR_TO_MEM,
        k.CONST_PTR_TO_MAP,
    )
)
TRUSTED_FLAGS: Final = k.MEM_ALLOC | k.PTR_TRUSTED | k.NON_OWN_REF
_UNSAFE: Final = ~TRUSTED_FLAGS & ~k.BASE_MASK


def is_trusted(p: Ptr) -> bool:
    """The kernel vouches for the object (is_trusted_reg)."""
    if p.ref:
        return True
    base = p.type & k.BASE_MASK
    if base in (k.PTR_TO_SOCKET, k.PTR_TO_SOCK_COMMON, k.PTR_TO_TCP_SOCK, k.CONST_PTR_TO_MAP):
        return not p.type & _UNSAFE
    return bool(p.type & TRUSTED_FLAGS) and not p.type & _UNSAFE


def not_null(env: Env, value: Value) -> bool:
    """The value is known to be no NULL pointer."""
    if not isinstance(value, Ptr) or value.type & k.PTR_MAYBE_NULL:
        return False
    if value.var.smin <= -MAX_VAR_OFF or value.var.smax >= MAX_VAR_OFF:
        return False
    base = value.type & k.BASE_MASK
    if base == k.PTR_TO_MEM and value.type & k.PTR_UNTRUSTED:
        return False
    if base == k.CONST_PTR_TO_MAP and env.kernel < (6, 12):
        return False
    return base in _NEVER_NULL or (base == k.PTR_TO_BTF_ID and is_trusted(value))


def checked(env: Env, p: Ptr) -> Ptr:
    """``p`` once it is known not to be NULL."""
    if p.type & k.BASE_MASK != k.PTR_TO_MAP_VALUE:
        return env.ptrs.retype(p, p.type & ~k.PTR_MAYBE_NULL)
    row = p.obj
    assert isinstance(row, MapFacts)
    if row.inner is not None:
        uid = p.id if has_timer(row.inner) else 0
        return env.ptrs.make(k.CONST_PTR_TO_MAP, p.off, p.var, p.id, p.ref, uid, row.inner)
    if row.type == _XSKMAP:
        return env.ptrs.make(k.PTR_TO_XDP_SOCK, p.off, p.var, p.id, p.ref)
    if row.type in (_SOCKMAP, _SOCKHASH):
        return env.ptrs.make(k.PTR_TO_SOCKET, p.off, p.var, p.id, p.ref)
    return env.ptrs.retype(p, k.PTR_TO_MAP_VALUE)


def may_hold_lock(p: Ptr) -> bool:
    """The object may have a spin lock: its id must be kept to tell which (reg_may_point_to_spin_lock)."""
    return has_spin_lock(p)
