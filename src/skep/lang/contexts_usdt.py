"""Arguments of USDT probes: read where the probe's note says they are.

The attacher puts the number of the probe's site in the program's cookie (Linux 5.15) and what the note says
in the map ``__bpf_usdt_specs``, laid out as <bpf/usdt.bpf.h> has it, so that libbpf attaches these programs
too. An argument is a constant, a register, or memory at registers plus an offset.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

from skep.bpf import maps as m
from skep.bpf import types as b
from skep.lang.contexts import Param
from skep.lang.contexts_args import annotated, of_type
from skep.lang.kernel_types import KInt
from skep.lang.values import Value
from skep.obj.sections import Section

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_MAX: Final = 12
_SLOT: Final = 16
_SITES: Final = 256
_VALUE, _KIND, _REGISTER, _SIGNED, _SHIFT = 0, 8, 12, 14, 15
_CONST, _REG, _, _SIB = range(4)


def arguments(c: Walker, section: Section, params: list[Param]) -> list[Value]:
    """The values of a USDT program's parameters, the probe's arguments in order."""
    if len(params) > _MAX:
        raise c.error(params[_MAX][2], f"a USDT probe has at most {_MAX} arguments", "take fewer")
    node = params[0][2]
    spec = _spec(c, node)
    made = []
    for i, (_, annotation, param) in enumerate(params):
        kind = annotated(c, annotation, param) or KInt("u64", 8, False)
        made.append(of_type(c, kind, _argument(c, spec, i), "user"))
    return made


def _maps(c: Walker, node: ast.AST) -> str:
    unit: Any = c.unit
    known = getattr(unit, "usdt_maps", None)
    if known is None:
        specs = m.Array(b.raw(_MAX * _SLOT + 16), _SITES, name="__bpf_usdt_specs")
        # Kernels before cookies find the site by address; libbpf asks for this map in any case.
        sites = m.Hash(b.s64, b.u32, max_entries=_SITES, name="__bpf_usdt_ip_to_spec_id")
        known = unit.usdt_maps = (specs, sites)
    names = [c.unit.maps.symbol(map, map.name or "") for map in known]
    return names[0]


def _spec(c: Walker, node: ast.AST) -> str:
    """The address of what is known of this site; the program ends where nothing is."""
    name = _maps(c, node)
    cookie = c.helper(174, [f"ptr {c.ctx}"])
    key = c.buffer(4, 8, "usdt site")
    c.em.do(f"store i32 {c.em.op(f'trunc i64 {cookie} to i32')}, ptr {key}, align 4")
    spec = c.em.op(f"call ptr inttoptr (i64 1 to ptr)(ptr @{name}, ptr {key})")
    c.abort_unless(c.em.op(f"icmp ne ptr {spec}, null"))
    return spec


def _argument(c: Walker, spec: str, number: int) -> str:
    """The argument as a 64-bit word, extended from its own size."""
    em = c.em
    slot = c.offset(spec, _SLOT * number)
    value = em.op(f"load i64, ptr {c.offset(slot, _VALUE)}, align 8")
    kind = em.op(f"load i8, ptr {c.offset(slot, _KIND)}, align 8")
    room = c.buffer(8, 8, "usdt argument")
    em.do(f"store i64 {value}, ptr {room}, align 8")
    done, reg, index, memory = c.label("arg"), c.label("reg"), c.label("index"), c.label("memory")
    em.cond(em.op(f"icmp eq i8 {kind}, {_CONST}"), done, reg)
    em.place(reg)
    offset = em.op(f"load i16, ptr {c.offset(slot, _REGISTER)}, align 2")
    base = _register(c, em.op(f"zext i16 {offset} to i64"))
    direct = c.label("direct")
    inside = c.label("inside")
    em.cond(em.op(f"icmp eq i8 {kind}, {_REG}"), direct, inside)
    em.place(direct)
    em.do(f"store i64 {base}, ptr {room}, align 8")
    em.br(done)
    em.place(inside)
    place = em.op(f"add i64 {base}, {value}")
    at = em.slot("i64", "usdt place")
    em.do(f"store i64 {place}, ptr {at}")
    em.cond(em.op(f"icmp eq i8 {kind}, {_SIB}"), index, memory)
    em.place(index)
    word = em.op(f"zext i32 {em.op(f'load i32, ptr {c.offset(slot, _KIND)}, align 8')} to i64")
    # 8 bits of kind, 12 of the index register's offset, 4 of the shift: see usdt_args.Arg.pack
    second = _register(c, em.op(f"lshr i64 {word}, 8"))
    by = em.op(f"and i64 {em.op(f'lshr i64 {word}, 20')}, 3")
    place = em.op(f"add i64 {place}, {em.op(f'shl i64 {second}, {by}')}")
    em.do(f"store i64 {place}, ptr {at}")
    em.br(memory)
    em.place(memory)
    address = em.op(f"inttoptr i64 {em.op(f'load i64, ptr {at}')} to ptr")
    c.helper(112, [f"ptr {room}", "i64 8", f"ptr {address}"])
    em.br(done)
    em.place(done)
    got = em.op(f"load i64, ptr {room}, align 8")
    shift = em.op(f"load i8, ptr {c.offset(slot, _SHIFT)}, align 1")
    shift = em.op(f"and i64 {em.op(f'zext i8 {shift} to i64')}, 63")
    got = em.op(f"shl i64 {got}, {shift}")
    signed = em.op(f"icmp ne i8 {em.op(f'load i8, ptr {c.offset(slot, _SIGNED)}, align 2')}, 0")
    wide, plain = em.op(f"ashr i64 {got}, {shift}"), em.op(f"lshr i64 {got}, {shift}")
    return em.op(f"select i1 {signed}, i64 {wide}, i64 {plain}")


def _register(c: Walker, offset: str) -> str:
    """The register at a variable offset of the context."""
    em = c.em
    near = c.opaque(em.op(f"and i64 {offset}, 511"))
    place = em.op(f"getelementptr i8, ptr {c.ctx}, i64 {near}")
    room = c.buffer(8, 8, "usdt register")
    c.helper(113, [f"ptr {room}", "i64 8", f"ptr {place}"])
    return em.op(f"load i64, ptr {room}, align 8")
