"""What tests of the native scan share."""

from __future__ import annotations

import functools

import pytest

from skep import llvm
from skep.isa import ClassicInsn
from skep.tap.native import ScanCode
from skep.tap.plain import Plain
from skep.tap.prepare import native
from tests.support import libpcap


def insns(expression: str, linktype: int = 1) -> list[ClassicInsn]:
    """libpcap's own code for an expression."""
    made = libpcap.compile(expression, linktype)
    assert made.insns is not None, made.error
    return [ClassicInsn(*quad) for quad in made.insns]


@functools.cache
def code(expression: str, *, swapped: bool = False) -> ScanCode:
    """Native code for an expression over Ethernet."""
    if not llvm.available():
        pytest.skip("needs llvmlite")
    llvm.warm()
    made, _, missing = native(insns(expression), swapped=swapped)
    assert made is not None, missing
    return made


def plain(*, big_endian: bool = False, nano: bool = False, snaplen: int = 262144) -> Plain:
    return Plain(
        big_endian=big_endian,
        units=10**9 if nano else 10**6,
        snaplen=snaplen,
        record_limit=262144,
        linktype=1,
        link=1,
    )
