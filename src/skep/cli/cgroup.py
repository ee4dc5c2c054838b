"""`skep cgroup`: programs attached to control groups (version 2)."""

from __future__ import annotations

import errno
import os

from skep.cli.noun import names, objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words
from skep.errors import KernelError, SkepError
from skep.uapi.enums import AttachType
from skep.uapi.flags import BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE, BPF_F_QUERY_EFFECTIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


VERBS = {
    "show": "skep.cli.cgroup:show",
    "list": "skep.cli.cgroup:show",
    "tree": "skep.cli.cgroup:tree",
    "attach": "skep.cli.cgroup:attach",
    "detach": "skep.cli.cgroup:detach",
}

USAGE = """\
usage: skep cgroup { show | list } CGROUP [effective]
       skep cgroup tree [CGROUP_ROOT] [effective]
       skep cgroup attach CGROUP ATTACH_TYPE PROG [multi] [override]
       skep cgroup detach CGROUP ATTACH_TYPE PROG

       ATTACH_TYPE := { cgroup_inet_ingress | cgroup_inet_egress | cgroup_inet_sock_create |
                        cgroup_sock_ops | cgroup_device | cgroup_inet4_connect | cgroup_sysctl |
                        cgroup_getsockopt | … }, or bpftool's short ones: ingress, egress, connect4, …
       PROG := { id ID | pinned FILE | tag TAG | name NAME }
"""

_FLAGS = {0: "", BPF_F_ALLOW_MULTI: "multi", BPF_F_ALLOW_OVERRIDE: "override"}
#: attach types of cgroups; others would take the descriptor for an interface's index
_TYPES = tuple(t for t in AttachType if t.name.startswith("CGROUP_") or t == AttachType.LSM_CGROUP)


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("cgroup", VERBS, USAGE, argv)


def show(call: Call, words: Words) -> None:
    path = words.take("CGROUP")
    effective = _effective(words)
    rows = _attached(call, path, effective, AttachNames())
    if call.json:
        call.emit([_json(row, effective) for row in rows])
    elif rows:
        call.write(_heading(effective) + "".join(_plain(row, effective, "") for row in rows))


def tree(call: Call, words: Words) -> None:
    root = None
    if words and not words.next_is("effective"):
        root = words.take("CGROUP_ROOT")
    effective = _effective(words)
    if root is None:
        root = _cgroup_root()
    answers: list[Any] = []
    attach_names = AttachNames()
    out = ["CgroupPath\n" + _heading(effective)]
    for path, level in _folders(root):
        rows = _attached(call, path, effective, attach_names)
        if rows:
            answers.append({"cgroup": path, "programs": [_json(row, effective) for row in rows]})
            out.append(f"{path}\n" + "".join(_plain(row, effective, "    " if level else "") for row in rows))
    if call.json:
        call.emit(answers)
    else:
        call.write("".join(out))


def _effective(words: Words) -> bool:
    found = words.accept("effective")
    words.end()
    return found


def _cgroup_root() -> str:
    with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if len(fields) > 2 and fields[2] == "cgroup2":
                return fields[1].replace("\\040", " ")
    raise SkepError("cgroup v2 is not mounted: mount -t cgroup2 none DIR")


def _folders(root: str, level: int = 0) -> Iterator[tuple[str, int]]:
    """``root`` and what is below on the same file system, each with its depth."""
    device = os.stat(root).st_dev
    yield root, level
    with os.scandir(root) as entries:
        below = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    for entry in below:
        if entry.stat(follow_symlinks=False).st_dev == device:
            yield from _folders(entry.path, level + 1)


def _attached(call: Call, path: str, effective: bool, attach_names: AttachNames) -> list[dict[str, Any]]:
    """Everything attached to one cgroup, a row a program."""
    kernel = call.kernel
    rows: list[dict[str, Any]] = []
    flags = BPF_F_QUERY_EFFECTIVE if effective else 0
    fd = os.open(path, os.O_RDONLY)
    try:
        for kind in _TYPES:
            try:
                answer = kernel.prog_query(fd, kind, flags)
            except KernelError as error:
                if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                    continue
                if error.errno == errno.EBADF:
                    raise SkepError(f"{path} is no cgroup of version 2") from None
                raise
            each = answer.get("prog_attach_flags") or []
            for index, id in enumerate(answer["prog_ids"]):
                own = each[index] if index < len(each) else 0
                row = _program(call, id, kind, own or answer["attach_flags"], attach_names)
                if row is not None:
                    rows.append(row)
    finally:
        os.close(fd)
    return rows


def _program(
    call: Call, id: int, kind: AttachType, flags: int, attach_names: AttachNames
) -> dict[str, Any] | None:
    fd = objects.opened(call.kernel, "prog", id)
    if fd is None:
        return None
    with objects.closing(call.kernel, fd):
        about = objects.info(call.kernel, fd, "prog")
        row: dict[str, Any] = {
            "id": id,
            "attach_type": names.attach_type(kind),
            "attach_flags": _FLAGS.get(flags, f"unknown({flags:x})"),
            "name": objects.full_name(call.kernel, fd, about),
        }
    if (name := attach_names.of(about)) is not None:
        row["attach_btf_name"] = name
    return row | {"attach_btf_obj_id": about["attach_btf_obj_id"], "attach_btf_id": about["attach_btf_id"]}


class AttachNames:
    """Names of the kernel functions that LSM programs replace.

    bpftool 7.1 gives programs without one an empty name until it has met the kernel's BTF; its JSON is ours.
    """

    def __init__(self) -> None:
        self._has_btf = os.path.exists("/sys/kernel/btf/vmlinux")
        self._met = False

    def of(self, about: dict[str, Any]) -> str | None:
        if not self._has_btf:
            return None
        if not about["attach_btf_obj_id"]:
            return None if self._met else ""
        from skep.btf import Btf

        self._met = True
        return str(Btf.kernel()[about["attach_btf_id"]][1])


def _json(row: dict[str, Any], effective: bool) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not (effective and name == "attach_flags")}


def _heading(effective: bool) -> str:
    if effective:
        return f"{'ID':<8} {'AttachType':<15} {'Name':<15}\n"
    return f"{'ID':<8} {'AttachType':<15} {'AttachFlags':<15} {'Name':<15}\n"


def _plain(row: dict[str, Any], effective: bool, indent: str) -> str:
    kind = row["attach_type"]
    shown = f"{kind:<15}" if isinstance(kind, str) else f"type {kind:<10}"
    flags = "" if effective else f" {row['attach_flags']:<15}"
    more = ""
    if "attach_btf_name" in row:
        more = f" {row['attach_btf_name']:<15}"
    elif row["attach_btf_id"]:
        more = f" attach_btf_obj_id={row['attach_btf_obj_id']} attach_btf_id={row['attach_btf_id']}"
    return f"{indent}{row['id']:<8} {shown}{flags} {row['name']:<15}{more}\n"


def attach(call: Call, words: Words) -> None:
    _change(call, words, attach=True)


def detach(call: Call, words: Words) -> None:
    _change(call, words, attach=False)


def _change(call: Call, words: Words, *, attach: bool) -> None:
    kernel = call.kernel
    path = words.take("CGROUP")
    word = words.take("ATTACH_TYPE")
    kind = names.find_attach_type(word)
    if kind is None:
        raise Usage(f"no attach type {word!r}")
    fd = objects.program(kernel, words)
    with objects.closing(kernel, fd):
        flags = 0
        while attach and words:
            if words.accept("multi"):
                flags |= BPF_F_ALLOW_MULTI
            elif words.accept("override"):
                flags |= BPF_F_ALLOW_OVERRIDE
            else:
                raise Usage(f"expected multi or override, got {words.peek()!r}")
        words.end()
        cgroup = os.open(path, os.O_RDONLY)
        with objects.closing(kernel, cgroup):
            if attach:
                kernel.prog_attach(cgroup, fd, kind, flags)
            else:
                kernel.prog_detach(cgroup, fd, kind)
    call.done()
