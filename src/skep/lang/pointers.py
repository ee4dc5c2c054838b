"""Pointers to the kernel's structs kept in memory: keys, values and fields of type ``bpf.sock``.

Kept, such a pointer is an address, which the verifier does not follow: what it points to is read by
bpf_probe_read_kernel, as that of any other pointer of the kernel's is that it does not know.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from skep.bpf import types as t
from skep.errors import BtfError
from skep.lang.core_refs import KernelRef
from skep.lang.kernel_types import DeclaredStruct, KernelType, KStruct, Types
from skep.lang.layout import ScalarStorage, Storage
from skep.lang.values import NoneType, Value

if TYPE_CHECKING:
    from skep.lang.debug import Debug
    from skep.lang.walk import Walker


class KernelPointerStorage(ScalarStorage):
    """The address of a struct of the kernel's; it loads as a reference to that."""

    size = align = 8

    def __init__(self, kind: KernelType) -> None:
        self.kind = kind
        self.name = f"{kind.name} *"

    def same(self, other: Storage) -> bool:
        return isinstance(other, KernelPointerStorage) and other.kind.name == self.kind.name

    def describe(self, di: Debug) -> str:
        return di.pointer("null")

    def load(self, c: Walker, address: str, node: ast.AST, *, align: int = 0, space: str = "mem") -> Value:
        got = c.em.op(f"load ptr, ptr {address}, align {align or 8}")
        return Value(KernelRef(self.kind, "kernel"), got)

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        kind = value.type
        if isinstance(kind, NoneType):
            got = "null"
        elif isinstance(kind, KernelRef):
            if isinstance(kind.kind, KStruct) and _stem(kind.kind) != _stem(self.kind):
                raise c.error(
                    node, f"this is a {kind.kind.name}, kept as a {self.name}", "say so: bpf.cast(T, pointer)"
                )
            got = kind.address(c, value, node)
        else:
            number = c.as_int(value, node, f"to store it as a {self.name}")
            got = c.em.op(f"inttoptr i64 {number.ir} to ptr")
        c.em.do(f"store ptr {got}, ptr {address}, align {align or 8}")


def _stem(kind: KernelType) -> str:
    return kind.name.split(" ")[-1].split("___")[0]


def storage(unit: Any, record: Any) -> Storage | None:
    """The storage of a pointer to what ``record`` names; None when the kernel has no such struct."""
    if not isinstance(record, t.Named):
        return KernelPointerStorage(DeclaredStruct(record.__bpf__, unit.types))
    if unit.types is None:
        from skep.btf.read import Btf

        try:
            unit.types = Types(Btf.kernel())
        except BtfError:
            return None
    kind = unit.types.by_name(record.name)
    return KernelPointerStorage(kind) if isinstance(kind, KStruct) else None
