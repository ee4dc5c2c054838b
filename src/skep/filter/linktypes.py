"""Link types that filters are compiled for: where their headers end and where the packet type is.

Numbers are libpcap's DLT_ values on Linux, which for all that a capture file can hold are its
LINKTYPE_ values too (but for `RAW`: 101 in files, 12 here).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

#: "There is no such field": offsets are unsigned 32-bit numbers, and sums with this one wrap.
NOT_SET: Final = 0xFFFFFFFF

NULL: Final = 0
EN10MB: Final = 1
IEEE802: Final = 6
ARCNET: Final = 7
SLIP: Final = 8
PPP: Final = 9
FDDI: Final = 10
ATM_RFC1483: Final = 11
RAW: Final = 12
SLIP_BSDOS: Final = 15
PPP_BSDOS: Final = 16
ATM_CLIP: Final = 19
PPP_SERIAL: Final = 50
PPP_ETHER: Final = 51
SYMANTEC_FIREWALL: Final = 99
MATCHING_MIN: Final = 104
C_HDLC: Final = 104
IEEE802_11: Final = 105
FRELAY: Final = 107
LOOP: Final = 108
ENC: Final = 109
HDLC: Final = 112
LINUX_SLL: Final = 113
LTALK: Final = 114
PFLOG: Final = 117
PRISM_HEADER: Final = 119
IP_OVER_FC: Final = 122
SUNATM: Final = 123
IEEE802_11_RADIO: Final = 127
ARCNET_LINUX: Final = 129
APPLE_IP_OVER_IEEE1394: Final = 138
MTP2_WITH_PHDR: Final = 139
MTP2: Final = 140
IEEE802_11_RADIO_AVS: Final = 163
BACNET_MS_TP: Final = 165
PPP_PPPD: Final = 166
MFR: Final = 182
PPI: Final = 192
ERF: Final = 197
AX25_KISS: Final = 202
IPNET: Final = 226
IPV4: Final = 228
IPV6: Final = 229
NETANALYZER: Final = 240
NETANALYZER_TRANSPARENT: Final = 241
PFSYNC: Final = 246
LINUX_SLL2: Final = 276
MATCHING_MAX: Final = 289

ETHERNETS: Final = frozenset({EN10MB, NETANALYZER, NETANALYZER_TRANSPARENT})
#: 802.11, with and without a header that the radio driver put in front.
WIRELESS: Final = frozenset({IEEE802_11, PRISM_HEADER, IEEE802_11_RADIO_AVS, IEEE802_11_RADIO, PPI})
JUNIPER: Final = frozenset(
    {*range(130, 138), 164, 167, 168, 178, 179, 180, 181, 183, 194, 200, 232, 233, 234, 238}
)


class Layout(NamedTuple):
    """Offsets in bytes. ``type`` and ``payload`` from the start of the packet, ``net`` (of the network
    layer behind an 802.2 SNAP header, if there is one) and ``net_nosnap`` from the payload."""

    type: int
    payload: int
    net: int
    net_nosnap: int


#: Link types whose headers have one length.
LAYOUTS: Final[Mapping[int, Layout]] = {
    NULL: Layout(0, 4, 0, 0),
    EN10MB: Layout(12, 14, 0, 3),
    IEEE802: Layout(14, 14, 8, 3),
    ARCNET: Layout(2, 6, 0, 0),
    SLIP: Layout(NOT_SET, 16, 0, 0),
    PPP: Layout(2, 4, 0, 0),
    FDDI: Layout(13, 13, 8, 3),
    ATM_RFC1483: Layout(0, 0, 8, 3),
    RAW: Layout(NOT_SET, 0, 0, 0),
    SLIP_BSDOS: Layout(NOT_SET, 24, 0, 0),
    PPP_BSDOS: Layout(5, 24, 0, 0),
    ATM_CLIP: Layout(0, 0, 8, 3),
    PPP_SERIAL: Layout(2, 4, 0, 0),
    PPP_ETHER: Layout(6, 8, 0, 0),
    SYMANTEC_FIREWALL: Layout(6, 44, 0, 0),
    C_HDLC: Layout(2, 4, 0, 0),
    IEEE802_11: Layout(24, 0, 8, 3),
    FRELAY: Layout(NOT_SET, 0, 0, 0),
    LOOP: Layout(0, 4, 0, 0),
    ENC: Layout(0, 12, 0, 0),
    HDLC: Layout(2, 4, 0, 0),
    LINUX_SLL: Layout(14, 16, 0, 0),
    LTALK: Layout(NOT_SET, 0, 0, 0),
    PFLOG: Layout(0, 0, 0, 0),
    PRISM_HEADER: Layout(24, 0, 8, 3),
    IP_OVER_FC: Layout(16, 16, 8, 3),
    SUNATM: Layout(4, 4, 8, 3),
    IEEE802_11_RADIO: Layout(24, 0, 8, 3),
    ARCNET_LINUX: Layout(4, 8, 0, 0),
    **dict.fromkeys((130, 131, 134, 179, 180, 181), Layout(4, 4, 0, NOT_SET)),
    132: Layout(6, NOT_SET, NOT_SET, NOT_SET),
    133: Layout(6, 12, 0, NOT_SET),
    135: Layout(8, 8, 0, 10),
    136: Layout(12, NOT_SET, NOT_SET, NOT_SET),
    137: Layout(4, 4, 0, 10),
    APPLE_IP_OVER_IEEE1394: Layout(16, 18, 0, 0),
    **dict.fromkeys((MTP2, MTP2_WITH_PHDR, ERF), Layout(NOT_SET, NOT_SET, NOT_SET, NOT_SET)),
    IEEE802_11_RADIO_AVS: Layout(24, 0, 8, 3),
    164: Layout(12, 12, 0, NOT_SET),
    BACNET_MS_TP: Layout(NOT_SET, NOT_SET, NOT_SET, NOT_SET),
    PPP_PPPD: Layout(2, 4, 0, 0),
    **dict.fromkeys((167, 178), Layout(16, 14, 18, 21)),
    168: Layout(4, 6, 0, NOT_SET),
    MFR: Layout(NOT_SET, 0, 4, 0),
    **dict.fromkeys((183, 200), Layout(18, NOT_SET, NOT_SET, NOT_SET)),
    PPI: Layout(24, 0, 8, 3),
    **dict.fromkeys((194, 232, 233, 234, 238), Layout(8, NOT_SET, NOT_SET, NOT_SET)),
    AX25_KISS: Layout(NOT_SET, NOT_SET, NOT_SET, NOT_SET),
    IPNET: Layout(1, 24, 0, NOT_SET),
    IPV4: Layout(NOT_SET, 0, 0, 0),
    IPV6: Layout(NOT_SET, 0, 0, 0),
    # The pseudo-header is 4 bytes, or 12 with preamble and start of frame.
    NETANALYZER: Layout(16, 18, 0, 3),
    NETANALYZER_TRANSPARENT: Layout(24, 26, 0, 3),
    PFSYNC: Layout(NOT_SET, 4, 0, 0),
    LINUX_SLL2: Layout(0, 20, 0, 0),
}

#: First byte of the link-layer header proper, where it is not 0.
HEADER_AT: Final[Mapping[int, int]] = {NETANALYZER: 4, NETANALYZER_TRANSPARENT: 12}


def layout(linktype: int) -> Layout | None:
    """Offsets of a link type; nothing set for types without code of their own; None for no type at all."""
    found = LAYOUTS.get(linktype)
    if found is None and MATCHING_MIN <= linktype <= MATCHING_MAX:
        return Layout(NOT_SET, NOT_SET, NOT_SET, NOT_SET)
    return found
