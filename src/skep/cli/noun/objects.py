"""Objects of the kernel by id, name, tag or pin, and what the kernel says about them."""

from __future__ import annotations

import errno
import os
from sys import byteorder

from skep.cli.noun.words import Usage, Words
from skep.errors import KernelError, SkepError
from skep.kernel.kinds import KINDS, kind_of
from skep.uapi.attr import INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from skep.kernel.protocol import Kernel

#: object names in the kernel are this long, with the zero byte
NAME_BYTES = 16


def ids(kernel: Kernel, kind: str) -> Iterator[int]:
    """Every id of a kind, ascending."""
    found = kernel.get_next_id(kind, 0)
    while found is not None:
        yield found
        found = kernel.get_next_id(kind, found)


def opened(kernel: Kernel, kind: str, id: int) -> int | None:
    """A descriptor of an object met while listing; None when it has gone meanwhile."""
    try:
        return kernel.get_fd_by_id(kind, id)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def by_id(kernel: Kernel, kind: str, id: int) -> int:
    """A descriptor of the object with this id.

    Raises:
        SkepError: there is none.
    """
    fd = opened(kernel, kind, id)
    if fd is None:
        raise SkepError(f"no {kind} has id {id}")
    return fd


def info(kernel: Kernel, fd: int, kind: str, **request: Any) -> dict[str, Any]:
    """What BPF_OBJ_GET_INFO_BY_FD answers, by the names of its struct; byte arrays as bytes.

    Programs have ``gpl_compatible``, too, which is a bit of the struct.
    """
    data = kernel.obj_get_info_by_fd(fd, kind, request)
    layout = INFO[f"bpf_{kind}_info"]
    # An older kernel answers fewer bytes; what it does not know is zero.
    answer: dict[str, Any] = layout.unpack(data.ljust(layout.size, b"\0"))
    if kind == "prog":
        answer["gpl_compatible"] = bool(data[84] & 1) if len(data) > 84 else False
    return answer


def field(kernel: Kernel, fd: int, kind: str, name: str) -> int:
    """One number of what `info` answers; 0 on a kernel that does not know it."""
    offset, size, _ = INFO[f"bpf_{kind}_info"].fields[name]
    return int.from_bytes(kernel.obj_get_info_by_fd(fd, kind)[offset : offset + size], byteorder)


def object_name(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")


def fdinfo(fd: int) -> dict[str, str]:
    """/proc/self/fdinfo of a descriptor: "memlock", "frozen", …"""
    # A listing reads one for each object: without a file object that costs a fifth.
    out: dict[str, str] = {}
    try:
        file = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return out
    try:
        data = os.read(file, 1 << 16)
    except OSError:
        return out
    finally:
        os.close(file)
    for line in data.decode("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        out[name] = value.strip()
    return out


def pinned(kernel: Kernel, path: str, kind: str) -> int:
    """A descriptor of the object pinned at ``path``.

    Raises:
        SkepError: it is of another kind.
    """
    fd = kernel.obj_get(path)
    found = kind_of(fd)
    if found != kind:
        kernel.close(fd)
        raise SkepError(f"{path}: a {found or 'different object'} is pinned there, not a {kind}")
    return fd


def full_name(kernel: Kernel, fd: int, about: dict[str, Any]) -> str:
    """A program's name; one that the kernel has cut short is found in full in its BTF."""
    name = object_name(about["name"])
    if len(name) < NAME_BYTES - 1 or not about["btf_id"] or not about["nr_func_info"]:
        return name
    record = bytearray(about["func_info_rec_size"])
    try:
        info(
            kernel,
            fd,
            "prog",
            nr_func_info=1,
            func_info_rec_size=len(record),
            func_info=record,
        )
        from skep.btf import types
        from skep.cli.noun.kernel_btf import load

        value = load(kernel, about["btf_id"])[int.from_bytes(record[4:8], "little")]
    except SkepError:
        return name
    return value[1] if value[0] == types.FUNC else name


# --- named on the command line -----------------------------------------------------------------


def programs(kernel: Kernel, words: Words) -> list[int]:
    """Descriptors of the programs that ``id N``, ``tag T``, ``name X`` or ``pinned P`` means."""
    if words.accept("id"):
        return [by_id(kernel, "prog", words.number("ID"))]
    if words.accept("tag"):
        text = words.take("TAG")
        try:
            tag = bytes.fromhex(text)
        except ValueError:
            tag = b""
        if len(tag) != 8:
            raise Usage(f"a tag has 16 hex digits, not {text!r}")
        return _matching(kernel, "prog", lambda fd, about: about["tag"] == tag)
    if words.accept("name"):
        name = words.take("NAME")
        return _matching(kernel, "prog", lambda fd, about: full_name(kernel, fd, about) == name)
    if words.accept("pinned"):
        return [pinned(kernel, words.take("PATH"), "prog")]
    raise Usage(f"expected id, tag, name or pinned, got {words.peek()!r}")


def maps(kernel: Kernel, words: Words) -> list[int]:
    """Descriptors of the maps that ``id N``, ``name X`` or ``pinned P`` means."""
    if words.accept("id"):
        return [by_id(kernel, "map", words.number("ID"))]
    if words.accept("name"):
        name = words.take("NAME")
        if len(name) >= NAME_BYTES:
            raise Usage(f"map names have at most {NAME_BYTES - 1} letters")
        return _matching(kernel, "map", lambda fd, about: object_name(about["name"]) == name)
    if words.accept("pinned"):
        return [pinned(kernel, words.take("PATH"), "map")]
    raise Usage(f"expected id, name or pinned, got {words.peek()!r}")


def link(kernel: Kernel, words: Words) -> int:
    """A descriptor of the link that ``id N`` or ``pinned P`` means."""
    if words.accept("id"):
        return by_id(kernel, "link", words.number("ID"))
    if words.accept("pinned"):
        return pinned(kernel, words.take("PATH"), "link")
    raise Usage(f"expected id or pinned, got {words.peek()!r}")


def program(kernel: Kernel, words: Words) -> int:
    """The one program meant."""
    return _single(kernel, programs(kernel, words), "program")


def map_(kernel: Kernel, words: Words) -> int:
    """The one map meant."""
    return _single(kernel, maps(kernel, words), "map")


def _single(kernel: Kernel, fds: Sequence[int], what: str) -> int:
    if len(fds) == 1:
        return fds[0]
    for fd in fds:
        kernel.close(fd)
    raise SkepError(f"{len(fds)} {what}s match; name one by its id")


def _matching(kernel: Kernel, kind: str, wanted: Any) -> list[int]:
    found: list[int] = []
    try:
        for id in ids(kernel, kind):
            fd = opened(kernel, kind, id)
            if fd is None:
                continue
            if wanted(fd, info(kernel, fd, kind)):
                found.append(fd)
            else:
                kernel.close(fd)
    except BaseException:
        for fd in found:
            kernel.close(fd)
        raise
    if not found:
        raise SkepError(f"no such {kind}")
    return found


class closing:  # noqa: N801 - used as a function, as contextlib's, which takes 5 ms to import
    """Close the descriptors at the end."""

    __slots__ = ("_fds", "_kernel")

    def __init__(self, kernel: Kernel, *fds: int) -> None:
        self._kernel = kernel
        self._fds = fds

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        for fd in self._fds:
            self._kernel.close(fd)


# --- pins and processes ------------------------------------------------------------------------


class Table:
    """Values by id, those of one id in the order in which bpftool lists them.

    bpftool keeps them in libbpf's hash map, which puts new entries in front and turns the order around
    whenever it grows (to 4, 8, 16, … buckets, at three quarters full). Its JSON lists show that order.
    """

    __slots__ = ("_buckets", "_size", "rows")

    def __init__(self) -> None:
        self.rows: dict[int, list[Any]] = {}
        self._buckets = 0
        self._size = 0

    def add(self, id: int, value: Any) -> None:
        if (self._size + 1) * 4 // 3 > self._buckets:
            self._buckets = max(4, 2 * self._buckets)
            for row in self.rows.values():
                row.reverse()
        self._size += 1
        self.rows.setdefault(id, []).insert(0, value)


def pins(kernel: Kernel, kind: str) -> dict[int, list[str]]:
    """id -> paths, of every object of ``kind`` pinned in a bpffs of this mount namespace."""
    table = Table()
    for root in bpf_mounts():
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    fd = kernel.obj_get(path)
                except OSError:
                    continue
                with closing(kernel, fd):
                    if kind_of(fd) == kind:
                        table.add(info(kernel, fd, kind)["id"], path)
    return table.rows


def bpf_mounts() -> list[str]:
    """Where bpffs is mounted."""
    found: list[str] = []
    try:
        with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return found
    for line in lines:
        fields = line.split()
        if len(fields) > 2 and fields[2] == "bpf":
            found.append(fields[1].replace("\\040", " "))
    return found


def holders(kind: str) -> dict[int, list[tuple[int, str]]]:
    """id -> (pid, command) of the processes with a descriptor of such an object.

    Read from /proc, so only processes that this user may inspect are seen.
    """
    key = {"prog": "prog_id", "map": "map_id", "link": "link_id", "btf": "btf_id"}[kind]
    table: dict[int, list[tuple[int, str]]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fds = os.listdir(f"/proc/{entry}/fd")
            with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as file:
                comm = file.read().rstrip("\n")
        except OSError:
            continue
        for fd in fds:
            try:
                id = _held(f"/proc/{entry}", fd, kind, key)
            except OSError:
                continue
            if id is not None:
                rows = table.setdefault(id, [])
                if (int(entry), comm) not in rows:
                    rows.append((int(entry), comm))
    return table


def _held(process: str, fd: str, kind: str, key: str) -> int | None:
    """The id of the object of ``kind`` that a process's descriptor is of; None for any other."""
    target = os.readlink(f"{process}/fd/{fd}")
    if kind == "btf":
        if target != "anon_inode:btf":
            return None
    elif "bpf" not in target or KINDS.get(target) != kind:
        return None
    with open(f"{process}/fdinfo/{fd}", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1])
    return None
