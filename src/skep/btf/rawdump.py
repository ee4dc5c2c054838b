"""Types one by one, as ``bpftool btf dump file F`` lists them: as text and as its JSON."""

from __future__ import annotations

from skep.btf import types as t
from skep.btf.read import Btf
from skep.btf.types import KIND_NAMES, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Final


_ENCODINGS: Final = {0: "(none)", t.SIGNED: "SIGNED", t.CHAR: "CHAR", t.BOOL: "BOOL"}
_LINKAGES: Final = ("static", "global", "extern")


def _linkage(number: int) -> str:
    return _LINKAGES[number] if number < len(_LINKAGES) else "(unknown)"


def _shown(name: str) -> str:
    return name or "(anon)"


def raw_dump(btf: Btf, ids: Iterable[int] | None = None) -> Iterator[str]:
    """Lines in bpftool's raw format, without newlines: of ``ids``, or of all this BTF's own types."""
    pairs = btf.items() if ids is None else ((id, btf[id]) for id in ids)
    for id, value in pairs:
        yield from type_lines(btf, id, value)


def type_lines(btf: Btf, id: int, value: Type) -> list[str]:
    """One type's lines: the first says what it is, the others list members, values, parameters."""
    kind = value[0]
    head = f"[{id}] {KIND_NAMES[kind]} '{value[1] or '(anon)'}'"
    if kind in _PLAIN:
        return [f"{head} type_id={value[2]}"]
    if kind in (t.STRUCT, t.UNION):
        lines = [f"{head} size={value[2]} vlen={len(value[3])}"]
        for name, type_id, offset, bits in value[3]:
            line = f"\t'{name or '(anon)'}' type_id={type_id} bits_offset={offset}"
            lines.append(f"{line} bitfield_size={bits}" if bits else line)
        return lines
    if kind == t.FUNC:
        return [f"{head} type_id={value[2]} linkage={_linkage(value[3])}"]
    if kind == t.FUNC_PROTO:
        return [
            f"{head} ret_type_id={value[2]} vlen={len(value[3])}",
            *[f"\t'{name or '(anon)'}' type_id={type_id}" for name, type_id in value[3]],
        ]
    if kind in (t.ENUM, t.ENUM64):
        signed = "SIGNED" if value[4] else "UNSIGNED"
        suffix = "" if kind == t.ENUM else "LL" if value[4] else "ULL"
        return [
            f"{head} encoding={signed} size={value[2]} vlen={len(value[3])}",
            *[f"\t'{name or '(anon)'}' val={number}{suffix}" for name, number in value[3]],
        ]
    if kind == t.ARRAY:
        return [f"{head} type_id={value[2]} index_type_id={value[3]} nr_elems={value[4]}"]
    if kind == t.INT:
        encoding = _ENCODINGS.get(value[3], "UNKN")
        return [f"{head} size={value[2]} bits_offset={value[4]} nr_bits={value[5]} encoding={encoding}"]
    if kind == t.FWD:
        return [f"{head} fwd_kind={'union' if value[2] else 'struct'}"]
    if kind == t.VAR:
        return [f"{head} type_id={value[2]}, linkage={_linkage(value[3])}"]
    if kind == t.DATASEC:
        lines = [f"{head} size={value[2]} vlen={len(value[3])}"]
        for type_id, offset, size in value[3]:
            line = f"\ttype_id={type_id} offset={offset} size={size}"
            if type_id < len(btf):
                var = btf[type_id]
                line += f" ({KIND_NAMES[var[0]]} '{_shown(var[1])}')"
            lines.append(line)
        return lines
    if kind == t.FLOAT:
        return [f"{head} size={value[2]}"]
    if kind == t.DECL_TAG:
        return [f"{head} type_id={value[2]} component_idx={value[3]}"]
    return [head]


_PLAIN: Final = frozenset((t.PTR, t.TYPEDEF, t.VOLATILE, t.CONST, t.RESTRICT, t.TYPE_TAG))


def raw_json(btf: Btf, ids: Iterable[int] | None = None) -> dict[str, Any]:
    """What ``bpftool -j btf dump file F`` prints: ``{"types": [...]}``, keys in its order."""
    pairs = btf.items() if ids is None else ((id, btf[id]) for id in ids)
    return {"types": [type_json(id, value) for id, value in pairs]}


def type_json(id: int, value: Type) -> dict[str, Any]:
    """One type as bpftool's JSON object."""
    kind = value[0]
    row: dict[str, Any] = {"id": id, "kind": KIND_NAMES[kind], "name": _shown(value[1])}
    if kind == t.INT:
        row |= {"size": value[2], "bits_offset": value[4], "nr_bits": value[5]}
        row["encoding"] = _ENCODINGS.get(value[3], "UNKN")
    elif kind in _PLAIN:
        row["type_id"] = value[2]
    elif kind == t.ARRAY:
        row |= {"type_id": value[2], "index_type_id": value[3], "nr_elems": value[4]}
    elif kind in (t.STRUCT, t.UNION):
        members: list[dict[str, Any]] = []
        for name, type_id, offset, bits in value[3]:
            member = {"name": _shown(name), "type_id": type_id, "bits_offset": offset}
            if bits:
                member["bitfield_size"] = bits
            members.append(member)
        row |= {"size": value[2], "vlen": len(members), "members": members}
    elif kind in (t.ENUM, t.ENUM64):
        row |= {"encoding": "SIGNED" if value[4] else "UNSIGNED", "size": value[2], "vlen": len(value[3])}
        # bpftool prints unsigned 32-bit values from 2**31 on sign-extended; its readers expect that.
        above = 0xFFFFFFFF00000000 if kind == t.ENUM else 0
        row["values"] = [
            {"name": _shown(name), "val": number | above if number >> 31 > 0 else number}
            for name, number in value[3]
        ]
    elif kind == t.FWD:
        row["fwd_kind"] = "union" if value[2] else "struct"
    elif kind in (t.FUNC, t.VAR):
        row |= {"type_id": value[2], "linkage": _linkage(value[3])}
    elif kind == t.FUNC_PROTO:
        params = [{"name": _shown(name), "type_id": type_id} for name, type_id in value[3]]
        row |= {"ret_type_id": value[2], "vlen": len(params), "params": params}
    elif kind == t.DATASEC:
        parts = [{"type_id": type_id, "offset": offset, "size": size} for type_id, offset, size in value[3]]
        row |= {"size": value[2], "vlen": len(parts), "vars": parts}
    elif kind == t.FLOAT:
        row["size"] = value[2]
    elif kind == t.DECL_TAG:
        row |= {"type_id": value[2], "component_idx": value[3]}
    return row
