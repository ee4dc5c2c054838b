"""`skep btf`: type information that the kernel or a file holds."""

from __future__ import annotations

import gc
from itertools import islice

from skep.cli.noun import listing, objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words
from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from skep.btf import Btf

#: so many lines are written at once
_LINES = 1 << 12

VERBS = {
    "show": "skep.cli.btf:show",
    "list": "skep.cli.btf:show",
    "dump": "skep.cli.btf:dump",
}

USAGE = """\
usage: skep btf { show | list } [id BTF_ID]
       skep btf dump BTF_SRC [format { raw | c }] [root_id ID]…

       BTF_SRC := { id BTF_ID | prog PROG | map MAP [{ key | value | kv | all }] | file FILE }
       PROG := { id ID | pinned FILE | tag TAG | name NAME }
       MAP := { id ID | pinned FILE | name NAME }
       -B FILE, --base-btf FILE: what split BTF (a module's) counts on from
"""

_SYSFS = "/sys/kernel/btf/"


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("btf", VERBS, USAGE, argv)


def show(call: Call, words: Words) -> None:
    from skep.cli.prog.show import Tables

    users = (_users(call, "prog"), _users(call, "map"))
    tables = Tables(call, "btf")

    def chosen() -> list[int]:
        if not words.accept("id"):
            raise Usage(f"expected id, got {words.peek()!r}")
        return [objects.by_id(call.kernel, "btf", words.number("ID"))]

    listing.show(call, words, "btf", chosen, lambda fd: _one(call, fd, users, tables))


def _users(call: Call, kind: str) -> dict[int, list[int]]:
    """BTF id -> ids of the objects that use it."""
    table = objects.Table()
    for id in objects.ids(call.kernel, kind):
        fd = objects.opened(call.kernel, kind, id)
        if fd is not None:
            with objects.closing(call.kernel, fd):
                if btf_id := objects.field(call.kernel, fd, kind, "btf_id"):
                    table.add(btf_id, id)
    return table.rows


def _one(call: Call, fd: int, users: tuple[dict[int, list[int]], dict[int, list[int]]], tables: Any) -> Any:
    room = bytearray(64)
    about = objects.info(call.kernel, fd, "btf", name=room, name_len=len(room))
    id, name = about["id"], objects.object_name(bytes(room))
    progs, maps = (table.get(id, []) for table in users)
    if call.json:
        row: dict[str, Any] = {"id": id, "size": about["btf_size"], "prog_ids": progs, "map_ids": maps}
        row |= tables.pids(id)
        row["kernel"] = bool(about["kernel_btf"])
        return row | {"name": name} if name else row
    shown = f"[{name}]" if about["kernel_btf"] else name or "<anon>"
    out = f"{id}: name {shown}  size {about['btf_size']}B"
    if progs:
        out += "  prog_ids " + ",".join(map(str, progs))
    if maps:
        out += "  map_ids " + ",".join(map(str, maps))
    return f"{out}{tables.plain_pids(id)}\n"


def dump(call: Call, words: Words) -> None:
    btf, ids = _source(call, words)
    form = "raw"
    roots: list[int] = []
    while words:
        if words.accept("format"):
            form = words.take("raw or c")
            if form not in ("raw", "c"):
                raise Usage(f"no format {form!r}: raw, c")
            words.accept("unsorted")  # as later bpftool; ids' order is the only one here
        elif words.accept("root_id"):
            if ids is not None:
                raise Usage("root_id and a map's key or value: give one of them")
            roots.append(words.number("ID"))
        else:
            raise Usage(f"expected format or root_id, got {words.peek()!r}")
    for root in roots:
        if not 0 < root < len(btf):
            raise SkepError(f"root_id {root}: the types are 1 to {len(btf) - 1}")
    if roots:
        ids = sorted(set(roots))
    # A kernel's types are a million values, none of which is garbage.
    collecting = gc.isenabled()
    gc.disable()
    try:
        _dump(call, btf, ids, form)
    finally:
        if collecting:
            gc.enable()


def _dump(call: Call, btf: Btf, ids: list[int] | None, form: str) -> None:
    if form == "c":
        if call.json:
            raise SkepError("JSON output for C-syntax dump is not supported")
        from skep.btf import c_dump

        call.write(c_dump(btf, ids))
    elif call.json:
        from skep.btf.rawdump import type_json

        pairs = btf.items() if ids is None else ((id, btf[id]) for id in ids)
        types = (type_json(id, value) for id, value in pairs)
        if "pretty" in call.options:
            call.emit({"types": types})
            return
        from skep.cli.noun.jsontext import rows

        call.write('{"types":')
        for part in rows(types):
            call.write(part)
        call.write("}\n")
    else:
        from skep.btf import raw_dump

        lines = raw_dump(btf, ids)
        while several := list(islice(lines, _LINES)):
            call.write("\n".join(several) + "\n")


def _source(call: Call, words: Words) -> tuple[Btf, list[int] | None]:
    """The BTF meant, and which of its types (None: all)."""
    from skep.btf import Btf
    from skep.cli.noun.kernel_btf import load

    kernel = call.kernel
    base = Btf.open(call.base_btf) if call.base_btf is not None else None
    if words.accept("file"):
        path = words.take("FILE")
        if base is None and path.startswith(_SYSFS) and path != f"{_SYSFS}vmlinux":
            base = Btf.kernel()
        return Btf.open(path, base=base), None
    if words.accept("id"):
        return load(kernel, words.number("ID"), base), None
    if words.accept("prog"):
        fd = objects.program(kernel, words)
        with objects.closing(kernel, fd):
            return load(kernel, _has_btf(objects.info(kernel, fd, "prog"), "program"), base), None
    if words.accept("map"):
        fd = objects.map_(kernel, words)
        with objects.closing(kernel, fd):
            about = objects.info(kernel, fd, "map")
        btf = load(kernel, _has_btf(about, "map"), base)
        key, value = about["btf_key_type_id"], about["btf_value_type_id"]
        if words.accept("key"):
            return btf, [key]
        if words.accept("value"):
            return btf, [value]
        if words.accept("all"):
            return btf, None
        words.accept("kv")
        return btf, [key, value]
    raise Usage(f"expected id, prog, map or file, got {words.peek()!r}")


def _has_btf(about: dict[str, Any], what: str) -> int:
    id: int = about["btf_id"]
    if not id:
        raise SkepError(f"{what} {about['id']} was loaded without BTF")
    return id
