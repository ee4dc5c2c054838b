"""Headers have the layout that the kernel's own types have."""

from __future__ import annotations

import os

import pytest

from skep import net
from skep.btf import Btf
from skep.lang.aggregates import StructStorage
from skep.lang.kernel_types import KernelType, KStruct, Types
from skep.lang.namespace import Namespace

STRUCTS = [name for name in dir(net) if isinstance(getattr(net, name), type)]
#: ours -> the kernel's, where the names differ
MEMBERS = {
    "ethhdr": {"dest": "h_dest", "source": "h_source", "proto": "h_proto"},
    "vlan_hdr": {"tci": "h_vlan_TCI", "encapsulated_proto": "h_vlan_encapsulated_proto"},
    "icmphdr": {"id": "un.echo.id", "sequence": "un.echo.sequence"},
    "icmp6hdr": {"type": "icmp6_type", "code": "icmp6_code", "cksum": "icmp6_cksum",
                 "identifier": "icmp6_dataun.u_echo.identifier", "sequence": "icmp6_dataun.u_echo.sequence"},
    "ipv6_rt_hdr": {},
    "vxlanhdr": {"flags": "vx_flags", "vni": "vx_vni"},
    "mpls_label": {"entry": "entry"},
    "dccphdr": {"sport": "dccph_sport", "dport": "dccph_dport", "doff": "dccph_doff", "cscov": "dccph_cscov",
                "ccval": "dccph_ccval", "checksum": "dccph_checksum", "x": "dccph_x", "type": "dccph_type",
                "reserved": "dccph_reserved", "seq2": "dccph_seq2", "seq": "dccph_seq"},
}  # fmt: skip
#: ours alone: whole packets, parts of options
OWN = {"arp_ipv4": 28, "ip_option": 2, "tcp_option": 2, "geneve_opt": 4, "pppoe_hdr": 8}
#: wider in the kernel: 24 bits kept as bytes beside a byte
ADJUSTED = {("genevehdr", "vni"), ("ipv6hdr", "priority"), ("tcphdr", "ae"), ("tcphdr", "res1")}


def storage(name: str) -> StructStorage:
    made = Namespace(lambda _: None).storage(getattr(net, name))
    assert isinstance(made, StructStorage)
    return made


def test_all_are_here() -> None:
    assert len(STRUCTS) >= 27
    for name, size in OWN.items():
        assert storage(name).size == size, name


@pytest.mark.parametrize("name", sorted(set(STRUCTS) - set(OWN)))
def test_layout(name: str) -> None:
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        pytest.skip("the kernel has no BTF")
    ours = storage(name)
    theirs = Types(Btf.kernel()).by_name({"mpls_label": "mpls_shim_hdr"}.get(name, name))
    if not isinstance(theirs, KStruct):
        pytest.skip(f"this kernel was built without struct {name}")
    for field in ours.fields.values():
        if (name, field.name) in ADJUSTED:
            continue
        path = MEMBERS.get(name, {}).get(field.name, field.name)
        offset, width = 0, 0
        kind: KernelType = theirs
        for part in path.split("."):
            assert isinstance(kind, KStruct), f"{name}.{path}"
            member = kind.field({"label_stack_entry": "entry"}.get(part, part))
            if member is None and name == "mpls_label":
                member = kind.field("label_stack_entry")
            assert member is not None, f"struct {name} of the kernel has no {path}: {kind.names()}"
            offset += member.bit_offset
            kind = member.type
            width = member.width
        bits = field.offset * 8 + max(field.bit, 0)
        assert bits == offset, f"{name}.{field.name}"
        assert field.width == width, f"{name}.{field.name}"
        if not width:
            assert field.of.size == kind.size, f"{name}.{field.name}"
    flexible = {"ipv6_rt_hdr", "gre_base_hdr", "genevehdr", "ip_auth_hdr", "ip_esp_hdr", "dccphdr"}
    assert name in flexible or ours.size == theirs.size, name


def test_numbers() -> None:
    """Against Python's own copies of the same headers."""
    import errno
    import socket

    for name in (
        "AF_INET",
        "AF_INET6",
        "AF_UNIX",
        "AF_PACKET",
        "IPPROTO_TCP",
        "IPPROTO_UDP",
        "IPPROTO_ICMPV6",
    ):
        assert getattr(net, name) == int(getattr(socket, name)), name
    assert (net.ETH_P_IP, net.ETH_P_IPV6, net.ETH_P_8021Q) == (0x800, 0x86DD, 0x8100)
    from skep import bpf

    assert bpf.TC_ACT_SHOT == 2 and bpf.XDP_TX == 3 and bpf.EPERM == errno.EPERM
    assert bpf.BPF_MAP_TYPE_HASH == 1 and bpf.AF_INET == socket.AF_INET
    with pytest.raises(AttributeError):
        getattr(net, "ETH_P_" + "NOTHING")


def test_import_is_light() -> None:
    """Importing two headers imports neither compiler nor kernel types."""
    import subprocess
    import sys

    code = "import sys; from skep.net import iphdr, ETH_P_IP; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"ast", "inspect", "dataclasses", "typing", "skep.btf", "skep.lang", "skep.net.tunnel"} & set(
        loaded
    )
