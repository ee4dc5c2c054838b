"""Structs of <linux/bpf.h> that helpers take and fill: ``bpf.bpf_fib_lookup(ifindex=1)``."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from skep.bpf.types import IntType as IntRecord
from skep.lang.aggregates import TextStorage
from skep.lang.layout import IntStorage, Storage
from skep.lang.values import INT, PtrType, Value
from skep.uapi.contexts import CONTEXTS

if TYPE_CHECKING:
    from skep.lang.debug import Debug
    from skep.lang.walk import Walker

#: fields in network order
_BIG: Final = {
    "bpf_fib_lookup": {"sport": 16, "dport": 16, "flowinfo": 32, "ipv4_src": 32, "ipv4_dst": 32,
                       "h_vlan_proto": 16},
    "bpf_sock_tuple": {"ipv4.saddr": 32, "ipv4.daddr": 32, "ipv4.sport": 16, "ipv4.dport": 16,
                       "ipv6.sport": 16, "ipv6.dport": 16},
    "bpf_redir_neigh": {"ipv4_nh": 32},
    "bpf_xfrm_state": {"spi": 32, "remote_ipv4": 32},
}  # fmt: skip


def number_at(c: Walker, at: str, size: int, signed: bool) -> Value:
    """The integer of ``size`` bytes at an address."""
    bits = 8 * size
    got = c.em.op(f"load i{bits}, ptr {at}, align {size}")
    if bits < 64:
        got = c.em.op(f"{'sext' if signed else 'zext'} i{bits} {got} to i64")
    lo = -(1 << bits - 1) if signed else 0
    return Value(INT, got, lo, (1 << bits - int(signed)) - 1)


class LayoutStorage(Storage):
    """A struct of `skep.uapi.contexts`; with ``prefix`` a struct within it (``ipv4.``)."""

    def __init__(self, struct: str, prefix: str = "") -> None:
        self.struct = struct
        self.prefix = prefix
        self.layout = CONTEXTS[struct]
        self.name = f"struct {struct}"
        self.size = self.layout.size
        self.align = 8

    def same(self, other: Storage) -> bool:
        return isinstance(other, LayoutStorage) and (other.struct, other.prefix) == (self.struct, self.prefix)

    def describe(self, di: Debug) -> str:
        return di.array(di.base("unsigned char", 8, "unsigned_char"), 8 * self.size, self.size)

    def _field(self, c: Walker, name: str, node: ast.AST) -> tuple[int, Storage]:
        """(offset, type) of a field."""
        full = self.prefix + name
        found = self.layout.fields.get(full)
        if found is None:
            if any(known.startswith(full + ".") for known in self.layout.fields):
                return 0, LayoutStorage(self.struct, full + ".")
            known = [k.removeprefix(self.prefix) for k in self.layout.fields if k.startswith(self.prefix)]
            raise c.error(node, f"{self.name} has no field {name!r}", c.nearest(name, known))
        offset, size, count = found
        if count:
            return offset, TextStorage(abs(size) * count, False)
        big = _BIG.get(self.struct, {}).get(full, 0)
        bits = 8 * abs(size)
        record = IntRecord(
            f"be{bits}" if big else f"{'s' if size < 0 else 'u'}{bits}", bits, size < 0, bool(big)
        )
        return offset, IntStorage(record)

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        offset, of = self._field(c, name, node)
        at = c.offset(v.ir, offset)
        return of.load(c, at, node) if of.scalar else Value(PtrType(of, "stack"), at)

    def ref_set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        offset, of = self._field(c, name, node)
        of.store(c, c.offset(v.ir, offset), new, node)


def construct(c: Walker, struct: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """A zeroed struct on the stack with the fields that are given by name."""
    if args:
        raise c.error(node, f"the fields of struct {struct} are given by name", f"bpf.{struct}(family=2)")
    of = LayoutStorage(struct)
    room = c.buffer(of.size, 8)
    c.zero(room, of.size, 8)
    made = Value(PtrType(of, "stack"), room)
    for name, value in kwargs.items():
        of.ref_set_attr(c, made, name, value, node)
    return made
