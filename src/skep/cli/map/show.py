"""`skep map show`."""

from __future__ import annotations

from skep.cli.noun import listing, names, objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Words
from skep.cli.prog.show import Tables, device_json, device_plain
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def show(call: Call, words: Words) -> None:
    tables = Tables(call, "map")
    listing.show(
        call, words, "map", lambda: objects.maps(call.kernel, words), lambda fd: one(call, fd, tables)
    )


def header_json(about: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"id": about["id"], "type": names.map_type(about["type"])}
    if about["name"][0]:
        row["name"] = objects.object_name(about["name"])
    return row | {"flags": signed(about["map_flags"])}


def header_plain(about: dict[str, Any]) -> str:
    name = f"name {objects.object_name(about['name'])}  " if about["name"][0] else ""
    kind = names.plain(names.map_type(about["type"]))
    return f"{about['id']}: {kind}  {name}flags 0x{about['map_flags']:x}{device_plain(about)}\n"


def signed(number: int) -> int:
    """bpftool prints flags as a signed number."""
    return number - (1 << 32) if number >> 31 else number


def one(call: Call, fd: int, tables: Tables) -> Any:
    """A map's JSON object, or its lines of text."""
    about = objects.info(call.kernel, fd, "map")
    more = objects.fdinfo(fd)
    frozen = int(more.get("frozen", "0"))
    owner: dict[str, str] = (
        {key: value for key, value in more.items() if key.startswith("owner_")}
        if about["type"] == MapType.PROG_ARRAY
        else {}
    )
    if not call.json:
        return _plain(about, more.get("memlock"), frozen, owner, tables)
    row = header_json(about) | device_json(about)
    row |= {
        "bytes_key": about["key_size"],
        "bytes_value": about["value_size"],
        "max_entries": about["max_entries"],
    }
    if "memlock" in more:
        row["bytes_memlock"] = int(more["memlock"])
    if "owner_prog_type" in owner:
        row["owner_prog_type"] = names.prog_type(int(owner["owner_prog_type"]))
    if "owner_jited" in owner:
        row["owner_jited"] = owner["owner_jited"] != "0"
    row["frozen"] = frozen
    if about["btf_id"]:
        row["btf_id"] = about["btf_id"]
    return row | tables.json(about["id"])


def _plain(
    about: dict[str, Any], memlock: str | None, frozen: int, owner: dict[str, str], tables: Tables
) -> str:
    out = [header_plain(about)]
    out.append(
        f"\tkey {about['key_size']}B  value {about['value_size']}B  max_entries {about['max_entries']}"
    )
    if memlock is not None:
        out.append(f"  memlock {memlock}B")
    if owner:
        out.append("\n\t")
    if "owner_prog_type" in owner:
        out.append(f"owner_prog_type {names.prog_type(int(owner['owner_prog_type']))}  ")
    if "owner_jited" in owner:
        out.append(f"owner{'' if owner['owner_jited'] != '0' else ' not'} jited")
    out.append(tables.plain_pins(about["id"]))
    if about["btf_id"] or frozen:
        out.append("\n\t")
    if about["btf_id"]:
        out.append(f"btf_id {about['btf_id']}")
    if frozen:
        out.append(f"{'  ' if about['btf_id'] else ''}frozen")
    out.append(tables.plain_pids(about["id"]) + "\n")
    return "".join(out)
