"""The installed libpcap as an oracle for capture files, called in this process."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import NamedTuple

from tests.support.oracles import absent

MICRO, NANO = 0, 1


class _Header(ctypes.Structure):
    _fields_ = (
        ("sec", ctypes.c_long),
        ("frac", ctypes.c_long),
        ("caplen", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
    )


class Record(NamedTuple):
    sec: int
    frac: int
    wirelen: int
    data: bytes


class Offline(NamedTuple):
    """What libpcap read: the packets, and its error text or "" when it reached the end."""

    records: list[Record]
    error: str
    linktype: int = -1
    snaplen: int = -1


@functools.cache
def library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libpcap.so.0.8")
    except OSError:
        absent("libpcap.so.0.8")
    pointer = ctypes.c_void_p
    lib.pcap_open_offline_with_tstamp_precision.argtypes = (ctypes.c_char_p, ctypes.c_uint, ctypes.c_char_p)
    lib.pcap_open_offline_with_tstamp_precision.restype = pointer
    lib.pcap_next_ex.argtypes = (
        pointer,
        ctypes.POINTER(ctypes.POINTER(_Header)),
        ctypes.POINTER(pointer),
    )
    lib.pcap_geterr.argtypes = (pointer,)
    lib.pcap_geterr.restype = ctypes.c_char_p
    for name in ("pcap_close", "pcap_datalink", "pcap_snapshot"):
        getattr(lib, name).argtypes = (pointer,)
    lib.pcap_close.restype = None
    lib.pcap_datalink_val_to_name.restype = ctypes.c_char_p
    lib.pcap_datalink_val_to_description.restype = ctypes.c_char_p
    lib.pcap_datalink_name_to_val.argtypes = (ctypes.c_char_p,)
    return lib


def read(data: bytes, precision: int = NANO) -> Offline:
    """Read a capture given as bytes, with time stamps in nano- or microseconds."""
    lib = library()
    fd = os.memfd_create("capture")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        path = f"/proc/self/fd/{fd}".encode()
        message = ctypes.create_string_buffer(256)
        handle = lib.pcap_open_offline_with_tstamp_precision(path, precision, message)
        if not handle:
            return Offline([], message.value.decode())
        try:
            return _records(lib, handle)
        finally:
            lib.pcap_close(handle)
    finally:
        os.close(fd)


def _records(lib: ctypes.CDLL, handle: int) -> Offline:
    records = []
    header, body = ctypes.POINTER(_Header)(), ctypes.c_void_p()
    while (status := lib.pcap_next_ex(handle, ctypes.byref(header), ctypes.byref(body))) == 1:
        found = header.contents
        data = ctypes.string_at(body, found.caplen) if found.caplen else b""
        records.append(Record(found.sec, found.frac, found.len, data))
    error = "" if status == -2 else lib.pcap_geterr(handle).decode()
    return Offline(records, error, lib.pcap_datalink(handle), lib.pcap_snapshot(handle))
