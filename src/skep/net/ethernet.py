"""Link-layer headers: Ethernet, VLAN tags, ARP, MPLS, PPPoE."""

from __future__ import annotations

from skep import bpf
from skep.bpf import be16, be32, u8


@bpf.struct
class ethhdr:  # noqa: N801
    """An Ethernet II header, 14 bytes. ``proto`` below 0x600 is an 802.3 length."""

    dest: bpf.Raw = bpf.raw(6)
    source: bpf.Raw = bpf.raw(6)
    proto: be16


@bpf.struct
class vlan_hdr:  # noqa: N801
    """What follows an EtherType of ETH_P_8021Q or ETH_P_8021AD: the tag, and the EtherType inside.

    ``tci`` is priority (3 bits), drop eligible (1) and VLAN id (12): ``tci & VLAN_VID_MASK``.
    """

    tci: be16
    encapsulated_proto: be16


@bpf.struct
class arphdr:  # noqa: N801
    """The fixed part of an ARP packet (RFC 826), 8 bytes."""

    ar_hrd: be16
    ar_pro: be16
    ar_hln: u8
    ar_pln: u8
    ar_op: be16


@bpf.struct(packed=True)
class arp_ipv4:  # noqa: N801
    """A whole ARP packet for IPv4 over Ethernet, 28 bytes."""

    ar_hrd: be16
    ar_pro: be16
    ar_hln: u8
    ar_pln: u8
    ar_op: be16
    ar_sha: bpf.Raw = bpf.raw(6)
    ar_sip: be32
    ar_tha: bpf.Raw = bpf.raw(6)
    ar_tip: be32


@bpf.struct
class mpls_label:  # noqa: N801
    """One MPLS label stack entry (RFC 3032): label 20 bits, class 3, bottom of stack 1, TTL 8."""

    entry: be32


@bpf.struct(packed=True)
class pppoe_hdr:  # noqa: N801
    """A PPPoE session header and the PPP protocol after it (RFC 2516), 8 bytes."""

    version_type: u8
    code: u8
    sid: be16
    length: be16
    proto: be16
