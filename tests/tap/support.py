"""What tests of the native scan share."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pytest

from skep import llvm
from skep.isa import ClassicInsn
from skep.tap import prepare
from skep.tap.native import ScanCode
from skep.tap.plain import Plain
from tests.support import libpcap


def insns(expression: str, linktype: int = 1) -> list[ClassicInsn]:
    """libpcap's own code for an expression."""
    made = libpcap.compile(expression, linktype)
    assert made.insns is not None, made.error
    return [ClassicInsn(*quad) for quad in made.insns]


@functools.cache
def code(expression: str, *, swapped: bool = False, maker: str = "") -> ScanCode:
    """Native code for an expression over Ethernet; ``maker``: "x86", "llvm", or "" for this machine's own."""
    return native_code(insns(expression), swapped=swapped, maker=maker)


def native_code(program: Sequence[ClassicInsn], *, swapped: bool = False, maker: str = "") -> ScanCode:
    """The same for any classic program; skips the test where ``maker`` is not there."""
    own = prepare.own_code()
    if maker == "x86" and not own:
        pytest.skip("needs an x86-64 processor")
    if maker == "llvm" or not own:
        if not llvm.available():
            pytest.skip("needs llvmlite")
        llvm.warm()
    with pytest.MonkeyPatch.context() as patch:
        if maker == "llvm":
            patch.setattr(prepare, "own_code", lambda: False)
        made, _, missing = prepare.native(program, swapped=swapped)
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
