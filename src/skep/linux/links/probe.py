"""What kprobes and uprobes share: the perf PMUs that make them (Linux 4.17) and the older text files."""

from __future__ import annotations

import ctypes
import errno
import os
from itertools import count

from skep.errors import KernelError
from skep.kernel.perfevent import open_event
from skep.linux.links.common import absent
from skep.linux.links.perf import PerfLink, attach_event
from skep.linux.links.tracefs import Tracefs
from skep.linux.links.tracepoint import open_tracepoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_PMU: Final = "/sys/bus/event_source/devices"
_REF_CTR_SHIFT: Final = 32
_NEEDS: Final = {"kprobe": "CONFIG_KPROBE_EVENTS", "uprobe": "CONFIG_UPROBE_EVENTS"}


def attach_probe(
    kernel: Kernel,
    program: Program,
    kind: str,
    where: str,
    offset: int,
    *,
    ret: bool,
    target: str,
    pid: int = -1,
    cookie: int = 0,
    ref_ctr_offset: int = 0,
    legacy: bool | None = None,
    link: bool | None = None,
) -> PerfLink:
    """Probe ``where`` (a function, or a file's path) at ``offset``; ``kind`` is "kprobe" or "uprobe".

    ``legacy`` True insists on tracefs, False on the perf PMU; None takes tracefs where there is no PMU.
    """
    number = None if legacy else _sysfs(f"{_PMU}/{kind}/type")
    if number is None:
        if legacy is False:
            raise absent(f"the {kind} perf PMU", "4.17")
        return _by_tracefs(
            kernel, program, kind, where, offset, ret, target, pid, cookie, ref_ctr_offset, link
        )
    config = ref_ctr_offset << _REF_CTR_SHIFT
    if ret:
        config |= 1 << (_sysfs(f"{_PMU}/{kind}/format/retprobe") or 0)
    path = ctypes.create_string_buffer(where.encode())
    try:
        fd = open_event(
            kernel,
            pid=pid,
            cpu=0 if pid == -1 else -1,
            type=number,
            config=config,
            config1=ctypes.addressof(path) if where else 0,
            config2=offset,
        )
    except KernelError as error:
        raise _explained(error, kind, target) from None
    return attach_event(kernel, program, fd, target=target, cookie=cookie, link=link)


def _by_tracefs(
    kernel: Kernel,
    program: Program,
    kind: str,
    where: str,
    offset: int,
    ret: bool,
    target: str,
    pid: int,
    cookie: int,
    ref_ctr_offset: int,
    link: bool | None,
) -> PerfLink:
    commands = f"{kind}_events"
    with Tracefs() as tracefs:
        if not tracefs.has(commands):
            raise absent(f"{kind}s ({_NEEDS[kind]})")
        name = _free_name(tracefs)
        place = f"{where}+{offset:#x}" if kind == "kprobe" else f"{where}:{offset:#x}"
        if ref_ctr_offset:
            place += f"({ref_ctr_offset:#x})"
        try:
            tracefs.append(commands, f"{'r' if ret else 'p'}:skep/{name} {place}")
        except KernelError as error:
            raise _explained(error, kind, target) from None

        def remove() -> None:
            with Tracefs() as tracefs:
                tracefs.append(commands, f"-:skep/{name}")

        try:
            fd = open_tracepoint(kernel, tracefs.event_id("skep", name), pid=pid)
        except BaseException:
            remove()
            raise
    made = attach_event(kernel, program, fd, target=target, cookie=cookie, link=link, after=remove)
    if made.kind == "perf":
        made.kind = "tracefs"
    return made


def _free_name(tracefs: Tracefs) -> str:
    """A name for a probe that no other has: they live in one list for the whole machine."""
    for number in count():
        name = f"p{os.getpid()}_{number}"
        if not tracefs.has(f"events/skep/{name}"):
            return name
    raise AssertionError


def _explained(error: KernelError, kind: str, target: str) -> KernelError:
    reason = {
        (
            "kprobe",
            errno.ENOENT,
        ): "no such function in this kernel (inlined, renamed, or in a module not loaded)",
        ("kprobe", errno.EINVAL): "no such function, or one that may not be probed at this offset",
        ("kprobe", errno.EADDRNOTAVAIL): "the function is not to be probed twice at this place",
        ("uprobe", errno.ENOENT): "no such file",
        ("uprobe", errno.EINVAL): "not a file that can be probed at this offset",
    }.get((kind, error.errno or 0))
    if reason is None:
        return error
    return KernelError(error.errno or 0, f"{target}: {reason}", cmd=error.cmd)


def _sysfs(path: str) -> int | None:
    """A number of sysfs: "7", or the 0 of "config:0"."""
    try:
        with open(path, encoding="utf-8") as file:
            return int(file.read().rpartition(":")[2].partition("-")[0])
    except (OSError, ValueError):
        return None
