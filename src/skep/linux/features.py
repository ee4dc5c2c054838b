"""What the running kernel can do: every answer found by trying, and kept for the process's life.

bpftool 7.1 asks the same way, but on Linux 6.12 and later takes "program of this type cannot use helper"
for a yes; here it is a no.
"""

from __future__ import annotations

import errno
import os
import struct
from functools import cache

from skep.errors import KernelError, NotSupported
from skep.kernel import probes
from skep.linux.kernel import LinuxKernel
from skep.plain import NamedTuple
from skep.uapi.enums import SINCE, AttachType, LinkType, MapType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from skep.kernel.protocol import Kernel

_EXIT: Final = struct.pack("=BBhi", 0x95, 0, 0, 0)
_MOV_R0_0: Final = struct.pack("=BBhi", 0xB7, 0, 0, 0)
_SOCKET_FILTER: Final = 1
#: types whose helpers can only be asked with a kernel function to attach to
_BY_BTF: Final = (ProgType.TRACING, ProgType.LSM, ProgType.EXT, ProgType.STRUCT_OPS)


class Feature(NamedTuple):
    """``name`` as <linux/bpf.h> has it or in words, ``since`` the first Linux version with it."""

    name: str
    since: str
    there: bool


class Features:
    """The features of one kernel."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel: Kernel = kernel if kernel is not None else LinuxKernel()
        self._known: dict[str, bool] = {}

    def _keep(self, name: str, ask: Callable[[], bool]) -> bool:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = ask()
        return known

    # --- one at a time -------------------------------------------------------------------------

    def prog_type(self, kind: ProgType) -> bool:
        return self._keep(kind.c_name, lambda: probes.prog_type(self.kernel, kind))

    def map_type(self, kind: MapType) -> bool:
        return self._keep(kind.c_name, lambda: probes.map_type(self.kernel, kind))

    def helper(self, kind: ProgType, number: int) -> bool | None:
        """Whether programs of this type may call helper ``number``; None where it cannot be asked.

        Tracing, LSM, extension and struct_ops programs have the helpers of what they attach to.
        """
        if kind in _BY_BTF:
            return None
        if not self.prog_type(kind):
            return False
        return self._keep(f"{kind} {number}", lambda: probes.helper(self.kernel, kind, number))

    def helpers(self, kind: ProgType) -> list[str]:
        """Names ("bpf_map_lookup_elem") of the helpers that programs of this type may call."""
        from skep.uapi.helpers import helpers

        return [
            f"bpf_{row.name}" for number, row in helpers().items() if number and self.helper(kind, number)
        ]

    def btf_kind(self, name: str) -> bool:
        """Whether BTF may hold this: "func", "datasec", "float", "enum64", …"""
        return self._keep(f"btf {name}", lambda: probes.btf_kind(self.kernel, name))

    def link_type(self, kind: LinkType) -> bool:
        """Whether links of this kind can be made, by a creation that must fail for another reason."""
        return self._keep(kind.c_name, lambda: _link(self.kernel, kind))

    def misc(self, name: str) -> bool:
        """A key of `MISC`."""
        return self._keep(name, lambda: MISC[name][1](self.kernel))

    def require(self, name: str, there: bool) -> None:
        """Raise NotSupported for a feature (a name of <linux/bpf.h>, or of `MISC`) that is not there."""
        if not there:
            since = SINCE.get(name) or (MISC[name][0] if name in MISC else None)
            raise NotSupported(errno.EOPNOTSUPP, name, since=since)

    # --- all of them ---------------------------------------------------------------------------

    def prog_types(self) -> list[Feature]:
        return [Feature(k.c_name, SINCE.get(k.c_name, ""), self.prog_type(k)) for k in ProgType if k.value]

    def map_types(self) -> list[Feature]:
        return [Feature(k.c_name, SINCE.get(k.c_name, ""), self.map_type(k)) for k in MapType if k.value]

    def link_types(self) -> list[Feature]:
        return [
            Feature(k.c_name, SINCE.get(k.c_name, ""), self.link_type(k)) for k in LinkType if k in _LINKS
        ]

    def btf_kinds(self) -> list[Feature]:
        return [Feature(name, probes.BTF_SINCE[name], self.btf_kind(name)) for name in probes.BTF_KINDS]

    def miscellaneous(self) -> list[Feature]:
        return [Feature(name, row[0], self.misc(name)) for name, row in MISC.items()]


@cache
def features() -> Features:
    """The running kernel's, asked once in a process."""
    return Features()


# --- how the rest is asked ---------------------------------------------------------------------


def _loads(kernel: Kernel, code: bytes, kind: int = _SOCKET_FILTER) -> bool:
    try:
        fd, _ = kernel.prog_load(kind, code, "GPL")
    except KernelError:
        return False
    kernel.close(fd)
    return True


def _insn(opcode: int, regs: int = 0, offset: int = 0, imm: int = 0) -> bytes:
    return struct.pack("=BBhi", opcode, regs, offset, imm)


def _large(kernel: Kernel) -> bool:
    return _loads(kernel, _MOV_R0_0 * 4096 + _EXIT)


def _bounded_loop(kernel: Kernel) -> bool:
    # r0 = 10; L: r0 -= 1; if r0 != 0 goto L; exit
    return _loads(kernel, _insn(0xB7, 0, 0, 10) + _insn(0x17, 0, 0, 1) + _insn(0x55, 0, -2, 0) + _EXIT)


def _isa_v2(kernel: Kernel) -> bool:
    return _loads(kernel, _MOV_R0_0 + _insn(0xA5, 0, 0, 1) + _MOV_R0_0 + _EXIT)


def _isa_v3(kernel: Kernel) -> bool:
    return _loads(kernel, _MOV_R0_0 + _insn(0xA6, 0, 0, 1) + _MOV_R0_0 + _EXIT)


def _isa_v4(kernel: Kernel) -> bool:
    # r0 = (s8) r0
    return _loads(kernel, _MOV_R0_0 + _insn(0xBF, 0, 8, 0) + _EXIT)


def _may_goto(kernel: Kernel) -> bool:
    return _loads(kernel, _MOV_R0_0 + _insn(0xE5, 0, 1, 0) + _MOV_R0_0 + _EXIT)


def _load_acquire(kernel: Kernel) -> bool:
    # *(u64 *)(r10 - 8) = 0; r0 = load_acquire((u64 *)(r10 - 8)); r0 = 0
    code = _insn(0x7A, 10, -8) + _insn(0xDB, 10 << 4, -8, 0x100) + _MOV_R0_0 + _EXIT
    return _loads(kernel, code)


def _global_data(kernel: Kernel) -> bool:
    try:
        fd = kernel.map_create(MapType.ARRAY, 4, 32, 1)
    except KernelError:
        return False
    try:
        load = _insn(0x18, 1 | 2 << 4, 0, fd) + _insn(0, 0, 0, 16)
        return _loads(kernel, load + _insn(0x7A, 1, 0, 42) + _MOV_R0_0 + _EXIT)
    finally:
        kernel.close(fd)


def _subprogram(kernel: Kernel) -> bool:
    return _loads(kernel, _insn(0x85, 1 << 4, 0, 1) + _EXIT + _MOV_R0_0 + _EXIT)


def _map(kind: MapType) -> Callable[[Kernel], bool]:
    return lambda kernel: probes.map_type(kernel, kind)


def _bpf_cookie(kernel: Kernel) -> bool:
    return probes.helper(kernel, ProgType.KPROBE, 174)


def _syscall_wrapper(kernel: Kernel) -> bool:
    machine = {"x86_64": "x64", "aarch64": "arm64", "s390x": "s390x", "riscv64": "riscv"}
    name = f"__{machine.get(os.uname().machine, '')}_sys_bpf".encode()
    try:
        with open("/proc/kallsyms", "rb") as file:
            return b" " + name + b"\n" in file.read()
    except OSError:
        return False


def _prog_name(kernel: Kernel) -> bool:
    try:
        fd, _ = kernel.prog_load(_SOCKET_FILTER, _MOV_R0_0 + _EXIT, "GPL", name="probe")
    except KernelError:
        return False
    kernel.close(fd)
    return True


def _mmapable(kernel: Kernel) -> bool:
    try:
        kernel.close(kernel.map_create(MapType.ARRAY, 4, 4, 1, 1 << 10))
    except KernelError:
        return False
    return True


def _kernel_btf(kernel: Kernel) -> bool:
    return os.path.exists("/sys/kernel/btf/vmlinux")


#: name -> (first Linux version, how it is asked)
MISC: Final[dict[str, tuple[str, Callable[[Kernel], bool]]]] = {
    "large programs (over 4096 instructions)": ("5.2", _large),
    "bounded loops": ("5.3", _bounded_loop),
    "ISA v2 (JLT, JLE, …)": ("4.14", _isa_v2),
    "ISA v3 (32-bit jumps)": ("5.1", _isa_v3),
    "ISA v4 (sign extension, …)": ("6.6", _isa_v4),
    "may_goto": ("6.9", _may_goto),
    "load-acquire and store-release": ("6.15", _load_acquire),
    "names of programs and maps": ("4.15", _prog_name),
    "BPF-to-BPF calls": ("4.16", _subprogram),
    "global data": ("5.2", _global_data),
    "memory-mapped arrays": ("5.5", _mmapable),
    "ring buffers": ("5.8", _map(MapType.RINGBUF)),
    "bpf_cookie": ("5.15", _bpf_cookie),
    "kernel BTF": ("5.4", _kernel_btf),
    "syscall wrappers": ("4.17", _syscall_wrapper),
}

#: link type -> the attach type to create one with, and the errors that say the kernel knows it: it looks
#: at the attach type before the descriptors for some, after them for others
_LINKS: Final = {
    LinkType.XDP: AttachType.XDP,
    LinkType.PERF_EVENT: AttachType.PERF_EVENT,
    LinkType.KPROBE_MULTI: AttachType.TRACE_KPROBE_MULTI,
    LinkType.UPROBE_MULTI: AttachType.TRACE_UPROBE_MULTI,
    LinkType.NETFILTER: AttachType.NETFILTER,
    LinkType.TCX: AttachType.TCX_INGRESS,
    LinkType.NETKIT: AttachType.NETKIT_PRIMARY,
}
_LINK_PROGS: Final = {
    LinkType.XDP: ProgType.XDP,
    LinkType.PERF_EVENT: ProgType.TRACEPOINT,
    LinkType.KPROBE_MULTI: ProgType.KPROBE,
    LinkType.UPROBE_MULTI: ProgType.KPROBE,
    LinkType.NETFILTER: ProgType.NETFILTER,
    LinkType.TCX: ProgType.SCHED_CLS,
    LinkType.NETKIT: ProgType.SCHED_CLS,
}
#: bad target: EBADF a descriptor, ENODEV an interface, EINVAL also where the type is unknown
_EXPECTED: Final = {
    LinkType.XDP: (errno.EINVAL, errno.ENODEV),
    LinkType.PERF_EVENT: (errno.EBADF,),
    LinkType.KPROBE_MULTI: (errno.EINVAL,),
    LinkType.UPROBE_MULTI: (errno.EBADF,),
    LinkType.NETFILTER: (errno.EAFNOSUPPORT, errno.EPFNOSUPPORT, errno.EOPNOTSUPP),
    LinkType.TCX: (errno.ENODEV,),
    LinkType.NETKIT: (errno.ENODEV,),
}


def _link(kernel: Kernel, kind: LinkType) -> bool:
    if kind not in _LINKS:
        raise NotSupported(errno.EOPNOTSUPP, f"asking for links of type {kind.name}")
    expected = _LINKS[kind]
    try:
        prog, _ = kernel.prog_load(
            _LINK_PROGS[kind], _MOV_R0_0 + _EXIT, "GPL", expected_attach_type=int(expected)
        )
    except KernelError:
        return False
    try:
        if kind == LinkType.UPROBE_MULTI:
            # A path that is none: ENOENT or EBADF where the kernel looks for it.
            try:
                kernel.close(
                    kernel.link_create(
                        prog,
                        0,
                        expected,
                        uprobe_multi__path=b"/\0",
                        uprobe_multi__offsets=bytes(8),
                        uprobe_multi__cnt=1,
                    )
                )
            except KernelError as error:
                return error.errno == errno.EBADF
            return True
        if kind == LinkType.KPROBE_MULTI:
            names = struct.pack("=Q", 0)
            try:
                kernel.close(
                    kernel.link_create(prog, 0, expected, kprobe_multi__syms=names, kprobe_multi__cnt=1)
                )
            except KernelError as error:
                return error.errno == errno.EFAULT
            return True
        target = 0x7FFFFFFF if kind not in (LinkType.PERF_EVENT,) else -1
        try:
            kernel.close(kernel.link_create(prog, target & 0xFFFFFFFF, expected))
        except KernelError as error:
            if kind == LinkType.XDP:
                return kernel.version >= (5, 9) and error.errno in _EXPECTED[kind]
            return error.errno in _EXPECTED[kind]
        return True
    finally:
        kernel.close(prog)
