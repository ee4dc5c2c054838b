"""Bytes and slots."""

from __future__ import annotations

import random

import pytest

from skep.errors import DecodeError
from skep.isa import ClassicInsn, Insn, decode, encode, imm64, ld_imm64
from skep.isa import classic as c
from tests.asm import corpus


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_any_bytes_round_trip(byteorder: str) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    code = random.Random(corpus.SEED).randbytes(8 * 20_000)
    assert encode(decode(code, byteorder), byteorder) == code  # type: ignore[arg-type]
    assert c.encode(c.decode(code, byteorder), byteorder) == code  # type: ignore[arg-type]


def test_fields_by_hand() -> None:
    assert decode(bytes.fromhex("b7 21 fc ff 78 56 34 12")) == [Insn(0xB7, 1, 2, -4, 0x12345678)]
    assert decode(bytes.fromhex("b7 12 ff fc 12 34 56 78"), "big") == [Insn(0xB7, 1, 2, -4, 0x12345678)]
    assert c.decode(bytes.fromhex("15 00 01 02 00 08 00 00")) == [ClassicInsn(0x15, 1, 2, 0x800)]


@pytest.mark.parametrize("length", [1, 7, 9, 15])
def test_a_cut_slot_says_where(length: int) -> None:
    for decoder in (decode, c.decode):
        with pytest.raises(DecodeError) as caught:
            decoder(bytes(length))
        assert caught.value.offset == length - length % 8


@pytest.mark.parametrize(
    "insn", [Insn(256), Insn(0, 16), Insn(0, 0, -1), Insn(0, 0, 0, 32768), Insn(0, 0, 0, 0, 1 << 31)]
)
def test_fields_that_do_not_fit(insn: Insn) -> None:
    with pytest.raises(DecodeError) as caught:
        encode([Insn(0x95), insn])
    assert caught.value.offset == 8


@pytest.mark.parametrize("value", [0, 1, -1, 1 << 63, (1 << 64) - 1, 0x1122334455667788, 0x80000000])
def test_wide_immediates(value: int) -> None:
    assert imm64(ld_imm64(3, value), 0) == value % (1 << 64)
