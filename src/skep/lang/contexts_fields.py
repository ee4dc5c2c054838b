"""What programs see of their contexts: fields, byte order, what may be written.

Layouts are `skep.uapi.contexts`'; here is what these do not say.
"""

from __future__ import annotations

from typing import Final

from skep.uapi.enums import AttachType, ProgType

#: the name of a context in Python -> the kernel's struct
NAMES: Final = {
    "Xdp": "xdp_md",
    "SkBuff": "__sk_buff",
    "SockOps": "bpf_sock_ops",
    "SockAddr": "bpf_sock_addr",
    "Sock": "bpf_sock",
    "SkMsg": "sk_msg_md",
    "SkLookup": "bpf_sk_lookup",
    "SkReuseport": "sk_reuseport_md",
    "SockOpt": "bpf_sockopt",
    "Sysctl": "bpf_sysctl",
    "CgroupDevice": "bpf_cgroup_dev_ctx",
    "PerfEvent": "bpf_perf_event_data",
    "PtRegs": "pt_regs",
    "TcpSock": "bpf_tcp_sock",
    "FlowKeys": "bpf_flow_keys",
}

#: program type -> the struct its context is
OF_TYPE: Final = {
    ProgType.XDP: "xdp_md",
    ProgType.SOCKET_FILTER: "__sk_buff",
    ProgType.SCHED_CLS: "__sk_buff",
    ProgType.SCHED_ACT: "__sk_buff",
    ProgType.CGROUP_SKB: "__sk_buff",
    ProgType.LWT_IN: "__sk_buff",
    ProgType.LWT_OUT: "__sk_buff",
    ProgType.LWT_XMIT: "__sk_buff",
    ProgType.LWT_SEG6LOCAL: "__sk_buff",
    ProgType.SK_SKB: "__sk_buff",
    ProgType.FLOW_DISSECTOR: "__sk_buff",
    ProgType.SOCK_OPS: "bpf_sock_ops",
    ProgType.CGROUP_SOCK_ADDR: "bpf_sock_addr",
    ProgType.CGROUP_SOCK: "bpf_sock",
    ProgType.SK_MSG: "sk_msg_md",
    ProgType.SK_LOOKUP: "bpf_sk_lookup",
    ProgType.SK_REUSEPORT: "sk_reuseport_md",
    ProgType.CGROUP_SOCKOPT: "bpf_sockopt",
    ProgType.CGROUP_SYSCTL: "bpf_sysctl",
    ProgType.CGROUP_DEVICE: "bpf_cgroup_dev_ctx",
    ProgType.PERF_EVENT: "bpf_perf_event_data",
    ProgType.KPROBE: "pt_regs",
}

# Fields in network order, as "be16" or "be32" (the ports that are 32 bits wide hold the number in the first
# two bytes), and those that are addresses of 16 bytes ("raw").
ORDER: Final = {
    "__sk_buff": {
        "protocol": "be16", "vlan_proto": "be16", "remote_ip4": "be32", "local_ip4": "be32",
        "remote_ip6": "raw", "local_ip6": "raw",
        "remote_port": "be32",
    },
    "bpf_sock_ops": {
        "remote_ip4": "be32", "local_ip4": "be32", "remote_ip6": "raw", "local_ip6": "raw",
        "remote_port": "be32",
    },
    "bpf_sock_addr": {
        "user_ip4": "be32", "user_ip6": "raw", "user_port": "be16", "msg_src_ip4": "be32",
        "msg_src_ip6": "raw",
    },
    "bpf_sock": {
        "src_ip4": "be32", "src_ip6": "raw", "dst_port": "be16", "dst_ip4": "be32", "dst_ip6": "raw",
    },
    "sk_msg_md": {
        "remote_ip4": "be32", "local_ip4": "be32", "remote_ip6": "raw", "local_ip6": "raw",
        "remote_port": "be32",
    },
    "bpf_sk_lookup": {
        "remote_ip4": "be32", "remote_ip6": "raw", "remote_port": "be16",
        "local_ip4": "be32", "local_ip6": "raw",
    },
    "sk_reuseport_md": {"eth_protocol": "be16"},
    "bpf_flow_keys": {
        "n_proto": "be16", "sport": "be16", "dport": "be16", "ipv4_src": "be32", "ipv4_dst": "be32",
        "ipv6_src": "raw", "ipv6_dst": "raw", "flow_label": "be32",
    },
}  # fmt: skip

#: fields that are pointers -> (struct, may be None)
POINTERS: Final = {
    ("__sk_buff", "sk"): ("bpf_sock", True),
    ("__sk_buff", "flow_keys"): ("bpf_flow_keys", False),
    ("bpf_sock_ops", "sk"): ("bpf_sock", True),
    ("bpf_sock_addr", "sk"): ("bpf_sock", False),
    ("sk_msg_md", "sk"): ("bpf_sock", True),
    ("bpf_sk_lookup", "sk"): ("bpf_sock", True),
    ("bpf_sockopt", "sk"): ("bpf_sock", False),
    ("sk_reuseport_md", "sk"): ("bpf_sock", False),
    ("sk_reuseport_md", "migrating_sk"): ("bpf_sock", True),
}

#: fields that bound memory: read through packet() (or value() of a socket option)
BOUNDS: Final = {
    "data": "data_end", "data_end": "", "data_meta": "", "skb_data": "skb_data_end", "skb_data_end": "",
    "optval": "optval_end", "optval_end": "",
}  # fmt: skip

_TC: Final = "mark tc_index priority tc_classid cb tstamp queue_mapping"
#: program type -> fields of its context that may be written
WRITABLE: Final = {
    ProgType.SOCKET_FILTER: "cb",
    ProgType.SCHED_CLS: _TC,
    ProgType.SCHED_ACT: _TC,
    ProgType.CGROUP_SKB: "mark priority cb tstamp",
    ProgType.LWT_IN: "mark priority cb",
    ProgType.LWT_OUT: "mark priority cb",
    ProgType.LWT_XMIT: "mark priority cb",
    ProgType.LWT_SEG6LOCAL: "mark priority cb",
    ProgType.SK_SKB: "tc_index priority",
    ProgType.SOCK_OPS: "reply sk_txhash",
    ProgType.CGROUP_SOCK_ADDR: "user_ip4 user_ip6 user_port msg_src_ip4 msg_src_ip6",
    ProgType.CGROUP_SOCK: "bound_dev_if mark priority",
    ProgType.CGROUP_SYSCTL: "file_pos",
    ProgType.CGROUP_SOCKOPT: "level optname optlen retval",
}

#: program types that see packets through data and data_end; True: may write them
PACKETS: Final = {
    ProgType.XDP: True,
    ProgType.SCHED_CLS: True,
    ProgType.SCHED_ACT: True,
    ProgType.LWT_XMIT: True,
    ProgType.SK_SKB: True,
    ProgType.SK_MSG: True,
    ProgType.CGROUP_SKB: False,
    ProgType.LWT_IN: False,
    ProgType.LWT_OUT: False,
    ProgType.LWT_SEG6LOCAL: False,
    ProgType.SK_REUSEPORT: False,
    ProgType.FLOW_DISSECTOR: False,
}

#: helpers after which pointers into the packet are no longer good
MOVES_PACKET: Final = frozenset(
    [
        "skb_vlan_push",
        "skb_vlan_pop",
        "skb_store_bytes",
        "skb_change_proto",
        "skb_change_head",
        "skb_change_tail",
        "skb_pull_data",
        "skb_adjust_room",
        "clone_redirect",
        "l3_csum_replace",
        "l4_csum_replace",
        "xdp_adjust_head",
        "xdp_adjust_meta",
        "xdp_adjust_tail",
        "msg_pull_data",
        "msg_push_data",
        "msg_pop_data",
        "lwt_push_encap",
        "lwt_seg6_store_bytes",
        "lwt_seg6_adjust_srh",
        "lwt_seg6_action",
        "store_hdr_opt",
    ]
)

_IPV4: Final = ("CGROUP_INET4_", "CGROUP_UDP4_")
_IPV6: Final = ("CGROUP_INET6_", "CGROUP_UDP6_")
_CREATED: Final = ("CGROUP_INET_SOCK_",)
#: (context, field) -> how the names of the attach types begin whose programs have it; all others have not
ONLY_AT: Final = {
    ("bpf_sock_addr", "user_ip4"): _IPV4,
    ("bpf_sock_addr", "user_ip6"): _IPV6,
    ("bpf_sock_addr", "msg_src_ip4"): ("CGROUP_UDP4_SENDMSG",),
    ("bpf_sock_addr", "msg_src_ip6"): ("CGROUP_UDP6_SENDMSG",),
    ("bpf_sock", "bound_dev_if"): _CREATED,
    ("bpf_sock", "mark"): _CREATED,
    ("bpf_sock", "priority"): _CREATED,
    ("bpf_sock", "src_ip4"): ("CGROUP_INET4_POST_BIND",),
    ("bpf_sock", "src_ip6"): ("CGROUP_INET6_POST_BIND",),
    ("bpf_sock", "src_port"): ("CGROUP_INET4_POST_BIND", "CGROUP_INET6_POST_BIND"),
}  # fmt: skip

#: attach types of CGROUP_SOCK programs that may not write the socket
READ_ONLY_SOCK: Final = frozenset((AttachType.CGROUP_INET4_POST_BIND, AttachType.CGROUP_INET6_POST_BIND))
