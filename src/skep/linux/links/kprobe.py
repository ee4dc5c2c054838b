"""kprobes, kretprobes and system calls by name. One function, through a perf event; many: `kprobe_multi`."""

from __future__ import annotations

import errno
import os

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import bad
from skep.linux.links.probe import attach_probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

#: how the kernel's entry functions of system calls begin (Linux 4.17)
_SYSCALL: Final = {
    "x86_64": "__x64_sys_",
    "i686": "__ia32_sys_",
    "aarch64": "__arm64_sys_",
    "riscv64": "__riscv_sys_",
    "s390x": "__s390x_sys_",
    "ppc64le": "sys_",
}


def attach(
    kernel: Kernel,
    program: Program,
    function: str | None = None,
    *,
    offset: int = 0,
    ret: bool | None = None,
    cookie: int = 0,
    legacy: bool | None = None,
    link: bool | None = None,
) -> Link:
    """Attach to ``function``, "name" or "name+0x10"; by default the section's.

    Args:
        offset: bytes into the function, added to the name's; 0 for return probes.
        ret: at the function's return; by default what the section says.
        cookie: what bpf_get_attach_cookie() gives the program (Linux 5.15).
        legacy: True insists on tracefs (kprobe_events), False on the perf PMU; None takes what is there.
        link: True insists on a bpf_link, False on the perf event's ioctl.

    Raises:
        KernelError: ENOENT, no such function; EINVAL, it may not be probed.
        NotSupported: the kernel has no kprobes.
    """
    name, more = split(function or program.spec.attach_to)
    if not name:
        bad(f"{program.name}: give the function to probe: attach('do_unlinkat')")
    offset += more
    is_ret = program.spec.hook.startswith("kret") if ret is None else ret
    if is_ret and offset:
        bad(f"{name}+{offset:#x}: a return probe is of a whole function")
    target = f"{'kretprobe' if is_ret else 'kprobe'} {name}" + (f"+{offset:#x}" if offset else "")
    return attach_probe(
        kernel,
        program,
        "kprobe",
        name,
        offset,
        ret=is_ret,
        target=target,
        cookie=cookie,
        legacy=legacy,
        link=link,
    )


def attach_syscall(
    kernel: Kernel,
    program: Program,
    syscall: str | None = None,
    *,
    cookie: int = 0,
    legacy: bool | None = None,
    link: bool | None = None,
) -> Link:
    """Attach to a system call by its name ("openat"): to whichever function answers it in this kernel."""
    name = syscall or program.spec.attach_to
    if not name:
        bad(f"{program.name}: give the system call: attach('openat')")
    prefix = _SYSCALL.get(os.uname().machine, "sys_")
    ret = program.spec.hook == "kretsyscall"
    failure: KernelError | None = None
    for function in dict.fromkeys((prefix + name, f"__se_sys_{name}", f"sys_{name}", f"SyS_{name}")):
        try:
            return attach(kernel, program, function, ret=ret, cookie=cookie, legacy=legacy, link=link)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            failure = failure or error
    raise KernelError(errno.ENOENT, f"no system call {name} to probe in this kernel") from failure


def split(text: str) -> tuple[str, int]:
    """("name", offset) of "name+0x10"."""
    name, plus, offset = text.partition("+")
    try:
        return name.strip(), int(offset.strip(), 0) if plus else 0
    except ValueError:
        bad(f"{text!r}: the offset is no number")
