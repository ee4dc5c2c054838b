"""Maps as they are at the end of a run."""

from __future__ import annotations

import sys

from skep.btf import types as t
from skep.cli.map.entries import keys
from skep.cli.map.layout import MapView
from skep.cli.noun.command import Call
from skep.cli.noun.jsontext import Pairs, text
from skep.cli.run.types import Readable, inner, line
from skep.errors import KernelError
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skep.cli.run.options import Options
    from skep.kernel.object import Object

#: maps without entries to show
_BUFFERS = frozenset(
    (
        MapType.RINGBUF,
        MapType.USER_RINGBUF,
        MapType.PERF_EVENT_ARRAY,
        MapType.STRUCT_OPS,
        MapType.ARENA,
        MapType.BLOOM_FILTER,
        MapType.QUEUE,
        MapType.STACK,
        MapType.SK_STORAGE,
        MapType.INODE_STORAGE,
        MapType.TASK_STORAGE,
        MapType.CGRP_STORAGE,
    )
)


def show(made: Object, options: Options) -> None:
    """Print every map with entries, typed by the object's BTF."""
    call = Call("run", {"json"} if options.json else set())
    call._kernel = made.kernel
    btf = made.spec.btf
    for name, map in made.maps.items():
        spec = made.spec.maps[name]
        if spec.type in _BUFFERS or name == ".kconfig" or name.startswith(".rodata"):
            continue
        view = MapView(call, map.fd)
        shown = Readable(btf) if btf is not None else None
        ids = (spec.key_type_id, spec.value_type_id) if shown is not None else (0, 0)
        if spec.data is not None:
            if shown is not None and (
                rows := _globals(view, shown, spec.btf_id, made.spec.btf_edits.offsets)
            ):
                _print_globals(name, rows, options.json)
            continue
        entries = list(_entries(view, shown, *ids))
        if options.json:
            print(text({"map": name, "entries": [{"key": key, "value": value} for key, value in entries]}))
            continue
        print(f"{name}: {len(entries)} entr{'y' if len(entries) == 1 else 'ies'}")
        for key, value in entries:
            sys.stdout.write(f"  {inner(key)}: {inner(value)}\n")


def _entries(view: MapView, shown: Readable | None, key_id: int, value_id: int) -> Iterator[tuple[Any, Any]]:
    for key in keys(view):
        value = view.room()
        try:
            view.call.kernel.map_lookup_elem(view.fd, key, value)
        except KernelError:
            continue  # gone meanwhile, or a slot that holds nothing
        parts = view.values(value) if view.per_cpu else [bytes(value)]
        values = [_shown(shown, value_id, part) for part in parts]
        yield _shown(shown, key_id, key), values if view.per_cpu else values[0]


def _shown(shown: Readable | None, type_id: int, data: bytes) -> Any:
    if shown is not None and type_id:
        return shown.value(type_id, data)
    return int.from_bytes(data, sys.byteorder) if len(data) in (1, 2, 4, 8) else data.hex()


def _globals(view: MapView, shown: Readable, section_id: int, offsets: dict[int, int]) -> Pairs:
    """(variable, value) of a section of global data; ``offsets``: those that only the symbols know."""
    if not section_id or shown.btf[section_id][0] != t.DATASEC:
        return Pairs()
    value = view.room()
    view.call.kernel.map_lookup_elem(view.fd, bytes(4), value)
    out = Pairs()
    for type_id, offset, _ in shown.btf[section_id][3]:
        variable = shown.btf[type_id]
        if variable[0] == t.VAR:
            out.append((variable[1], shown.value(variable[2], value, offsets.get(type_id, offset))))
    return out


def _print_globals(name: str, rows: Pairs, json: bool) -> None:
    if json:
        print(text({"map": name, "variables": rows}))
        return
    print(f"{name}: {len(rows)} variable{'' if len(rows) == 1 else 's'}")
    for variable, value in rows:
        sys.stdout.write(f"  {variable}: {line(value) if not isinstance(value, Pairs) else inner(value)}\n")
