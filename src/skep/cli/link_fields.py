"""Fields of links that bpftool 7.1 does not know; names and order are those of its later versions.

JSON has them for the types that 7.1 has no name for (netfilter, tcx, netkit, uprobe_multi, sockmap); for
those it shows bare (xdp, perf_event, kprobe_multi, struct_ops), only with ``--all``. Text always has them.
"""

from __future__ import annotations

import socket

from skep.cli.noun import names, objects
from skep.cli.noun.command import Call
from skep.linux.links.perf_event import HARDWARE_EVENTS, SOFTWARE_EVENTS
from skep.uapi.enums import LinkType, PerfEventType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: PERF_TYPE_* and the software events of <linux/perf_event.h>, as `perf list` names them
_EVENT_TYPES = ("hardware", "software", "tracepoint", "hw-cache", "raw", "breakpoint")
_BARE = frozenset((LinkType.XDP, LinkType.PERF_EVENT, LinkType.KPROBE_MULTI, LinkType.STRUCT_OPS))


def newer(call: Call, fd: int, about: dict[str, Any]) -> dict[str, Any]:
    """The fields to show, empty for a type that has none."""
    kind = about["type"]
    if kind in _BARE and call.json and "all" not in call.options:
        return {}
    if kind == LinkType.XDP:
        return _device(about["xdp.ifindex"])
    if kind in (LinkType.TCX, LinkType.NETKIT):
        name = "tcx" if kind == LinkType.TCX else "netkit"
        attach = names.attach_type(about[f"{name}.attach_type"])
        return _device(about[f"{name}.ifindex"]) | {"attach_type": attach}
    if kind == LinkType.NETFILTER:
        return {
            "pf": about["netfilter.pf"],
            "hook": about["netfilter.hooknum"],
            "prio": about["netfilter.priority"],
            "flags": about["netfilter.flags"],
        }
    if kind == LinkType.SOCKMAP:
        attach = names.attach_type(about["sockmap.attach_type"])
        return {"map_id": about["sockmap.map_id"], "attach_type": attach}
    if kind == LinkType.STRUCT_OPS:
        return {"map_id": about["struct_ops.map_id"]}
    if kind == LinkType.KPROBE_MULTI:
        return _kprobes(call, fd, about)
    if kind == LinkType.UPROBE_MULTI:
        return _uprobes(call, fd, about)
    if kind == LinkType.PERF_EVENT:
        return _perf_event(call, fd, about)
    return {}


def _device(index: int) -> dict[str, Any]:
    name = "(detached)"
    if index:
        try:
            name = socket.if_indextoname(index)
        except OSError:
            name = "(unknown)"
    return {"devname": name, "ifindex": index}


def _longs(data: bytearray) -> list[int]:
    return list(memoryview(data).cast("Q"))


def _kprobes(call: Call, fd: int, about: dict[str, Any]) -> dict[str, Any]:
    from skep.cli.prog.dump import Symbols

    count = about["kprobe_multi.count"]
    addresses, cookies = bytearray(8 * count), bytearray(8 * count)
    request: dict[str, Any] = {
        "kprobe_multi.addrs": addresses,
        "kprobe_multi.cookies": cookies,
        "kprobe_multi.count": count,
    }
    objects.info(call.kernel, fd, "link", **request)
    symbols = Symbols()
    functions = [
        {"addr": address, "func": symbols.name(address) or symbols.name(address - 4), "cookie": cookie}
        for address, cookie in sorted(zip(_longs(addresses), _longs(cookies), strict=True))
    ]
    return {
        "retprobe": bool(about["kprobe_multi.flags"] & 1),
        "func_cnt": count,
        "missed": about["kprobe_multi.missed"],
        "funcs": functions,
    }


def _uprobes(call: Call, fd: int, about: dict[str, Any]) -> dict[str, Any]:
    count = about["uprobe_multi.count"]
    parts = {name: bytearray(8 * count) for name in ("offsets", "ref_ctr_offsets", "cookies")}
    path = bytearray(4096)
    request: dict[str, Any] = {f"uprobe_multi.{name}": data for name, data in parts.items()}
    request |= {
        "uprobe_multi.count": count,
        "uprobe_multi.path": path,
        "uprobe_multi.path_size": len(path),
    }
    objects.info(call.kernel, fd, "link", **request)
    rows = zip(*(_longs(data) for data in parts.values()), strict=True)
    pid = about["uprobe_multi.pid"]
    return {
        "retprobe": bool(about["uprobe_multi.flags"] & 1),
        "path": objects_name(path),
        "func_cnt": count,
        "pid": pid - (1 << 32) if pid >> 31 else pid,
        "funcs": [
            {"offset": offset, "ref_ctr_offset": counter, "cookie": cookie}
            for offset, counter, cookie in rows
        ],
    }


def objects_name(data: bytearray) -> str:
    return objects.object_name(bytes(data))


def _perf_event(call: Call, fd: int, about: dict[str, Any]) -> dict[str, Any]:
    kind = about["perf_event.type"]
    if kind in (PerfEventType.KPROBE, PerfEventType.KRETPROBE):
        name = _text(call, fd, "perf_event.kprobe.func_name", "perf_event.kprobe.name_len")
        return {
            "retprobe": kind == PerfEventType.KRETPROBE,
            "addr": about["perf_event.kprobe.addr"],
            "func": name,
            "offset": about["perf_event.kprobe.offset"],
            "missed": about["perf_event.kprobe.missed"],
            "cookie": about["perf_event.kprobe.cookie"],
        }
    if kind in (PerfEventType.UPROBE, PerfEventType.URETPROBE):
        return {
            "retprobe": kind == PerfEventType.URETPROBE,
            "file": _text(call, fd, "perf_event.uprobe.file_name", "perf_event.uprobe.name_len"),
            "offset": about["perf_event.uprobe.offset"],
            "cookie": about["perf_event.uprobe.cookie"],
            "ref_ctr_offset": about["perf_event.uprobe.ref_ctr_offset"],
        }
    if kind == PerfEventType.TRACEPOINT:
        return {
            "tracepoint": _text(call, fd, "perf_event.tracepoint.tp_name", "perf_event.tracepoint.name_len"),
            "cookie": about["perf_event.tracepoint.cookie"],
        }
    if kind == PerfEventType.EVENT:
        event, config = about["perf_event.event.type"], about["perf_event.event.config"]
        table: tuple[str, ...] = (HARDWARE_EVENTS, SOFTWARE_EVENTS)[event] if event < 2 else ()
        return {
            "event_type": _EVENT_TYPES[event] if event < len(_EVENT_TYPES) else event,
            "event_config": table[config] if config < len(table) else config,
            "cookie": about["perf_event.event.cookie"],
        }
    return {}


def _text(call: Call, fd: int, field: str, length: str) -> str:
    room = bytearray(256)
    request: dict[str, Any] = {field: room, length: len(room)}
    objects.info(call.kernel, fd, "link", **request)
    return objects_name(room)
