"""`skep struct_ops`: kernel interfaces that programs implement."""

from __future__ import annotations

from contextlib import contextmanager

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.jsontext import text
from skep.cli.noun.words import Usage, Words
from skep.errors import SkepError
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from skep.btf import Btf

VERBS = {
    "show": "skep.cli.struct_ops:show",
    "list": "skep.cli.struct_ops:show",
    "register": "skep.cli.struct_ops:register",
    "unregister": "skep.cli.struct_ops:unregister",
    "dump": "skep.cli.struct_ops:dump",
}

USAGE = """\
usage: skep struct_ops { show | list } [STRUCT_OPS_MAP]
       skep struct_ops dump [STRUCT_OPS_MAP]
       skep struct_ops register OBJ [LINK_DIR]
       skep struct_ops unregister STRUCT_OPS_MAP

       STRUCT_OPS_MAP := { id ID | name NAME }
"""

_PREFIX = "bpf_struct_ops_"


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("struct_ops", VERBS, USAGE, argv)


@contextmanager
def _chosen(call: Call, words: Words) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """(descriptor, info) of the struct_ops maps meant; all without words."""
    kernel = call.kernel
    id = name = None
    if words.accept("id"):
        id = words.number("ID")
    elif words.accept("name"):
        name = words.take("NAME")
    elif words:
        raise Usage(f"expected id or name, got {words.peek()!r}")
    words.end()
    found: list[tuple[int, dict[str, Any]]] = []
    try:
        for each in [id] if id is not None else objects.ids(kernel, "map"):
            fd = objects.by_id(kernel, "map", each) if id is not None else objects.opened(kernel, "map", each)
            if fd is None:
                continue
            about = objects.info(kernel, fd, "map")
            if about["type"] == MapType.STRUCT_OPS and name in (None, objects.object_name(about["name"])):
                found.append((fd, about))
                continue
            kernel.close(fd)
            if id is not None:
                raise SkepError(f"{objects.object_name(about['name'])} id {id} is not a struct_ops map")
        if name is not None and not found:
            raise SkepError(f"no struct_ops map is called {name}")
        yield found
    finally:
        for fd, _ in found:
            kernel.close(fd)


def _interface(btf: Btf, about: dict[str, Any]) -> str:
    """The kernel's struct behind a map's value type ``bpf_struct_ops_tcp_congestion_ops``."""
    return str(btf[about["btf_vmlinux_value_type_id"]][1]).removeprefix(_PREFIX)


def show(call: Call, words: Words) -> None:
    from skep.btf import Btf

    rows: list[dict[str, Any]] = []
    with _chosen(call, words) as found:
        btf = Btf.kernel() if found else None
        for _, about in found:
            assert btf is not None
            name = objects.object_name(about["name"])
            rows.append({"id": about["id"], "name": name, "kernel_struct_ops": _interface(btf, about)})
    if call.json:
        call.emit(rows)
    else:
        call.write(
            "".join(f"{row['id']}: {row['name']:<15} {row['kernel_struct_ops']:<32}\n" for row in rows)
        )


def dump(call: Call, words: Words) -> None:
    from skep.btf import Btf
    from skep.cli.noun.typed import Shown, signature

    kernel = call.kernel
    btf = Btf.kernel()

    def function(proto: int, prog_id: int) -> str | None:
        shape = signature(btf, proto)
        return f"{shape} {_program_name(call, prog_id)}/prog_id:{prog_id}" if prog_id else f"{shape} 0"

    shown = Shown(btf, plain=not call.json, pointer=function)
    answers: list[Any] = []
    info_type = btf.require("bpf_map_info")
    with _chosen(call, words) as found:
        for fd, about in found:
            raw = kernel.obj_get_info_by_fd(fd, "map").ljust(btf.size_of(info_type), b"\0")
            value = bytearray(about["value_size"])
            kernel.map_lookup_elem(fd, bytes(4), value)
            type_id = about["btf_vmlinux_value_type_id"]
            answers.append({"bpf_map_info": shown.value(info_type, raw)})
            answers.append({str(btf[type_id][1]): shown.value(type_id, value)})
    if call.json:
        call.emit(answers)
    else:
        call.write(text(answers, pretty=True) + "\n")


def _program_name(call: Call, id: int) -> str:
    fd = objects.opened(call.kernel, "prog", id)
    if fd is None:
        return "<unknown_prog_name>"
    with objects.closing(call.kernel, fd):
        about = objects.info(call.kernel, fd, "prog")
        return objects.full_name(call.kernel, fd, about)


def unregister(call: Call, words: Words) -> None:
    if not words:
        raise Usage("id ID or name NAME is missing")
    with _chosen(call, words) as found:
        for fd, about in found:
            call.kernel.map_delete_elem(fd, bytes(4))
            call.note(f"Unregistered {objects.object_name(about['name'])} id {about['id']}")
    call.done()


def register(call: Call, words: Words) -> None:
    file = words.take("OBJ")
    folder = words.take("LINK_DIR") if words else None
    words.end()
    from skep.cli.noun.loading import load_object

    with load_object(call, file) as loaded:
        loaded.register_struct_ops(folder)
    call.done()
