"""Names of types as bpftool and libbpf write them: those of <linux/bpf.h> in lower case."""

from __future__ import annotations

from skep.plain import IntEnum
from skep.uapi.enums import AttachType, LinkType, MapType, ProgType

#: what bpftool takes besides libbpf's names of attach types
ATTACH_ALIASES = {
    "ingress": AttachType.CGROUP_INET_INGRESS,
    "egress": AttachType.CGROUP_INET_EGRESS,
    "sock_create": AttachType.CGROUP_INET_SOCK_CREATE,
    "sock_release": AttachType.CGROUP_INET_SOCK_RELEASE,
    "sock_ops": AttachType.CGROUP_SOCK_OPS,
    "device": AttachType.CGROUP_DEVICE,
    "bind4": AttachType.CGROUP_INET4_BIND,
    "bind6": AttachType.CGROUP_INET6_BIND,
    "connect4": AttachType.CGROUP_INET4_CONNECT,
    "connect6": AttachType.CGROUP_INET6_CONNECT,
    "post_bind4": AttachType.CGROUP_INET4_POST_BIND,
    "post_bind6": AttachType.CGROUP_INET6_POST_BIND,
    "getpeername4": AttachType.CGROUP_INET4_GETPEERNAME,
    "getpeername6": AttachType.CGROUP_INET6_GETPEERNAME,
    "getsockname4": AttachType.CGROUP_INET4_GETSOCKNAME,
    "getsockname6": AttachType.CGROUP_INET6_GETSOCKNAME,
    "sendmsg4": AttachType.CGROUP_UDP4_SENDMSG,
    "sendmsg6": AttachType.CGROUP_UDP6_SENDMSG,
    "sysctl": AttachType.CGROUP_SYSCTL,
    "recvmsg4": AttachType.CGROUP_UDP4_RECVMSG,
    "recvmsg6": AttachType.CGROUP_UDP6_RECVMSG,
    "getsockopt": AttachType.CGROUP_GETSOCKOPT,
    "setsockopt": AttachType.CGROUP_SETSOCKOPT,
    "raw_tp": AttachType.TRACE_RAW_TP,
    "fentry": AttachType.TRACE_FENTRY,
    "fexit": AttachType.TRACE_FEXIT,
    "mod_ret": AttachType.MODIFY_RETURN,
    "sk_skb_reuseport_select": AttachType.SK_REUSEPORT_SELECT,
    "sk_skb_reuseport_select_or_migrate": AttachType.SK_REUSEPORT_SELECT_OR_MIGRATE,
}


def lower(kind: type[IntEnum], value: int) -> str | int:
    """The name of a type in lower case, or its number when it is newer than this table."""
    try:
        return kind(value).name.lower()
    except ValueError:
        return value


def prog_type(value: int) -> str | int:
    return lower(ProgType, value)


def map_type(value: int) -> str | int:
    return lower(MapType, value)


def link_type(value: int) -> str | int:
    return lower(LinkType, value)


def attach_type(value: int) -> str | int:
    return lower(AttachType, value)


def plain(name: str | int) -> str:
    """A type's name in plain output."""
    return name if isinstance(name, str) else f"type {name}"


def find_attach_type(word: str) -> AttachType | None:
    """The attach type ``word`` means: libbpf's name in full, or a prefix of bpftool's older one."""
    for known in AttachType:
        if word == known.name.lower():
            return known
    older = {value: alias for alias, value in ATTACH_ALIASES.items()}
    for known in AttachType:
        if word and older.get(known, known.name.lower()).startswith(word):
            return known
    return None
