"""What rtnetlink says of programs on interfaces: XDP, and filters of tc. Numbers from <linux/rtnetlink.h>,
<linux/if_link.h>, <linux/pkt_cls.h>.
"""

from __future__ import annotations

import struct

from skep.linux.netlink import NLM_F_DUMP, Netlink, attrs, nest, s32, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final


_RTM_GETLINK: Final = 18
_RTM_SETLINK: Final = 19
_RTM_GETQDISC: Final = 38
_RTM_GETTCLASS: Final = 42
_RTM_GETTFILTER: Final = 46
_AF_PACKET: Final = 17
_IFLA_IFNAME: Final = 3
_IFLA_XDP: Final = 43
_XDP_FD, _XDP_ATTACHED, _XDP_FLAGS, _XDP_ID, _XDP_DRV, _XDP_SKB, _XDP_HW = 1, 2, 3, 4, 5, 6, 7
_MODES: Final = {1: "driver", 2: "generic", 3: "offload"}
_MULTI: Final = 4
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_BPF_ACT, _TCA_BPF_NAME, _TCA_BPF_ID = 1, 7, 11
_TCA_ACT_KIND, _TCA_ACT_OPTIONS = 1, 2
_TCA_ACT_BPF_PARMS, _TCA_ACT_BPF_NAME, _TCA_ACT_BPF_ID = 2, 6, 10
_ROOT: Final = 0xFFFFFFFF
_CLSACT: Final = {"clsact/ingress": 0xFFFFFFF2, "clsact/egress": 0xFFFFFFF3}
#: family, padding, interface, handle, parent, info
_TCMSG = struct.Struct("=BxHiIII")
_IFINFO = struct.Struct("=BxHiII")


class Route(Netlink):
    """A rtnetlink socket with the questions that `skep net` has."""

    def links(self) -> Iterator[tuple[int, str, bytes | None]]:
        """(index, name, IFLA_XDP) of every interface."""
        for message in self.request(
            "RTM_GETLINK", _RTM_GETLINK, _IFINFO.pack(_AF_PACKET, 0, 0, 0, 0), NLM_F_DUMP
        ):
            index = _IFINFO.unpack_from(message.payload)[2]
            found = dict(attrs(message.payload, _IFINFO.size))
            yield index, _text(found.get(_IFLA_IFNAME, b"")), found.get(_IFLA_XDP)

    def set_xdp(self, index: int, fd: int, flags: int) -> None:
        """Attach the program ``fd`` (-1: none) to an interface."""
        inside = [s32(_XDP_FD, fd)]
        if flags:
            inside.append(u32(_XDP_FLAGS, flags))
        self.request("RTM_SETLINK", _RTM_SETLINK, _IFINFO.pack(0, 0, index, 0, 0) + nest(_IFLA_XDP, inside))

    def filters(self, index: int, name: str) -> Iterator[dict[str, Any]]:
        """The BPF filters of an interface: of its classes, qdiscs, root, and clsact."""
        parents = [(kind, handle) for _, kind, handle in self._dump(_RTM_GETTCLASS, index)]
        parents += [
            (kind, handle)
            for _, kind, handle in self._dump(_RTM_GETQDISC, index)
            if kind != "clsact" and handle
        ]
        for kind, parent in [*parents, ("root", _ROOT), *_CLSACT.items()]:
            for payload, filter_kind, _ in self._dump(_RTM_GETTFILTER, index, parent):
                options = dict(attrs(payload, _TCMSG.size)).get(_TCA_OPTIONS)
                if filter_kind == "bpf" and options is not None:
                    yield {"devname": name, "ifindex": index, "kind": kind, **_filter(options)}

    def _dump(self, type: int, index: int, parent: int = 0) -> Iterator[tuple[bytes, str, int]]:
        """(message, kind, handle) of the interface's objects."""
        for message in self.request("tc", type, _TCMSG.pack(0, 0, index, 0, parent, 0), NLM_F_DUMP):
            _, _, ifindex, handle, _, _ = _TCMSG.unpack_from(message.payload)
            if ifindex == index:
                kind = dict(attrs(message.payload, _TCMSG.size)).get(_TCA_KIND, b"unknown")
                yield message.payload, _text(kind), handle


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="replace")


def _number(data: bytes) -> int:
    return int(struct.unpack_from("=I", data)[0])


def _filter(options: bytes) -> dict[str, Any]:
    found = dict(attrs(options))
    row: dict[str, Any] = {}
    if _TCA_BPF_NAME in found:
        row["name"] = _text(found[_TCA_BPF_NAME])
    if _TCA_BPF_ID in found:
        row["id"] = _number(found[_TCA_BPF_ID])
    if _TCA_BPF_ACT in found:
        row["act"] = list(_actions(found[_TCA_BPF_ACT]))
    return row


def _actions(data: bytes) -> Iterator[dict[str, Any]]:
    for _, action in sorted(attrs(data)):
        found = dict(attrs(action))
        if _text(found.get(_TCA_ACT_KIND, b"")) != "bpf":
            continue
        options = dict(attrs(found.get(_TCA_ACT_OPTIONS, b"")))
        if _TCA_ACT_BPF_PARMS not in options:
            continue
        row: dict[str, Any] = {}
        if _TCA_ACT_BPF_NAME in options:
            row["name"] = _text(options[_TCA_ACT_BPF_NAME])
        if _TCA_ACT_BPF_ID in options:
            row["id"] = _number(options[_TCA_ACT_BPF_ID])
        yield row


def xdp_of(index: int, name: str, data: bytes | None) -> Iterator[dict[str, Any]]:
    """The interface's XDP program, or programs in several modes."""
    found = dict(attrs(data)) if data is not None else {}
    mode = found[_XDP_ATTACHED][0] if found.get(_XDP_ATTACHED) else 0
    if not mode:
        return
    row: dict[str, Any] = {"devname": name, "ifindex": index}
    if mode == _MULTI:
        row["multi_attachments"] = [
            {"mode": shown, "id": _number(found[kind])}
            for kind, shown in ((_XDP_SKB, "generic"), (_XDP_DRV, "driver"), (_XDP_HW, "offload"))
            if kind in found
        ]
    elif mode in _MODES and _XDP_ID in found:
        row |= {"mode": _MODES[mode], "id": _number(found[_XDP_ID])}
    yield row


def xdp_plain(row: dict[str, Any]) -> str:
    parts = row.get("multi_attachments", [row] if "mode" in row else [])
    modes = "".join(f" {part['mode']} id {part['id']}" for part in parts)
    return f"{row['devname']}({row['ifindex']}){modes}\n"


def tc_plain(row: dict[str, Any]) -> str:
    out = f"{row['devname']}({row['ifindex']}) {row['kind']}"
    for name, mark in (("name", ""), ("id", "id "), ("prog_id", "prog_id "), ("link_id", "link_id ")):
        if name in row:
            out += f" {mark}{row[name]}"
    if "act" in row:
        inside = "".join(
            f"{part.get('name', '')}{' id ' + str(part['id']) if 'id' in part else ''}" for part in row["act"]
        )
        out += f" act [{inside}] "
    return out + "\n"
