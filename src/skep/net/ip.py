"""Internet-layer headers: IPv4, IPv6 and its extension headers, ICMP, IGMP."""

from __future__ import annotations

from skep import bpf
from skep.bpf import be16, be32, u8


@bpf.struct
class iphdr:  # noqa: N801
    """An IPv4 header without options (RFC 791), 20 bytes; ``ihl`` is its length in words of 4 bytes."""

    ihl: u8 = bpf.bits(u8, 4)
    version: u8 = bpf.bits(u8, 4)
    tos: u8
    tot_len: be16
    id: be16
    frag_off: be16
    ttl: u8
    protocol: u8
    check: be16
    saddr: be32
    daddr: be32


@bpf.struct
class ip_option:  # noqa: N801
    """The first two bytes of an IPv4 option. IPOPT_END and IPOPT_NOOP are ``type`` alone."""

    type: u8
    length: u8


@bpf.struct
class ipv6hdr:  # noqa: N801
    """An IPv6 header (RFC 8200), 40 bytes; the traffic class lies in ``priority`` and ``flow_lbl[0]``."""

    priority: u8 = bpf.bits(u8, 4)
    version: u8 = bpf.bits(u8, 4)
    flow_lbl: bpf.Raw = bpf.raw(3)
    payload_len: be16
    nexthdr: u8
    hop_limit: u8
    saddr: bpf.Raw = bpf.raw(16)
    daddr: bpf.Raw = bpf.raw(16)


@bpf.struct
class ipv6_opt_hdr:  # noqa: N801
    """Start of a hop-by-hop, destination or routing header, which has ``(hdrlen + 1) * 8`` bytes.

    The authentication header begins alike, but is ``(hdrlen + 2) * 4`` bytes.
    """

    nexthdr: u8
    hdrlen: u8


@bpf.struct
class ipv6_rt_hdr:  # noqa: N801
    """Start of a routing header (RFC 8200, 8754)."""

    nexthdr: u8
    hdrlen: u8
    type: u8
    segments_left: u8


@bpf.struct
class frag_hdr:  # noqa: N801
    """The fragment header, 8 bytes; ``frag_off`` is offset (13 bits), reserved (2), more fragments (1)."""

    nexthdr: u8
    reserved: u8
    frag_off: be16
    identification: be32


@bpf.struct
class ip_auth_hdr:  # noqa: N801
    """Start of an authentication header (RFC 4302), 12 bytes."""

    nexthdr: u8
    hdrlen: u8
    reserved: be16
    spi: be32
    seq_no: be32


@bpf.struct
class ip_esp_hdr:  # noqa: N801
    """Start of an encapsulating security payload (RFC 4303), 8 bytes."""

    spi: be32
    seq_no: be32


@bpf.struct
class icmphdr:  # noqa: N801
    """An ICMP header (RFC 792), 8 bytes. ``id`` and ``sequence`` are those of echo messages."""

    type: u8
    code: u8
    checksum: be16
    id: be16
    sequence: be16


@bpf.struct
class icmp6hdr:  # noqa: N801
    """An ICMPv6 header (RFC 4443), 8 bytes. ``identifier`` and ``sequence`` are those of echo messages."""

    type: u8
    code: u8
    cksum: be16
    identifier: be16
    sequence: be16


@bpf.struct
class igmphdr:  # noqa: N801
    """An IGMP header (RFC 2236), 8 bytes."""

    type: u8
    code: u8
    csum: be16
    group: be32
