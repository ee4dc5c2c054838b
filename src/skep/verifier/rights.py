"""What a loader may do: the capabilities that decide which of the verifier's rules apply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from skep.errors import VerifierError
from skep.uapi.enums import ProgType as P

BPF: Final = "bpf"
PERFMON: Final = "perfmon"
NET_ADMIN: Final = "net_admin"
CAPABILITIES: Final = (BPF, PERFMON, NET_ADMIN)

#: program types that ask for CAP_NET_ADMIN, and those that ask for CAP_PERFMON (both beside CAP_BPF)
NET_ADMIN_TYPES: Final = frozenset(
    (P.SCHED_CLS, P.SCHED_ACT, P.XDP, P.LWT_IN, P.LWT_OUT, P.LWT_XMIT, P.LWT_SEG6LOCAL, P.SK_SKB, P.SK_MSG,
     P.FLOW_DISSECTOR, P.CGROUP_DEVICE, P.CGROUP_SOCK, P.CGROUP_SOCK_ADDR, P.CGROUP_SOCKOPT,
     P.CGROUP_SYSCTL, P.SOCK_OPS, P.EXT, P.NETFILTER)
)  # fmt: skip
PERFMON_TYPES: Final = frozenset(
    (P.KPROBE, P.TRACEPOINT, P.PERF_EVENT, P.RAW_TRACEPOINT, P.RAW_TRACEPOINT_WRITABLE, P.TRACING, P.LSM,
     P.STRUCT_OPS, P.EXT)
)  # fmt: skip
#: what everyone may load, where the machine lets anyone
ANYONES_TYPES: Final = (P.SOCKET_FILTER, P.CGROUP_SKB)
#: helpers of programs of any type that look into the kernel: CAP_PERFMON (bpf_base_func_proto)
PERFMON_HELPERS: Final = frozenset((6, 35, 112, 113, 114, 115, 149, 158, 165, 175, 177))


class Rights(NamedTuple):
    """CAP_BPF and so on. CAP_SYS_ADMIN counts as all of them, and before 5.8 was the only one."""

    bpf: bool = True
    perfmon: bool = True
    net_admin: bool = True

    @classmethod
    def of(cls, names: Iterable[str]) -> Rights:
        """From names such as ``bpf``, ``CAP_PERFMON``, ``sys_admin``. Raises VerifierError for others."""
        held = [name.lower().removeprefix("cap_") for name in names]
        for name in held:
            if name not in (*CAPABILITIES, "sys_admin"):
                raise VerifierError(
                    f"capability {name!r} decides nothing here",
                    hint="choose among bpf, perfmon, net_admin, sys_admin",
                )
        if "sys_admin" in held:
            return cls()
        return cls(BPF in held, PERFMON in held, NET_ADMIN in held)


#: a loader who may do everything
ALL: Final = Rights()


def missing(rights: Rights, kernel: tuple[int, int], prog_type: P) -> str:
    """The capability that a program of this type needs and the loader lacks, "" when it may be loaded."""
    if kernel < (5, 8):
        return "" if rights.bpf or prog_type in ANYONES_TYPES else "CAP_SYS_ADMIN"
    if not rights.bpf and prog_type not in ANYONES_TYPES:
        return "CAP_BPF"
    if not rights.net_admin and prog_type in NET_ADMIN_TYPES:
        return "CAP_NET_ADMIN"
    if not rights.perfmon and prog_type in PERFMON_TYPES:
        return "CAP_PERFMON"
    return ""
