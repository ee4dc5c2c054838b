"""Attaching on the live kernel: one module for each hook, chosen by the program's type and section.

Each module's ``attach(kernel, program, *target, **options)`` documents what it takes; docs/hooks.md is the
overview. An attachment either is whole or, when attaching fails, leaves nothing behind.
"""

from __future__ import annotations

from skep.errors import KernelError
from skep.linux.links.common import absent
from skep.uapi.enums import AttachType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.kernel.link import Link
    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_BY_TYPE: Final = {
    ProgType.SOCKET_FILTER: "sockets",
    ProgType.SK_REUSEPORT: "sockets",
    ProgType.SCHED_CLS: "tc",
    ProgType.SCHED_ACT: "tc",
    ProgType.TRACEPOINT: "tracepoint",
    ProgType.XDP: "xdp",
    ProgType.PERF_EVENT: "perf_event",
    ProgType.CGROUP_SKB: "cgroup",
    ProgType.CGROUP_SOCK: "cgroup",
    ProgType.CGROUP_DEVICE: "cgroup",
    ProgType.CGROUP_SOCK_ADDR: "cgroup",
    ProgType.CGROUP_SYSCTL: "cgroup",
    ProgType.CGROUP_SOCKOPT: "cgroup",
    ProgType.SOCK_OPS: "cgroup",
    ProgType.LWT_IN: "lwt",
    ProgType.LWT_OUT: "lwt",
    ProgType.LWT_XMIT: "lwt",
    ProgType.LWT_SEG6LOCAL: "lwt",
    ProgType.SK_SKB: "sockmap",
    ProgType.SK_MSG: "sockmap",
    ProgType.RAW_TRACEPOINT: "tracing",
    ProgType.RAW_TRACEPOINT_WRITABLE: "tracing",
    ProgType.TRACING: "tracing",
    ProgType.LSM: "tracing",
    ProgType.LIRC_MODE2: "lirc",
    ProgType.FLOW_DISSECTOR: "netns",
    ProgType.SK_LOOKUP: "netns",
    ProgType.EXT: "freplace",
    ProgType.NETFILTER: "netfilter",
}
_BY_ATTACH_TYPE: Final = {
    AttachType.TRACE_ITER: "iter",
    AttachType.LSM_CGROUP: "cgroup",
    AttachType.TRACE_FENTRY_MULTI: "tracing_multi",
    AttachType.TRACE_FEXIT_MULTI: "tracing_multi",
    AttachType.TRACE_FSESSION_MULTI: "tracing_multi",
    AttachType.TRACE_KPROBE_MULTI: "kprobe_multi",
    AttachType.TRACE_KPROBE_SESSION: "kprobe_multi",
    AttachType.TRACE_UPROBE_MULTI: "uprobe_multi",
    AttachType.TRACE_UPROBE_SESSION: "uprobe_multi",
}
_ELSEWHERE: Final = {
    ProgType.SYSCALL: "a syscall program is not attached: Program.run() runs it",
    ProgType.STRUCT_OPS: "a struct_ops program is attached with the map of its struct",
}


def attach(kernel: Kernel, program: Program, *target: Any, **options: Any) -> Link:
    """Attach ``program``; the hook's own module documents ``target`` and ``options``.

    Raises:
        KernelError: the hook does not exist, or the kernel refused; EINVAL, an argument that the hook
            does not take.
        NotSupported: the kernel lacks the hook.
    """
    spec = program.spec
    if spec.type in _ELSEWHERE:
        raise KernelError(22, f"{program.name}: {_ELSEWHERE[spec.type]}")
    name, function = _home(program)
    module = __import__(f"skep.linux.links.{name}", fromlist=[function])
    try:
        made: Link = getattr(module, function)(kernel, program, *target, **options)
    except OverflowError as error:  # a number that the kernel's field cannot hold
        raise KernelError(22, f"{program.name}: {error}") from None
    except TypeError as error:
        # a wrong argument of the call itself, not a mistake inside
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        words = str(error).partition("() ")[2] or str(error)
        raise KernelError(22, f"{program.name}: attaching by {name}: {words} (docs/hooks.md)") from None
    return made


def _home(program: Program) -> tuple[str, str]:
    spec = program.spec
    if spec.type == ProgType.KPROBE:
        hook = spec.hook.removesuffix(".s")
        if spec.attach_type in _BY_ATTACH_TYPE:
            return _BY_ATTACH_TYPE[spec.attach_type], "attach"
        if hook == "usdt":
            return "usdt", "attach"
        if hook in ("ksyscall", "kretsyscall"):
            return "kprobe", "attach_syscall"
        return ("uprobe" if hook.startswith("u") else "kprobe"), "attach"
    if spec.attach_type in _BY_ATTACH_TYPE and spec.type in (ProgType.TRACING, ProgType.LSM):
        return _BY_ATTACH_TYPE[spec.attach_type], "attach"
    name = _BY_TYPE.get(spec.type)
    if name is None:
        raise absent(f"attaching {spec.type.name} programs")
    return name, "attach"
