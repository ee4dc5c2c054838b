"""Tunnel headers: GRE, VXLAN, Geneve, GTP-U. IP in IP is `skep.net.iphdr` after `skep.net.iphdr`."""

from __future__ import annotations

from skep import bpf
from skep.bpf import be16, be32, u8


@bpf.struct
class gre_base_hdr:  # noqa: N801
    """A GRE header without its optional words (RFC 2784, 2890), 4 bytes.

    ``flags & GRE_CSUM``, ``GRE_KEY``, ``GRE_SEQ`` tell which 4-byte words follow, in that order.
    """

    flags: be16
    protocol: be16


@bpf.struct
class vxlanhdr:  # noqa: N801
    """A VXLAN header (RFC 7348), 8 bytes: the network identifier is ``vni >> 8``."""

    flags: be32
    vni: be32


@bpf.struct
class genevehdr:  # noqa: N801
    """A Geneve header without options (RFC 8926), 8 bytes.

    ``opt_len`` counts words of 4 bytes; the network identifier is ``vni >> 8``.
    """

    opt_len: u8 = bpf.bits(u8, 6)
    ver: u8 = bpf.bits(u8, 2)
    rsvd1: u8 = bpf.bits(u8, 6)
    critical: u8 = bpf.bits(u8, 1)
    oam: u8 = bpf.bits(u8, 1)
    proto_type: be16
    vni: be32


@bpf.struct
class geneve_opt:  # noqa: N801
    """Start of a Geneve option; ``length`` counts the words of 4 bytes after it."""

    opt_class: be16
    type: u8
    length: u8 = bpf.bits(u8, 5)
    rsvd: u8 = bpf.bits(u8, 3)


@bpf.struct
class gtp1_header:  # noqa: N801
    """A GTP-U header (3GPP TS 29.281), 8 bytes."""

    flags: u8
    type: u8
    length: be16
    tid: be32
