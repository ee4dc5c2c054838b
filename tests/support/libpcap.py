"""The installed libpcap as an oracle, called in this process: compile expressions, run its filters.

``tcpdump -d`` prints what these calls return; one call costs microseconds instead of a process.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterable
from typing import NamedTuple

from tests.support.oracles import absent

PCAP_NETMASK_UNKNOWN = 0xFFFFFFFF
MAXIMUM_SNAPLEN = 262144

#: (code, jt, jf, k), as struct bpf_insn and skep's ClassicInsn have them.
Quad = tuple[int, int, int, int]


class _Insn(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_uint), ("insns", ctypes.POINTER(_Insn)))


class _PacketHeader(ctypes.Structure):
    _fields_ = (
        ("sec", ctypes.c_long),
        ("usec", ctypes.c_long),
        ("caplen", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
    )


class Compiled(NamedTuple):
    """What libpcap made of an expression: ``insns``, or None and the ``error`` text."""

    insns: list[Quad] | None
    error: str = ""


@functools.cache
def library() -> ctypes.CDLL:
    """libpcap.so.0.8; without it the calling test is skipped (failed under CI)."""
    # It asks name servers for names that /etc/hosts lacks: not for long.
    os.environ.setdefault("RES_OPTIONS", "attempts:1 timeout:1")
    try:
        lib = ctypes.CDLL("libpcap.so.0.8")
    except OSError:
        absent("libpcap.so.0.8")
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    lib.pcap_open_dead.argtypes = (integer, integer)
    lib.pcap_open_dead.restype = pointer
    lib.pcap_compile.argtypes = (pointer, ctypes.POINTER(_Program), text, integer, ctypes.c_uint32)
    lib.pcap_geterr.argtypes = (pointer,)
    lib.pcap_geterr.restype = text
    lib.pcap_freecode.argtypes = (ctypes.POINTER(_Program),)
    lib.pcap_close.argtypes = (pointer,)
    lib.pcap_offline_filter.argtypes = (ctypes.POINTER(_Program), ctypes.POINTER(_PacketHeader), text)
    lib.pcap_lib_version.restype = text
    lib.pcap_datalink_val_to_name.argtypes = (integer,)
    lib.pcap_datalink_val_to_name.restype = text
    lib.pcap_datalink_name_to_val.argtypes = (text,)
    return lib


@functools.cache
def version() -> tuple[int, ...]:
    """(1, 10, 3) of the installed library."""
    words = (library().pcap_lib_version() or b"").decode().split()
    number = words[words.index("version") + 1] if "version" in words else "0"
    return tuple(int(part) for part in number.split(".") if part.isdigit())


def datalink_name(linktype: int) -> str | None:
    """tcpdump's ``-y`` name of a DLT number, None where libpcap has none."""
    name = library().pcap_datalink_val_to_name(linktype)
    return name.decode() if name else None


def compile(
    expression: str | bytes,
    linktype: int = 1,
    snaplen: int = MAXIMUM_SNAPLEN,
    optimize: bool = True,
    netmask: int = PCAP_NETMASK_UNKNOWN,
) -> Compiled:
    """The classic code libpcap generates, as ``tcpdump -d`` (``-O -d`` with ``optimize=False``) shows it.

    ``netmask`` is a number (0xffffff00 for /24). As with ``tcpdump -d -y NAME`` there is no
    savefile and no interface: `inbound` and `ifindex` compile, `vlan` uses no kernel metadata.
    """
    lib = library()
    handle = lib.pcap_open_dead(linktype, snaplen)
    program = _Program()
    text = expression.encode("utf-8", "surrogateescape") if isinstance(expression, str) else expression
    try:
        if lib.pcap_compile(handle, ctypes.byref(program), text, int(optimize), netmask):
            return Compiled(None, (lib.pcap_geterr(handle) or b"").decode(errors="replace"))
        insns = [(i.code, i.jt, i.jf, i.k) for i in program.insns[: program.len]]
        lib.pcap_freecode(ctypes.byref(program))
        return Compiled(insns)
    finally:
        lib.pcap_close(handle)


class Filter:
    """A classic program that libpcap's own interpreter runs (no check of the code is made)."""

    def __init__(self, insns: Iterable[tuple[int, int, int, int]]) -> None:
        quads = list(insns)
        self._array = (_Insn * max(1, len(quads)))(*(_Insn(*quad) for quad in quads))
        self._program = _Program(len(quads), ctypes.cast(self._array, ctypes.POINTER(_Insn)))
        self._header = _PacketHeader()
        self._run = library().pcap_offline_filter

    def __call__(self, packet: bytes, wirelen: int | None = None) -> int:
        """The value returned for ``packet``, whose length on the wire was ``wirelen`` (its own if None)."""
        self._header.caplen = len(packet)
        self._header.len = len(packet) if wirelen is None else wirelen
        result: int = self._run(ctypes.byref(self._program), ctypes.byref(self._header), packet)
        return result & 0xFFFFFFFF


def run(
    insns: Iterable[tuple[int, int, int, int]],
    packet: bytes,
    caplen: int | None = None,
    wirelen: int | None = None,
) -> int:
    """pcap_offline_filter() once: ``packet`` cut to ``caplen`` bytes, ``wirelen`` bytes long on the wire."""
    cut = packet if caplen is None else packet[:caplen]
    return Filter(insns)(cut, len(packet) if wirelen is None else wirelen)
