"""`skep link`: attachments that the kernel holds as links. With object files, the static linker."""

from __future__ import annotations

from skep.cli.noun import listing, names, objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Words
from skep.cli.prog.show import Tables
from skep.errors import SkepError
from skep.uapi.enums import LinkType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


VERBS = {
    "show": "skep.cli.links:show",
    "list": "skep.cli.links:show",
    "pin": "skep.cli.links:pin",
    "detach": "skep.cli.links:detach",
}

USAGE = """\
usage: skep link { show | list } [LINK]
       skep link pin LINK FILE
       skep link detach LINK
       skep link A.o [B.o …] -o C.o        put objects together

       LINK := { id ID | pinned FILE }
"""

_ORDERS = ("order_unspec", "self_only", "descendants_pre", "descendants_post", "ancestors_up")


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    if any(word.startswith(("-o", "--output")) for word in argv):
        from importlib import import_module

        linker: int = import_module("skep.cli.link").main(argv)
        return linker
    return run("link", VERBS, USAGE, argv)


def show(call: Call, words: Words) -> None:
    tables = Tables(call, "link")
    listing.show(
        call, words, "link", lambda: [objects.link(call.kernel, words)], lambda fd: one(call, fd, tables)
    )


def one(call: Call, fd: int, tables: Tables) -> Any:
    """A link's JSON object, or its lines of text."""
    about = objects.info(call.kernel, fd, "link")
    id, kind = about["id"], names.link_type(about["type"])
    fields = _fields(call, fd, about)
    if call.json:
        row: dict[str, Any] = {"id": id, "type": kind, "prog_id": about["prog_id"]}
        return row | fields | tables.json(id)
    return _plain(about, kind, fields, tables)


def _fields(call: Call, fd: int, about: dict[str, Any]) -> dict[str, Any]:
    """What links of this type have besides the common fields."""
    kind = about["type"]
    if kind == LinkType.RAW_TRACEPOINT:
        return {"tp_name": _name(call, fd, "raw_tracepoint.tp_name")}
    if kind == LinkType.TRACING:
        program = objects.by_id(call.kernel, "prog", about["prog_id"])
        with objects.closing(call.kernel, program):
            prog_type = objects.info(call.kernel, program, "prog")["type"]
        return {
            "prog_type": names.prog_type(prog_type),
            "attach_type": names.attach_type(about["tracing.attach_type"]),
        }
    if kind == LinkType.CGROUP:
        return {
            "cgroup_id": about["cgroup.cgroup_id"],
            "attach_type": names.attach_type(about["cgroup.attach_type"]),
        }
    if kind == LinkType.NETNS:
        return {
            "netns_ino": about["netns.netns_ino"],
            "attach_type": names.attach_type(about["netns.attach_type"]),
        }
    if kind == LinkType.ITER:
        return _iterator(call, fd, about)
    from skep.cli.link_fields import newer

    return newer(call, fd, about)


def _iterator(call: Call, fd: int, about: dict[str, Any]) -> dict[str, Any]:
    target = _name(call, fd, "iter.target_name")
    row: dict[str, Any] = {"target_name": target}
    if target in ("bpf_map_elem", "bpf_sk_storage_map"):
        row["map_id"] = about["iter.map.map_id"]
    elif target in ("task", "task_file", "task_vma"):
        if about["iter.task.tid"]:
            row["tid"] = about["iter.task.tid"]
        elif about["iter.task.pid"]:
            row["pid"] = about["iter.task.pid"]
    elif target == "cgroup":
        order = about["iter.cgroup.order"]
        row["cgroup_id"] = about["iter.cgroup.cgroup_id"]
        row["order"] = _ORDERS[order] if order < len(_ORDERS) else "unknown"
    return row


def _name(call: Call, fd: int, field: str) -> str:
    """A name that the kernel writes into a buffer of ours."""
    room = bytearray(256)
    objects.info(call.kernel, fd, "link", **{field: room, f"{field}_len": len(room)})
    return objects.object_name(bytes(room))


def _plain(about: dict[str, Any], kind: str | int, fields: dict[str, Any], tables: Tables) -> str:
    out = [f"{about['id']}: {names.plain(kind)}  prog {about['prog_id']}  "]
    if "tp_name" in fields and about["type"] == LinkType.RAW_TRACEPOINT:
        out.append(f"\n\ttp '{fields['tp_name']}'  ")
    elif about["type"] == LinkType.ITER:
        # as bpftool: one space after a process's id
        out += [f"{name} {value}{' ' if name in ('pid', 'tid') else '  '}" for name, value in fields.items()]
    elif fields:
        out.append("\n\t" + "".join(f"{name} {value}  " for name, value in fields.items()))
    out += [tables.plain_pins(about["id"]), tables.plain_pids(about["id"]), "\n"]
    return "".join(out)


def pin(call: Call, words: Words) -> None:
    from skep.cli.noun.pinning import pin as pin_fd

    kernel = call.kernel
    fd = objects.link(kernel, words)
    with objects.closing(kernel, fd):
        path = words.take("FILE")
        words.end()
        pin_fd(call, fd, path)
    call.done()


def detach(call: Call, words: Words) -> None:
    kernel = call.kernel
    fd = objects.link(kernel, words)
    with objects.closing(kernel, fd):
        words.end()
        try:
            kernel.link_detach(fd)
        except SkepError as error:
            raise SkepError(f"this link cannot be detached: {error}") from None
    call.done()
