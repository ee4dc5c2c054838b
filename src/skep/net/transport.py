"""Transport headers: TCP, UDP, SCTP, DCCP."""

from __future__ import annotations

from skep import bpf
from skep.bpf import be16, be32, u8


@bpf.struct
class tcphdr:  # noqa: N801
    """A TCP header without options (RFC 9293), 20 bytes; ``doff`` is its length in words of 4 bytes."""

    source: be16
    dest: be16
    seq: be32
    ack_seq: be32
    ae: u8 = bpf.bits(u8, 1)
    res1: u8 = bpf.bits(u8, 3)
    doff: u8 = bpf.bits(u8, 4)
    fin: u8 = bpf.bits(u8, 1)
    syn: u8 = bpf.bits(u8, 1)
    rst: u8 = bpf.bits(u8, 1)
    psh: u8 = bpf.bits(u8, 1)
    ack: u8 = bpf.bits(u8, 1)
    urg: u8 = bpf.bits(u8, 1)
    ece: u8 = bpf.bits(u8, 1)
    cwr: u8 = bpf.bits(u8, 1)
    window: be16
    check: be16
    urg_ptr: be16


@bpf.struct
class tcp_option:  # noqa: N801
    """The first two bytes of a TCP option. Kinds 0 (end) and 1 (no operation) are ``kind`` alone."""

    kind: u8
    length: u8


@bpf.struct
class udphdr:  # noqa: N801
    """A UDP header (RFC 768), 8 bytes."""

    source: be16
    dest: be16
    len: be16
    check: be16


@bpf.struct
class sctphdr:  # noqa: N801
    """An SCTP common header (RFC 9260), 12 bytes; the checksum is CRC32c, little endian."""

    source: be16
    dest: be16
    vtag: be32
    checksum: bpf.Raw = bpf.raw(4)


@bpf.struct
class dccphdr:  # noqa: N801
    """A DCCP generic header with short sequence numbers (RFC 4340), 12 bytes."""

    sport: be16
    dport: be16
    doff: u8
    cscov: u8 = bpf.bits(u8, 4)
    ccval: u8 = bpf.bits(u8, 4)
    checksum: be16
    x: u8 = bpf.bits(u8, 1)
    type: u8 = bpf.bits(u8, 4)
    reserved: u8 = bpf.bits(u8, 3)
    seq2: u8
    seq: be16
