"""`skep prog show`."""

from __future__ import annotations

import time

from skep.cli.noun import listing, names, objects
from skep.cli.noun.command import Call
from skep.cli.noun.jsontext import Pairs, text
from skep.cli.noun.words import Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_METADATA = "bpf_metadata_"
#: most programs have no more maps than this
_MAPS = 32


def show(call: Call, words: Words) -> None:
    tables = Tables(call, "prog")
    listing.show(
        call, words, "prog", lambda: objects.programs(call.kernel, words), lambda fd: one(call, fd, tables)
    )


class Tables:
    """Pins and processes by object id, looked up when the options ask for them."""

    __slots__ = ("holders", "pins")

    def __init__(self, call: Call, kind: str) -> None:
        self.pins = objects.pins(call.kernel, kind) if "bpffs" in call.options else {}
        self.holders = objects.holders(kind) if "pids" in call.options else {}

    def json(self, id: int) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if self.pins:
            row["pinned"] = self.pins.get(id, [])
        return row | self.pids(id)

    def pids(self, id: int) -> dict[str, Any]:
        if id not in self.holders:
            return {}
        return {"pids": [{"pid": pid, "comm": comm} for pid, comm in self.holders[id]]}

    def plain_pins(self, id: int) -> str:
        return "".join(f"\n\tpinned {path}" for path in self.pins.get(id, []))

    def plain_pids(self, id: int) -> str:
        rows = self.holders.get(id)
        return "\n\tpids " + ", ".join(f"{comm}({pid})" for pid, comm in rows) if rows else ""


def one(call: Call, fd: int, tables: Tables) -> Any:
    """A program's JSON object, or its lines of text."""
    kernel = call.kernel
    about, map_ids = _about(call, fd)
    memlock = objects.fdinfo(fd).get("memlock")
    if not call.json:
        return _plain(call, fd, about, map_ids, memlock, tables)
    row: dict[str, Any] = {"id": about["id"], "type": names.prog_type(about["type"])}
    if about["name"][0]:
        row["name"] = objects.full_name(kernel, fd, about)
    row["tag"] = about["tag"].hex()
    row["gpl_compatible"] = about["gpl_compatible"]
    if about["run_time_ns"]:
        row |= {"run_time_ns": about["run_time_ns"], "run_cnt": about["run_cnt"]}
    if about["recursion_misses"]:
        row["recursion_misses"] = about["recursion_misses"]
    row |= device_json(about)
    if about["load_time"]:
        row |= {"loaded_at": loaded_at(about["load_time"]), "uid": about["created_by_uid"]}
    row["bytes_xlated"] = about["xlated_prog_len"]
    row["jited"] = bool(about["jited_prog_len"])
    if about["jited_prog_len"]:
        row["bytes_jited"] = about["jited_prog_len"]
    if memlock is not None:
        row["bytes_memlock"] = int(memlock)
    if map_ids:
        row["map_ids"] = map_ids
    if about["btf_id"]:
        row["btf_id"] = about["btf_id"]
    row |= tables.json(about["id"])
    if metadata := _metadata(call, map_ids):
        row["metadata"] = metadata
    return row


def _plain(
    call: Call, fd: int, about: dict[str, Any], map_ids: list[int], memlock: str | None, tables: Tables
) -> str:
    id = about["id"]
    out = [f"{id}: {names.plain(names.prog_type(about['type']))}  "]
    if about["name"][0]:
        out.append(f"name {objects.full_name(call.kernel, fd, about)}  ")
    out.append(f"tag {about['tag'].hex()}{device_plain(about)}{'  gpl' if about['gpl_compatible'] else ''}")
    if about["run_time_ns"]:
        out.append(f" run_time_ns {about['run_time_ns']} run_cnt {about['run_cnt']}")
    if about["recursion_misses"]:
        out.append(f" recursion_misses {about['recursion_misses']}")
    out.append("\n")
    if about["load_time"]:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(loaded_at(about["load_time"])))
        out.append(f"\tloaded_at {when}  uid {about['created_by_uid']}\n")
    jited = f"jited {about['jited_prog_len']}B" if about["jited_prog_len"] else "not jited"
    out.append(f"\txlated {about['xlated_prog_len']}B  {jited}")
    if memlock is not None:
        out.append(f"  memlock {memlock}B")
    if map_ids:
        out.append("  map_ids " + ",".join(map(str, map_ids)))
    out.append(tables.plain_pins(id))
    if about["btf_id"]:
        out.append(f"\n\tbtf_id {about['btf_id']}")
    out.append(tables.plain_pids(id) + "\n")
    if metadata := _metadata(call, map_ids):
        out.append(
            "\tmetadata:" + "".join(f"\n\t\t{name} = {text(value)}" for name, value in metadata) + "\n"
        )
    return "".join(out)


def loaded_at(nanoseconds: int) -> int:
    """Seconds since 1970 of an instant of the boot clock."""
    real = time.clock_gettime_ns(time.CLOCK_REALTIME)
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return (real - boot + nanoseconds) // 1_000_000_000


def device_json(about: dict[str, Any]) -> dict[str, Any]:
    """Where an object is offloaded to."""
    if not about["ifindex"]:
        return {}
    row = {
        "ifindex": about["ifindex"],
        "ns_dev": about["netns_dev"],
        "ns_inode": about["netns_ino"],
    }
    name = _device_name(about)
    return {"dev": row | {"ifname": name} if name else row}


def device_plain(about: dict[str, Any]) -> str:
    if not about["ifindex"]:
        return ""
    where = f"ifindex {about['ifindex']} ns_dev {about['netns_dev']} ns_ino {about['netns_ino']}"
    return f"  offloaded_to {_device_name(about) or where}"


def _device_name(about: dict[str, Any]) -> str | None:
    """The interface's name, when it is in this process's network namespace."""
    import os
    import socket

    try:
        here = os.stat("/proc/self/ns/net")
        if (here.st_dev, here.st_ino) == (about["netns_dev"], about["netns_ino"]):
            return socket.if_indextoname(about["ifindex"])
    except OSError:
        pass
    return None


def _about(call: Call, fd: int) -> tuple[dict[str, Any], list[int]]:
    """What the kernel says of a program, and the ids of its maps."""
    room = bytearray(4 * _MAPS)
    about = objects.info(call.kernel, fd, "prog", nr_map_ids=_MAPS, map_ids=room)
    count = about["nr_map_ids"]
    if count > _MAPS:
        room = bytearray(4 * count)
        again = objects.info(call.kernel, fd, "prog", nr_map_ids=count, map_ids=room)
        count = min(count, again["nr_map_ids"])
    return about, list(memoryview(room).cast("I"))[:count]


def _metadata(call: Call, map_ids: list[int]) -> Pairs:
    """The ``bpf_metadata_`` variables of the program's .rodata."""
    kernel = call.kernel
    for id in map_ids:
        fd = objects.opened(kernel, "map", id)
        if fd is None:
            return Pairs()
        with objects.closing(kernel, fd):
            about = objects.info(kernel, fd, "map")
            if (
                about["type"] != 2  # an array
                or about["key_size"] != 4
                or about["max_entries"] != 1
                or not about["btf_value_type_id"]
                or ".rodata" not in objects.object_name(about["name"])
            ):
                continue
            value = bytearray(about["value_size"])
            try:
                kernel.map_lookup_elem(fd, bytes(4), value)
            except OSError:
                return Pairs()
        return _of_rodata(call, about, value)
    return Pairs()


def _of_rodata(call: Call, about: dict[str, Any], value: bytearray) -> Pairs:
    from skep.cli.noun.kernel_btf import load, raw

    # Nearly all have none: their names are looked for before the types are read.
    data, _ = raw(call.kernel, about["btf_id"])
    if _METADATA.encode() not in data:
        return Pairs()
    from skep.btf import types
    from skep.cli.noun.typed import Shown

    btf = load(call.kernel, about["btf_id"])
    section = btf[about["btf_value_type_id"]]
    out = Pairs()
    if section[0] != types.DATASEC:
        return out
    shown = Shown(btf, plain=not call.json)
    for type_id, offset, _ in section[3]:
        variable = btf[type_id]
        if variable[1].startswith(_METADATA):
            out.append((variable[1].removeprefix(_METADATA), shown.value(variable[2], value, offset)))
    return out
