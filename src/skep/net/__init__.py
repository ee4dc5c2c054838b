"""Packet headers as typed structs, and the numbers that go with them.

    from skep.net import ETH_P_IP, ethhdr, iphdr

    pkt = ctx.packet()
    eth = pkt.take(ethhdr)          # None when the packet ends before

Fields have the kernel's names (<linux/ip.h>, …) without an ``h_``; be16 and be32 fields read as host
numbers, addresses of more than 4 bytes are bytes. Each family of headers is a module that is loaded when
one of its names is first used; numbers are `skep.uapi.network`'s.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs a warm start 5 ms
if TYPE_CHECKING:
    from typing import Any

_HOMES = {
    "ethernet": "arp_ipv4 arphdr ethhdr mpls_label pppoe_hdr vlan_hdr",
    "ip": "frag_hdr icmp6hdr icmphdr igmphdr ip_auth_hdr ip_esp_hdr ip_option iphdr ipv6_opt_hdr ipv6_rt_hdr "
    "ipv6hdr",
    "transport": "dccphdr sctphdr tcp_option tcphdr udphdr",
    "tunnel": "geneve_opt genevehdr gre_base_hdr gtp1_header vxlanhdr",
}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name.isupper():
        from skep.uapi import network

        value = getattr(network, name, None)
        if value is not None:
            globals()[name] = value
            return value
    for home, names in _HOMES.items():
        if name in names.split():
            # importlib's own function for this costs a warm start 1 ms, most of it for `warnings`
            value = getattr(__import__(f"skep.net.{home}", fromlist=(name,)), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'skep.net' has no attribute {name!r}")


def __dir__() -> list[str]:
    from skep.uapi import network

    return sorted([*" ".join(_HOMES.values()).split(), *(n for n in vars(network) if n.isupper())])
