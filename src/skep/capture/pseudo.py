"""Frames whose first bytes were written in the byte order of the capturing machine.

A handful of link types begin with a pseudo header in host byte order. When a file comes from a machine of
the other byte order these fields are turned into this machine's, as libpcap does on reading, so that
filters and copies see one form. Linux USB captures also get a wrong wire length corrected.
"""

from __future__ import annotations

import sys
from struct import unpack_from

from skep.capture.linktypes import (
    LINUX_SLL,
    LINUX_SLL2,
    NFLOG,
    PFLOG,
    USB_LINUX,
    USB_LINUX_MMAPPED,
)

_SWAPPED = (PFLOG, LINUX_SLL, LINUX_SLL2, USB_LINUX, USB_LINUX_MMAPPED, NFLOG)

#: sll protocol numbers of SocketCAN frames, CAN and CAN FD
_CAN = (0x000C, 0x000D)
_USB_HEADER = 64
_ISO_DESCRIPTOR = 16


def applies(linktype: int, byteorder: str) -> bool:
    """Whether packets of this link type in a file of this byte order are changed on reading."""
    return linktype == USB_LINUX_MMAPPED or (byteorder != sys.byteorder and linktype in _SWAPPED)


def fix(linktype: int, byteorder: str, data: bytes, wirelen: int) -> tuple[bytes, int]:
    """The packet's bytes in this machine's order, and its wire length."""
    if byteorder != sys.byteorder:
        data = _swap(linktype, data, wirelen)
    if linktype == USB_LINUX_MMAPPED:
        wirelen = _usb_wirelen(data, wirelen)
    return data, wirelen


def _swap(linktype: int, data: bytes, wirelen: int) -> bytes:
    frame = bytearray(data)
    present = min(len(data), wirelen)
    if linktype == PFLOG:
        _pflog(frame, present)
    elif linktype == LINUX_SLL:
        _socketcan(frame, present, 14, 16)
    elif linktype == LINUX_SLL2:
        _socketcan(frame, present, 0, 20)
    elif linktype == NFLOG:
        _nflog(frame, present)
    elif linktype in (USB_LINUX, USB_LINUX_MMAPPED):
        _usb(frame, linktype == USB_LINUX_MMAPPED)
    return bytes(frame)


def _turn(frame: bytearray, start: int, size: int) -> None:
    frame[start : start + size] = frame[start : start + size][::-1]


def _pflog(frame: bytearray, present: int) -> None:
    """uid, pid, rule_uid and rule_pid, each only if the header (its length comes first) reaches it."""
    for start in (44, 48, 52, 56):
        if present < start + 4 or frame[0] < start + 4:
            return
        _turn(frame, start, 4)


def _socketcan(frame: bytearray, present: int, protocol: int, header: int) -> None:
    """The CAN id behind a cooked header whose protocol says SocketCAN."""
    if present >= header + 4 and int.from_bytes(frame[protocol : protocol + 2], "big") in _CAN:
        _turn(frame, header, 4)


def _nflog(frame: bytearray, present: int) -> None:
    """Type and length of each TLV; the fixed header is big-endian, values are bytes."""
    if present < 4 or frame[1] != 0:
        return
    start = 4
    while start + 4 <= len(frame):
        _turn(frame, start, 2)
        _turn(frame, start + 2, 2)
        size = int.from_bytes(frame[start : start + 2], sys.byteorder) + 3 & 0xFFFC
        if size < 4 or start + size > present:
            return
        start += size


def _usb(frame: bytearray, mapped: bool) -> None:
    """The Linux USB header, field by field for as far as the capture goes; ``mapped`` is the 64-byte form."""
    isochronous = len(frame) > 9 and frame[9] == 0
    fields = [(0, 8), (12, 2), (16, 8), (24, 4), (28, 4), (32, 4), (36, 4)]
    if isochronous:
        fields += [(40, 4), (44, 4)]
    if mapped:
        fields += [(48, 4), (52, 4), (56, 4), (60, 4)]
    for start, size in fields:
        if len(frame) < start + size:
            return
        _turn(frame, start, size)
    # A frame that ends inside the skipped setup bytes never gets here with `mapped`.
    if mapped and isochronous:
        start = _USB_HEADER
        for _ in range(int.from_bytes(frame[60:64], sys.byteorder)):
            for field in (start, start + 4, start + 8):
                if len(frame) < field + 4:
                    return
                _turn(frame, field, 4)
            start += _ISO_DESCRIPTOR


def _usb_wirelen(data: bytes, wirelen: int) -> int:
    """Wire length of an isochronous completion, worked out from the descriptors.

    Old libpcap worked it out from the length of the whole transfer, though the data lies scattered.
    """
    if len(data) < _USB_HEADER or data[15]:
        return wirelen
    order = "<" if sys.byteorder == "little" else ">"
    (urb_len,) = unpack_from(order + "I", data, 32)
    (count,) = unpack_from(order + "I", data, 60)
    completed_in = data[9] == 0 and data[8] == ord("C") and data[10] & 0x80
    if not completed_in or wirelen != _USB_HEADER + count * _ISO_DESCRIPTOR + urb_len:
        return wirelen
    reach = 0
    for index in range(min(count, (len(data) - _USB_HEADER) // _ISO_DESCRIPTOR)):
        offset, size = unpack_from(order + "II", data, _USB_HEADER + index * _ISO_DESCRIPTOR + 4)
        if size:
            reach = max(reach, offset + size & 0xFFFFFFFF)
    scattered = _USB_HEADER + count * _ISO_DESCRIPTOR + reach & 0xFFFFFFFF
    if scattered >= len(data):
        wirelen = scattered
    return max(wirelen, len(data))
