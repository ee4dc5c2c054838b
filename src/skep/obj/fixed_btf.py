"""An object's BTF as a kernel takes it.

Compilers leave sizes of sections and offsets of variables as zero, and declare kernel symbols in forms that
no kernel loads. The bytes are patched where they are: type ids and string offsets stay what the object's
other records say. What is changed is what libbpf changes.
"""

from __future__ import annotations

import struct

from skep.btf import types as t
from skep.obj.externs import KSYMS
from skep.obj.spec import LIBRARY as NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf
    from skep.obj.spec import ObjectSpec

_HEADER: Final = struct.calcsize("HBBIIIII")
_EXTRA_BEFORE_FUNCS: Final = 7  # types in _extra() before the first FUNC
_DUMMY: Final = "dummy_ksym"


def library_func_id(btf: Btf, name: str) -> int:
    """The FUNC id that library function ``name`` has in `kernel_btf`."""
    return len(btf) + _EXTRA_BEFORE_FUNCS + NAMES.index(name)


def library_name_offset(btf: Btf, name: str) -> int:
    """The string offset of a library function's name in `kernel_btf`."""
    return btf.strings.end + _strings().index(f"\0{name}\0".encode()) + 1


def kernel_btf(spec: ObjectSpec) -> bytes:
    """The BTF to load for ``spec`` (b"" without), in the object's byte order.

    Older kernels lack kinds; making do without those is the loader's work.
    """
    btf = spec.btf
    if btf is None:
        return b""
    raw = bytearray(btf.raw)
    order = btf.order
    edits = spec.btf_edits

    def put(at: int, word: int) -> None:
        struct.pack_into(order + "I", raw, at, word & 0xFFFFFFFF)

    def get(at: int) -> int:
        word: int = struct.unpack_from(order + "I", raw, at)[0]
        return word

    for id, linkage in edits.linkages.items():
        at = btf.offset_of(id)
        if btf.kind_of(id) == t.FUNC:
            put(at + 4, get(at + 4) & ~0xFFFF | linkage)
        else:
            put(at + 12, linkage)
    for id, size in edits.sizes.items():
        put(btf.offset_of(id) + 8, size)
    ksyms = list(btf.ids_named(KSYMS)) if spec.externs else []
    for id in {*edits.sizes, *_sections(btf, edits.offsets)}:
        if id not in ksyms:
            _place_variables(raw, btf, id, edits.offsets)
    unknown = [extern.name for extern in spec.externs.values() if extern.kind == "unknown"]
    needs_more = bool(unknown)
    for name in unknown:
        for id in btf.ids_named(name):
            if btf.kind_of(id) == t.FUNC:
                _define_function(raw, btf, id)
    for id in ksyms:
        if btf.kind_of(id) == t.DATASEC:
            needs_more = True
            _pretend_ksyms(raw, btf, id)
    return _append(raw, btf) if needs_more else bytes(raw)


def _sections(btf: Btf, offsets: dict[int, int]) -> list[int]:
    """DATASECs of variables with new offsets."""
    if not offsets:
        return []
    return [
        id
        for id in range(btf.start_id, len(btf))
        if btf.kind_of(id) == t.DATASEC and any(row[0] in offsets for row in btf[id][3])
    ]


def _place_variables(raw: bytearray, btf: Btf, id: int, offsets: dict[int, int]) -> None:
    """Write the rows of a DATASEC with their offsets, ascending as kernels want them."""
    rows = [(type_id, offsets.get(type_id, offset), size) for type_id, offset, size in btf[id][3]]
    rows.sort(key=lambda row: row[1])
    words = [word for row in rows for word in row]
    struct.pack_into(f"{btf.order}{len(words)}I", raw, btf.offset_of(id) + 12, *words)


def _pretend_ksyms(raw: bytearray, btf: Btf, id: int) -> None:
    """Make every kernel symbol a 4-byte variable (no kernel loads extern ones), functions global."""
    order = btf.order
    first = len(btf)
    int_id, dummy_id = first + 2, first + 3
    rows: list[int] = []
    for number, (type_id, _, _) in enumerate(btf[id][3]):
        at = btf.offset_of(type_id)
        if btf.kind_of(type_id) == t.FUNC:
            _define_function(raw, btf, type_id)
            type_id = dummy_id
        elif btf.kind_of(type_id) != t.VAR:
            btf.fail(id, f"section .ksyms holds {btf.describe(type_id)}")
        else:
            struct.pack_into(order + "II", raw, at + 8, int_id, t.LINKAGE_GLOBAL)
        rows += (type_id, 4 * number, 4)
    at = btf.offset_of(id)
    struct.pack_into(order + "I", raw, at + 8, 4 * len(btf[id][3]))
    struct.pack_into(f"{order}{len(rows)}I", raw, at + 12, *rows)


def _define_function(raw: bytearray, btf: Btf, id: int) -> None:
    """Make a declared function a global one with names for its parameters: no kernel takes others."""
    order = btf.order
    at = btf.offset_of(id)
    (info,) = struct.unpack_from(order + "I", raw, at + 4)
    struct.pack_into(order + "I", raw, at + 4, info & ~0xFFFF | t.LINKAGE_GLOBAL)
    dummy = btf.strings.end + _strings().index(f"\0{_DUMMY}\0".encode()) + 1
    proto_id = btf[id][2]
    declared = btf[proto_id]
    if not isinstance(declared, t.FuncProto):
        btf.fail(id, f"a function whose type is {btf.describe(proto_id)}")
    proto = btf.offset_of(proto_id)
    for index, (name, type_id) in enumerate(declared.params):
        if type_id and not name:
            struct.pack_into(order + "I", raw, proto + 12 + 8 * index, dummy)


def _strings() -> bytes:
    """The strings appended: after a zero byte that ends nothing, so that each has one before it."""
    names = ["unsigned long", "int", _DUMMY, "a", "b", "n", *NAMES]
    return b"\0" + b"".join(name.encode() + b"\0" for name in names)


def _extra(btf: Btf) -> bytes:
    """The types appended: a pointer, integers, a variable, prototypes, and a FUNC per library function."""
    first = len(btf)
    strings = _strings()
    base = btf.strings.end

    def name(text: str) -> int:
        return base + strings.index(f"\0{text}\0".encode()) + 1

    pointer, number, integer = first, first + 1, first + 2
    move, fill, compare = first + 4, first + 5, first + 6
    words: list[int] = []

    def add(name_at: int, kind: int, vlen: int, third: int, *rest: int) -> None:
        words.extend((name_at, kind << 24 | vlen, third, *rest))

    def proto(result: int, *params: int) -> None:
        names = (name("a"), name("b"), name("n"))
        rest = [word for pair in zip(names, params, strict=True) for word in pair]
        add(0, t.FUNC_PROTO, 3, result, *rest)

    add(0, t.PTR, 0, 0)
    add(name("unsigned long"), t.INT, 0, 8, 64)
    add(name("int"), t.INT, 0, 4, t.SIGNED << 24 | 32)
    add(name(_DUMMY), t.VAR, 0, integer, t.LINKAGE_GLOBAL)
    proto(pointer, pointer, pointer, number)
    proto(pointer, pointer, integer, number)
    proto(integer, pointer, pointer, number)
    protos = {"memset": fill, "memcmp": compare}
    for function in NAMES:
        add(name(function), t.FUNC, t.LINKAGE_STATIC, protos.get(function, move))
    return struct.pack(f"{btf.order}{len(words)}I", *words)


def _append(raw: bytearray, btf: Btf) -> bytes:
    order = btf.order
    head, type_off, type_len, str_off, str_len = struct.unpack_from(order + "5I", raw, 4)
    types = bytes(raw[head + type_off : head + type_off + type_len]) + _extra(btf)
    strings = bytes(raw[head + str_off : head + str_off + str_len]) + _strings()
    header = bytes(raw[:4]) + struct.pack(order + "5I", _HEADER, 0, len(types), len(types), len(strings))
    return header + types + strings
