"""Register kinds and their flags, numbered as Linux 6.18 numbers `enum bpf_reg_type` and `bpf_type_flag`."""

from __future__ import annotations

from typing import Final

NOT_INIT: Final = 0
SCALAR_VALUE: Final = 1
PTR_TO_CTX: Final = 2
CONST_PTR_TO_MAP: Final = 3
PTR_TO_MAP_VALUE: Final = 4
PTR_TO_MAP_KEY: Final = 5
PTR_TO_STACK: Final = 6
PTR_TO_PACKET_META: Final = 7
PTR_TO_PACKET: Final = 8
PTR_TO_PACKET_END: Final = 9
PTR_TO_FLOW_KEYS: Final = 10
PTR_TO_SOCKET: Final = 11
PTR_TO_SOCK_COMMON: Final = 12
PTR_TO_TCP_SOCK: Final = 13
PTR_TO_TP_BUFFER: Final = 14
PTR_TO_XDP_SOCK: Final = 15
PTR_TO_BTF_ID: Final = 16
PTR_TO_MEM: Final = 17
PTR_TO_ARENA: Final = 18
PTR_TO_BUF: Final = 19
PTR_TO_FUNC: Final = 20
CONST_PTR_TO_DYNPTR: Final = 21
#: since Linux 6.19
PTR_TO_INSN: Final = 22

BASE_MASK: Final = 0xFF
PTR_MAYBE_NULL: Final = 1 << 8
MEM_RDONLY: Final = 1 << 9
MEM_RINGBUF: Final = 1 << 10
MEM_USER: Final = 1 << 11
MEM_PERCPU: Final = 1 << 12
OBJ_RELEASE: Final = 1 << 13
PTR_UNTRUSTED: Final = 1 << 14
MEM_UNINIT: Final = 1 << 15
DYNPTR_TYPE_LOCAL: Final = 1 << 16
DYNPTR_TYPE_RINGBUF: Final = 1 << 17
MEM_FIXED_SIZE: Final = 1 << 18
MEM_ALLOC: Final = 1 << 19
PTR_TRUSTED: Final = 1 << 20
MEM_RCU: Final = 1 << 21
NON_OWN_REF: Final = 1 << 22
DYNPTR_TYPE_SKB: Final = 1 << 23
DYNPTR_TYPE_XDP: Final = 1 << 24
MEM_ALIGNED: Final = 1 << 25
MEM_WRITE: Final = 1 << 26
DYNPTR_TYPE_SKB_META: Final = 1 << 27

PTR_TO_MAP_VALUE_OR_NULL: Final = PTR_TO_MAP_VALUE | PTR_MAYBE_NULL

#: packet pointers' range: beyond the end, at the end
BEYOND_PKT_END: Final = -2
AT_PKT_END: Final = -1

_NAMES: Final = (
    "?",
    "scalar",
    "ctx",
    "map_ptr",
    "map_value",
    "map_key",
    "fp",
    "pkt_meta",
    "pkt",
    "pkt_end",
    "flow_keys",
    "sock",
    "sock_common",
    "tcp_sock",
    "tp_buffer",
    "xdp_sock",
    "ptr_",
    "mem",
    "arena",
    "buf",
    "func",
    "dynptr_ptr",
    "insn",
)


def kind_name(type: int) -> str:
    """The kind as the kernel's log and messages write it: ``map_value_or_null``, ``rdonly_mem``."""
    base = type & BASE_MASK
    suffix = ""
    if type & PTR_MAYBE_NULL:
        suffix = "or_null_" if base == PTR_TO_BTF_ID else "_or_null"
    prefix = ""
    for flag, word in (
        (MEM_RDONLY, "rdonly_"),
        (MEM_RINGBUF, "ringbuf_"),
        (MEM_USER, "user_"),
        (MEM_PERCPU, "percpu_"),
        (MEM_RCU, "rcu_"),
        (PTR_UNTRUSTED, "untrusted_"),
        (PTR_TRUSTED, "trusted_"),
    ):
        if type & flag:
            prefix += word
    name = _NAMES[base] if base < len(_NAMES) else "unknown"
    return prefix + name + suffix
