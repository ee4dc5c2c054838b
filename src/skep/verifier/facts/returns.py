"""What programs may return, by type and attach type (check_return_code in Linux 6.18)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from skep.uapi.enums import AttachType as A
from skep.uapi.enums import ProgType as P

if TYPE_CHECKING:
    from skep.verifier.subject import Subject

_MAX_ERRNO: Final = 4095


class ReturnRange(NamedTuple):
    """Signed bounds, both included; ``word``: only the lower 32 bits are returned."""

    low: int
    high: int
    word: bool = False


_BOOLEAN: Final = ReturnRange(0, 1)
_ZERO: Final = ReturnRange(0, 0)
_ONE: Final = ReturnRange(1, 1)
_ONE_ONLY: Final = (
    A.CGROUP_UDP4_RECVMSG,
    A.CGROUP_UDP6_RECVMSG,
    A.CGROUP_UNIX_RECVMSG,
    A.CGROUP_INET4_GETPEERNAME,
    A.CGROUP_INET6_GETPEERNAME,
    A.CGROUP_UNIX_GETPEERNAME,
    A.CGROUP_INET4_GETSOCKNAME,
    A.CGROUP_INET6_GETSOCKNAME,
    A.CGROUP_UNIX_GETSOCKNAME,
)
_BOOLEANS: Final = (
    P.CGROUP_SOCK,
    P.SOCK_OPS,
    P.CGROUP_DEVICE,
    P.CGROUP_SYSCTL,
    P.CGROUP_SOCKOPT,
    P.SK_LOOKUP,
    P.NETFILTER,
)
_BOOLEAN_HOOKS: Final = ("bpf_lsm_audit_rule_known", "bpf_lsm_inode_xattr_skipcap")


def returns_nothing(subject: Subject) -> bool:
    """The program stands for a function of the kernel's that returns nothing: r0 need not be set."""
    if subject.prog_type == P.STRUCT_OPS or (
        subject.prog_type == P.LSM and subject.attach_type != A.LSM_CGROUP
    ):
        return _return_type(subject) == 0
    return False


def _return_type(subject: Subject) -> int | None:
    """The id of what the function that is attached to returns (0: void), None if that is not known."""
    from skep.verifier.facts.btf_context import attach_target
    from skep.verifier.facts.btfwalk import skip_modifiers

    target = attach_target(subject)
    return skip_modifiers(target.btf, target.ret) if target is not None else None


def hook_range(subject: Subject, kernel: tuple[int, int] = (6, 18)) -> tuple[int, int] | None:
    """What an LSM hook returns, for programs that look at it; None: any number."""
    if subject.prog_type != P.LSM or subject.attach_type != A.LSM_MAC or kernel < (6, 12):
        return None
    name = _hook(subject)
    if not name or _return_type(subject) == 0:
        return None
    return of_lsm_hook(name)


def of_lsm_hook(name: str) -> tuple[int, int]:
    """What the LSM hook ``bpf_lsm_NAME`` returns, which is not nothing (Linux 6.12)."""
    return (0, 1) if name in _BOOLEAN_HOOKS else (-_MAX_ERRNO, 0)


def _hook(subject: Subject) -> str:
    from skep.verifier.facts.btf_context import attach_target

    target = attach_target(subject)
    return target.name if target is not None else ""


def return_range(subject: Subject, kernel: tuple[int, int] = (6, 18)) -> ReturnRange | None:
    """The values that r0 may have when the program ends; None: any."""
    kind, attach = subject.prog_type, subject.attach_type
    if kind == P.CGROUP_SOCK_ADDR:
        if attach in _ONE_ONLY:
            return _ONE
        wide = attach in (A.CGROUP_INET4_BIND, A.CGROUP_INET6_BIND) and kernel >= (5, 12)
        return ReturnRange(0, 3) if wide else _BOOLEAN
    if kind == P.CGROUP_SKB:
        return ReturnRange(0, 3) if attach == A.CGROUP_INET_EGRESS else _BOOLEAN
    if kind in _BOOLEANS:
        return _BOOLEAN
    if kind == P.TRACING:
        if attach in (A.TRACE_FENTRY, A.TRACE_FEXIT):
            return _ZERO
        return _BOOLEAN if attach in (A.TRACE_ITER, A.TRACE_FSESSION) else None
    if kind == P.KPROBE:
        return _BOOLEAN if attach in (A.TRACE_KPROBE_SESSION, A.TRACE_UPROBE_SESSION) else None
    if kind == P.LSM:
        if attach == A.LSM_CGROUP:
            return _ONE if _return_type(subject) == 0 else _BOOLEAN
        found = hook_range(subject, kernel)
        return ReturnRange(*found, word=True) if found is not None else None
    if kind == P.STRUCT_OPS:
        return _ZERO if _returns_pointer(subject) else None
    return None


def _returns_pointer(subject: Subject) -> bool:
    from skep.verifier.facts.btf_context import attach_target
    from skep.verifier.facts.btfwalk import skip_modifiers

    target = attach_target(subject)
    return target is not None and target.btf[skip_modifiers(target.btf, target.ret)][0] == 2
