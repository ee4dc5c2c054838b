"""What a kernel can do, found by asking it: tiny loads and creations, undone at once.

Written against the seam, so that they hold for any kernel; `skep.linux.features` keeps the answers.
"""

from __future__ import annotations

import errno
import struct

from skep.errors import KernelError
from skep.kernel.protocol import Kernel
from skep.uapi.enums import SINCE, AttachType, MapType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final


_ENOTSUPP: Final = 524
#: r0 = 0; exit
_RETURN_0: Final = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
_NO_PREALLOC: Final = 1
_MMAPABLE: Final = 1 << 10
_SLEEPABLE: Final = 16
_STORAGE: Final = (MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE)
#: (key size, value size, entries, flags); 4, 4, 1, 0 unless told
_SHAPES: Final = {
    MapType.STACK_TRACE: (4, 8, 1, 0),
    MapType.LPM_TRIE: (8, 8, 1, _NO_PREALLOC),
    MapType.CGROUP_STORAGE: (16, 8, 0, 0),
    MapType.PERCPU_CGROUP_STORAGE: (16, 8, 0, 0),
    MapType.QUEUE: (0, 4, 1, 0),
    MapType.STACK: (0, 4, 1, 0),
    MapType.BLOOM_FILTER: (0, 4, 1, 0),
    MapType.RINGBUF: (0, 0, 4096, 0),
    MapType.USER_RINGBUF: (0, 0, 4096, 0),
    MapType.ARENA: (0, 0, 1, _MMAPABLE),
    MapType.INSN_ARRAY: (4, 16, 1, 0),
    MapType.RHASH: (4, 4, 1, _NO_PREALLOC),
}
_ATTACH: Final = {
    ProgType.CGROUP_SOCK: AttachType.CGROUP_INET_SOCK_CREATE,
    ProgType.CGROUP_SOCK_ADDR: AttachType.CGROUP_INET4_CONNECT,
    ProgType.CGROUP_SOCKOPT: AttachType.CGROUP_GETSOCKOPT,
    ProgType.SK_LOOKUP: AttachType.SK_LOOKUP,
    ProgType.NETFILTER: AttachType.NETFILTER,
    ProgType.TRACING: AttachType.TRACE_RAW_TP,
    ProgType.LSM: AttachType.LSM_MAC,
}
#: types that need a kernel function: a kernel that knows them complains about the id, in its log
_BY_BTF: Final = {
    ProgType.TRACING: "attach_btf_id",
    ProgType.LSM: "attach_btf_id",
    ProgType.EXT: "",
    ProgType.STRUCT_OPS: "",
}


def map_type(kernel: Kernel, kind: int) -> bool:
    """Whether maps of this type can be created (as far as this process may)."""
    if kind == MapType.STRUCT_OPS:
        try:
            kernel.close(kernel.map_create(kind, 4, 4, 1, btf_vmlinux_value_type_id=1))
        except KernelError as error:
            return error.errno == _ENOTSUPP
        return True
    attr: dict[str, Any] = {}
    key, value, entries, flags = _SHAPES.get(MapType(kind), (4, 4, 1, 0))
    closing: list[int] = []
    try:
        if kind in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
            closing.append(kernel.map_create(MapType.HASH, 4, 4, 1))
            attr["inner_map_fd"] = closing[0]
        if kind in _STORAGE:
            closing.append(kernel.btf_load(_int_btf()))
            entries, flags = 0, _NO_PREALLOC
            attr |= {"btf_fd": closing[0], "btf_key_type_id": 1, "btf_value_type_id": 1}
        closing.append(kernel.map_create(kind, key, value, entries, flags, **attr))
        return True
    except KernelError:
        return False
    finally:
        for fd in closing:
            kernel.close(fd)


def prog_type(kernel: Kernel, kind: int) -> bool:
    """Whether programs of this type can be loaded."""
    attr: dict[str, Any] = {}
    if kind == ProgType.KPROBE:
        major, minor = kernel.version
        attr["kern_version"] = major << 16 | minor << 8
    if kind in _BY_BTF:
        attr["attach_btf_id"] = 1
    try:
        fd, _ = kernel.prog_load(
            kind,
            _RETURN_0,
            "GPL",
            expected_attach_type=_ATTACH.get(ProgType(kind), 0),
            prog_flags=_SLEEPABLE if kind == ProgType.SYSCALL else 0,
            log_level=1 if kind in _BY_BTF else 0,
            **attr,
        )
    except KernelError as error:
        if kind in (ProgType.EXT, ProgType.STRUCT_OPS):
            # Known types get as far as the verifier, which finds type 1 to be no struct or function.
            return (
                error.errno == _ENOTSUPP or "attach_btf_id 1 is not a" in error.log or "Cannot" in error.log
            )
        return kind in _BY_BTF and "attach_btf_id 1 is not a " in error.log
    kernel.close(fd)
    return True


def helper(kernel: Kernel, kind: int, number: int) -> bool:
    """Whether programs of type ``kind`` may call helper ``number``.

    A call without arguments is loaded: a kernel that knows the helper complains about something else.
    """
    attr: dict[str, Any] = {}
    if kind == ProgType.KPROBE:
        major, minor = kernel.version
        attr["kern_version"] = major << 16 | minor << 8
    insns = struct.pack("=BBhi", 0x85, 0, 0, number) + _RETURN_0
    try:
        fd, _ = kernel.prog_load(
            kind,
            insns,
            "GPL",
            expected_attach_type=_ATTACH.get(ProgType(kind), 0),
            prog_flags=_SLEEPABLE if kind == ProgType.SYSCALL else 0,
            log_level=1,
            **attr,
        )
    except KernelError as error:
        log = error.log
        # Before 6.10 "unknown func bpf_x#N" also stood for "not in programs of this type".
        refused = ("invalid func ", "unknown func ", "program of this type cannot use helper ")
        return bool(log) and not any(text in log for text in refused)
    kernel.close(fd)
    return True


def uprobe_multi(kernel: Kernel) -> bool:
    """Whether many uprobes make one link, and ``pid`` means a process there and not one thread (6.10).

    The root folder is no binary (EBADF), and a kernel that minds processes minds negative ones (EINVAL).
    """
    kind = AttachType.TRACE_UPROBE_MULTI
    try:
        fd, _ = kernel.prog_load(ProgType.KPROBE, _RETURN_0, "GPL", expected_attach_type=kind)
    except KernelError:
        return False
    try:
        return [_uprobe_errno(kernel, fd, pid) for pid in (0, 0xFFFFFFFF)] == [errno.EBADF, errno.EINVAL]
    finally:
        kernel.close(fd)


def _uprobe_errno(kernel: Kernel, fd: int, pid: int) -> int:
    fields = {"uprobe_multi__cnt": 1, "uprobe_multi__pid": pid}
    try:
        made = kernel.link_create(
            fd,
            0,
            AttachType.TRACE_UPROBE_MULTI,
            uprobe_multi__path=b"/\0",
            uprobe_multi__offsets=bytes(8),
            **fields,
        )
    except KernelError as error:
        return error.errno or 0
    kernel.close(made)
    return 0


def far_offsets(kernel: Kernel) -> bool:
    """Whether a program may name a byte of a map's value past 2**29 (its verifier then looks at the map's
    size; before, no offset so large was allowed at all). The last pages of large arenas need it.
    """
    fd = kernel.map_create(MapType.ARRAY, 4, 4, 1)
    try:
        load = struct.pack("=BBhiBBhi", 0x18, 0x21, 0, fd, 0, 0, 0, 1 << 30)
        kernel.close(kernel.prog_load(ProgType.SOCKET_FILTER, load + _RETURN_0, "GPL")[0])
    except KernelError as error:
        return "invalid access to map value pointer" in error.log
    finally:
        kernel.close(fd)
    return True


def _int_btf() -> bytes:
    return raw_btf(((1, 1 << 24, 4, 1 << 24 | 32),), b"\0int\0")


def raw_btf(types: tuple[tuple[int, ...], ...], strings: bytes) -> bytes:
    """BTF of types given as words."""
    words = [word for row in types for word in row]
    body = struct.pack(f"={len(words)}I", *words)
    return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


#: what of BTF came after 4.18 -> types that show it (an int is type 1; strings: "\0int\0x\0")
_INT: Final = (1, 1 << 24, 4, 1 << 24 | 32)
BTF_KINDS: Final[dict[str, tuple[tuple[int, ...], ...]]] = {
    "func": (_INT, (0, 13 << 24, 0), (5, 12 << 24, 2)),
    "global func": (_INT, (0, 13 << 24, 0), (5, 12 << 24 | 1, 2)),
    "datasec": (_INT, (5, 14 << 24, 1, 0), (5, 15 << 24 | 1, 4, 2, 0, 4)),
    "float": ((5, 16 << 24, 4),),
    "decl_tag": (_INT, (5, 14 << 24, 1, 0), (5, 17 << 24, 2, 0xFFFFFFFF)),
    "type_tag": (_INT, (5, 18 << 24, 1), (0, 2 << 24, 2)),
    "enum64": ((0, 19 << 24, 8),),
    "optional datasec": (_INT, (5, 14 << 24, 1, 0), (7, 15 << 24 | 1, 4, 2, 0, 4)),
}
BTF_SINCE: Final = {
    "func": "5.0",
    "global func": "5.6",
    "datasec": "5.2",
    "float": "5.13",
    "decl_tag": "5.16",
    "type_tag": "5.17",
    "enum64": "6.0",
    "optional datasec": "6.9",
}


def btf_kind(kernel: Kernel, name: str) -> bool:
    """Whether the kernel takes BTF with this (a key of `BTF_KINDS`)."""
    try:
        kernel.close(kernel.btf_load(raw_btf(BTF_KINDS[name], b"\0int\0x\0?.x\0")))
    except KernelError:
        return False
    return True


def known_since(kernel: Kernel, c_name: str) -> bool:
    """Whether this kernel's version has what is called ``c_name`` in <linux/bpf.h>, by the table."""
    since = SINCE.get(c_name)
    if since is None:
        return True
    major, _, minor = since.partition(".")
    return kernel.version >= (int(major), int(minor))


def refuses_all(error: KernelError) -> bool:
    """Whether an error says that this process may use none of bpf(2)."""
    return error.errno in (errno.EPERM, errno.ENOSYS)
