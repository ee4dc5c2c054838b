"""Link types: what a frame begins with.

skep speaks of link types by their DLT number, as pcap_datalink() and filter expressions do. Files hold
LINKTYPE numbers; the two differ for a handful (raw IP is DLT 12 and LINKTYPE 101). The table is
libpcap's, see tools/gen_linktypes.py.
"""

from __future__ import annotations

from skep.capture.linktype_numbers import FILE_NUMBERS, RECORD_LIMITS

#: the longest record libpcap reads of most link types, bytes (MAXIMUM_SNAPLEN)
MAXIMUM_SNAPLEN = 262144

NULL = 0
EN10MB = 1
RAW = 12
LOOP = 108
IEEE802_11 = 105
LINUX_SLL = 113
PFLOG = 117
IEEE802_11_RADIO = 127
USB_LINUX = 189
USB_LINUX_MMAPPED = 220
IPV4 = 228
IPV6 = 229
NFLOG = 239
LINUX_SLL2 = 276


def from_file(number: int) -> int:
    """DLT number of a LINKTYPE number found in a file; an unknown number is its own DLT (libpcap does so)."""
    for dlt, linktype in FILE_NUMBERS.items():
        if linktype == number:
            return dlt
    return number


def to_file(dlt: int) -> int:
    """The LINKTYPE number that files hold for a DLT number."""
    return FILE_NUMBERS.get(dlt, dlt)


def name(dlt: int) -> str:
    """The name tcpdump prints and takes (``EN10MB``); the number in digits when there is none."""
    from skep.capture.linktype_names import NAMES

    known = NAMES.get(dlt)
    return known[0] if known else str(dlt)


def description(dlt: int) -> str:
    """A few words on what the link type is ("Ethernet"); "" when the table has none."""
    from skep.capture.linktype_names import NAMES

    known = NAMES.get(dlt)
    return known[1] if known else ""


def by_name(text: str) -> int | None:
    """DLT number of a name in any case, with or without ``DLT_``; None for an unknown one."""
    from skep.capture.linktype_names import ALIASES, NAMES

    wanted = text.upper().removeprefix("DLT_")
    for dlt, (known, _) in NAMES.items():
        if known == wanted:
            return dlt
    return ALIASES.get(wanted)


def record_limit(dlt: int) -> int:
    """The longest captured record in bytes; a file that claims more is damaged (libpcap's rule)."""
    return RECORD_LIMITS.get(dlt, MAXIMUM_SNAPLEN)


def effective_snaplen(dlt: int, snaplen: int) -> int:
    """The snapshot length to go by when the file says ``snaplen`` (unsigned): never 0, below 2**31."""
    return snaplen if 0 < snaplen < 1 << 31 else record_limit(dlt)
