"""The storage of the cgroup that a program is attached to."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from skep.lang.arguments import named
from skep.lang.helpers import check
from skep.lang.maps import MapType
from skep.lang.values import PtrType, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_GET: Final = 81


class CgroupStorageType(MapType):
    """``storage.get()``: a reference that is never None, for the kernel makes the value when it attaches."""

    def do_get(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        named(c, "get", (), 0, args, kwargs, node)
        check(c, _GET, "get_local_storage", node)
        kind = self.map.kind
        first = c.unit.cgroup_storages.setdefault((c.program, kind), self.symbol)
        if c.program is not None and first != self.symbol:
            raise c.error(
                node,
                f"a program has one {type(self.map).__name__}, and this one has {first} already",
                "put both values in one struct"
                + ("" if kind.startswith("percpu") else ", or one of them in a bpf.PerCpuCgroupStorage"),
            )
        got = c.em.op(f"call align 8 ptr inttoptr (i64 {_GET} to ptr)(ptr {v.ir}, i64 0)")
        space = "percpu" if kind.startswith("percpu") else "map"
        return Value(PtrType(c.unit.maps.value(self.map), space), got)

    do_lookup = do_get
