"""`skep net`: programs attached to network interfaces, XDP, tc and the flow dissector."""

from __future__ import annotations

import _socket as socket  # `socket` brings enums and more along, which take longer than a listing
import errno
import os

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words
from skep.errors import KernelError, SkepError
from skep.uapi.enums import AttachType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


VERBS = {
    "show": "skep.cli.net:show",
    "list": "skep.cli.net:show",
    "attach": "skep.cli.net:attach",
    "detach": "skep.cli.net:detach",
}

USAGE = """\
usage: skep net { show | list } [dev NAME]
       skep net attach ATTACH_TYPE PROG dev NAME [overwrite]
       skep net detach ATTACH_TYPE dev NAME

       ATTACH_TYPE := { xdp | xdpgeneric | xdpdrv | xdpoffload | tcx_ingress | tcx_egress }
       PROG := { id ID | pinned FILE | tag TAG | name NAME }
Programs of cgroups: skep cgroup.
"""

#: XDP_FLAGS_SKB_MODE, _DRV_MODE, _HW_MODE, _UPDATE_IF_NOEXIST of <linux/if_link.h>
_XDP = {"xdp": 0, "xdpgeneric": 1 << 1, "xdpdrv": 1 << 2, "xdpoffload": 1 << 3}
_NOT_OVER = 1
_TCX = {"tcx_ingress": AttachType.TCX_INGRESS, "tcx_egress": AttachType.TCX_EGRESS}


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("net", VERBS, USAGE, argv)


def show(call: Call, words: Words) -> None:
    from skep.cli import net_query

    chosen = _device(words)[0] if words else None
    words.end()
    with net_query.Route() as route:
        devices = [row for row in route.links() if chosen is None or row[0] == chosen]
        xdp = [row for index, name, data in devices for row in net_query.xdp_of(index, name, data)]
        tc = [row for index, name, _ in devices for row in _tcx(call, index, name)]
        tc += [row for index, name, _ in devices for row in route.filters(index, name)]
    dissector = _dissector(call)
    if call.json:
        call.emit([{"xdp": xdp, "tc": tc, "flow_dissector": dissector}])
    else:
        call.write("xdp:\n" + "".join(net_query.xdp_plain(row) for row in xdp) + "\n")
        call.write("tc:\n" + "".join(net_query.tc_plain(row) for row in tc) + "\n")
        call.write("flow_dissector:\n" + "".join(f"id {row['id']}" for row in dissector) + "\n")


def _dissector(call: Call) -> list[dict[str, Any]]:
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    with objects.closing(call.kernel, fd):
        try:
            ids = call.kernel.prog_query(fd, AttachType.FLOW_DISSECTOR)["prog_ids"]
        except KernelError as error:
            if error.errno != errno.EINVAL:
                raise
            ids = []
    return [{"id": id} for id in ids]


def _tcx(call: Call, index: int, name: str) -> list[dict[str, Any]]:
    """Programs of TCX and netkit, as later versions of bpftool list them."""
    rows: list[dict[str, Any]] = []
    kinds = {
        AttachType.TCX_INGRESS: "tcx/ingress",
        AttachType.TCX_EGRESS: "tcx/egress",
        AttachType.NETKIT_PRIMARY: "netkit/primary",
        AttachType.NETKIT_PEER: "netkit/peer",
    }
    for kind, shown in kinds.items():
        try:
            answer = call.kernel.prog_query(index, kind)
        except KernelError:
            continue  # before Linux 6.6, or no netkit device
        for place, id in enumerate(answer["prog_ids"]):
            row: dict[str, Any] = {"devname": name, "ifindex": index, "kind": shown}
            fd = objects.opened(call.kernel, "prog", id)
            if fd is not None:
                with objects.closing(call.kernel, fd):
                    about = objects.info(call.kernel, fd, "prog")
                    row["name"] = objects.full_name(call.kernel, fd, about)
            row["prog_id"] = id
            if link := answer["link_ids"][place]:
                row["link_id"] = link
            rows.append(row)
    return rows


def _device(words: Words) -> tuple[int, str]:
    if not words.accept("dev"):
        raise Usage(f"expected dev, got {words.peek()!r}")
    name = words.take("NAME")
    try:
        return socket.if_nametoindex(name), name
    except OSError:
        raise SkepError(f"no interface {name}") from None


def _kind(words: Words) -> str:
    word = words.take("ATTACH_TYPE")
    for known in (*_XDP, *_TCX):
        if word and known.startswith(word):
            return known
    raise Usage(f"no attach type {word!r}: {', '.join((*_XDP, *_TCX))}")


def attach(call: Call, words: Words) -> None:
    kernel = call.kernel
    kind = _kind(words)
    fd = objects.program(kernel, words)
    with objects.closing(kernel, fd):
        index, _ = _device(words)
        overwrite = words.accept("overwrite")
        words.end()
        if kind in _XDP:
            from skep.cli import net_query

            with net_query.Route() as route:
                route.set_xdp(index, fd, _XDP[kind] | (0 if overwrite else _NOT_OVER))
        else:
            kernel.prog_attach(index, fd, _TCX[kind])
    call.done()


def detach(call: Call, words: Words) -> None:
    kernel = call.kernel
    kind = _kind(words)
    index, name = _device(words)
    words.end()
    if kind in _XDP:
        from skep.cli import net_query

        with net_query.Route() as route:
            route.set_xdp(index, -1, _XDP[kind] | _NOT_OVER)
    else:
        ids = kernel.prog_query(index, _TCX[kind])["prog_ids"]
        if not ids:
            raise SkepError(f"{name}: nothing is attached to {kind}")
        fd = objects.by_id(kernel, "prog", ids[-1])
        with objects.closing(kernel, fd):
            kernel.prog_detach(index, fd, _TCX[kind])
    call.done()
