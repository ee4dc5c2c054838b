"""struct_ops: a struct of the kernel's whose functions are programs, as a global variable of that type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skep.bpf.programs import Program
from skep.errors import BtfError, SkepError
from skep.lang.debug import quote
from skep.lang.globalvars import quote_bytes
from skep.lang.kernel_types import KArray, KFunc, KInt, KPtr, KStruct, Types

if TYPE_CHECKING:
    from skep.bpf.maps import StructOps
    from skep.lang.unit import Unit


def define(unit: Unit, map: StructOps, symbol: str) -> None:
    """Define the variable. Raises SkepError for a struct or member that the kernel does not have."""
    kind = _struct(unit, map.struct, symbol)
    di = unit.di
    function = di.pointer(di.node("!DISubroutineType(types: " + di.node("!{null}") + ")"))
    types: list[str] = []
    values: list[str] = []
    members: list[str] = []
    at = 0
    for name, given in map.members.items():
        field = kind.field(name)
        if field is None:
            raise SkepError(f"{symbol}: the kernel's {kind.name} has no member {name!r}")
        of = field.type
        if isinstance(given, Program):
            if not (isinstance(of, KPtr) and isinstance(of.to, KFunc)):
                raise SkepError(f"{symbol}.{name} is no function: {of.name}")
            unit.wanted(given)
            node, ir, value, size = function, "ptr", f"ptr @{given.__name__}", 8
        elif isinstance(of, KArray) and isinstance(given, (bytes, str)):
            data = given.encode() if isinstance(given, str) else given
            if len(data) >= of.size:
                raise SkepError(f"{symbol}.{name} has room for {of.size - 1} bytes, {len(data)} are given")
            element = di.base("char", 8, "signed_char")
            node, ir, size = di.array(element, 8 * of.size, of.count), f"[{of.size} x i8]", of.size
            value = f"{ir} c{quote_bytes(data.ljust(of.size, bytes(1)))}"
        elif isinstance(of, KInt) and isinstance(given, int):
            low, high = of.bounds
            if not low <= given <= high:
                raise SkepError(f"{symbol}.{name}: {given} does not fit {of.name}")
            encoding = "boolean" if of.boolean else "signed" if of.signed else "unsigned"
            node = di.base(of.name, 8 * of.size, encoding)
            ir, size, value = f"i{8 * of.size}", of.size, f"i{8 * of.size} {given:d}"
        else:
            raise SkepError(f"{symbol}.{name}: {given!r} is no {of.name}")
        members.append(
            di.node(
                f"!DIDerivedType(tag: DW_TAG_member, name: {quote(name)}, baseType: {node}, "
                f"size: {8 * size}, offset: {8 * at})"
            )
        )
        types.append(ir)
        values.append(value)
        at += size
        if at % 8:
            types.append(f"[{-at % 8} x i8]")
            values.append(f"{types[-1]} zeroinitializer")
            at += -at % 8
    elements = di.node("!{" + ", ".join(members) + "}")
    struct = di.node(
        f"!DICompositeType(tag: DW_TAG_structure_type, name: {quote(kind.local)}, size: {8 * at}, "
        f"elements: {elements})"
    )
    section = ".struct_ops.link" if map.linked else ".struct_ops"
    unit.top.append(
        f"@{symbol} = global <{{ {', '.join(types)} }}> <{{ {', '.join(values)} }}>, "
        f'section "{section}", align 8, !dbg {di.variable(symbol, 1, struct)}'
    )


def _struct(unit: Unit, name: str, symbol: str) -> KStruct:
    unit_: Any = unit
    if unit_.types is None:
        from skep.btf.read import Btf

        try:
            unit_.types = Types(Btf.kernel())
        except BtfError as error:
            raise SkepError(f"{symbol}: the types of the kernel are needed ({error.reason})") from None
    kind = unit_.types.by_name(name)
    if not isinstance(kind, KStruct):
        raise SkepError(
            f"{symbol}: the kernel has no struct {name!r}: give skep build --btf the types of one that has it"
        )
    return kind
