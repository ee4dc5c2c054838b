"""Native guessing of record starts against the rules of `Guessing` in plain Python."""

from __future__ import annotations

import ctypes
import random
from struct import pack, unpack_from

import pytest

from skep.tap.layout import Guessing
from skep.tap.plain import Plain
from tests.support.directed import seed
from tests.tap.support import code, plain


def plausible(data: bytes, place: int, first: int, order: str, limit: int, units: int) -> bool:
    before = first
    for turn in range(Guessing.CHAIN):
        if place + 16 > len(data):
            return turn >= Guessing.LEAST
        sec, fraction, caplen, wirelen = unpack_from(f"{order}IIII", data, place)
        if abs(sec - before) >= Guessing.FAR or fraction >= units or caplen > limit:
            return False
        if caplen > wirelen or wirelen > Guessing.LONGEST:
            return False
        before = sec
        place += 16 + caplen
    return True


def wanted(data: bytes, offset: int, first: int, order: str, described: Plain) -> int:
    for place in range(offset, len(data) - 15):
        if plausible(data, place, first, order, described.record_limit, described.units):
            return place
    return -1


def damaged(rng: random.Random, first: int) -> tuple[int, int, int, int]:
    """A header at the edge of what is plausible."""
    sec = first + rng.choice((0, 5, Guessing.FAR - 1, Guessing.FAR, -Guessing.FAR + 1, -Guessing.FAR))
    fraction = rng.choice((0, 999_999, 1_000_000, 0xFFFFFFFF))
    caplen = rng.choice((0, 20, 262_144, 262_145))
    wirelen = rng.choice((caplen, caplen + 1, max(0, caplen - 1), Guessing.LONGEST, Guessing.LONGEST + 1))
    return sec, fraction, caplen, wirelen


@pytest.mark.parametrize("maker", ["x86", "llvm"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_first_plausible_place(order: str, maker: str) -> None:
    number = seed(91)
    rng = random.Random(number)
    judge = code("", swapped=order == ">", maker=maker)
    described = plain(big_endian=order == ">")
    first = 1_700_000_000
    found = set()
    for _ in range(400):
        data = rng.randbytes(rng.randrange(60))
        for _ in range(rng.randrange(10)):
            size = rng.randrange(40)
            header = (first + rng.randrange(100), rng.randrange(1_000_000), size, size + rng.randrange(2))
            if rng.random() < 0.15:
                header = damaged(rng, first)
            data += pack(f"{order}IIII", *header) + rng.randbytes(size)
        expected = wanted(data, 0, first, order, described)
        found.add(expected)
        held = ctypes.create_string_buffer(data, len(data))
        offsets = [0, len(data) // 2, len(data), len(data) + 1]
        got = judge.guess(offsets, ctypes.addressof(held), len(data), first, described)
        later = [expected, *(wanted(data, offset, first, order, described) for offset in offsets[1:])]
        assert got == later, (number, data.hex())
    assert -1 in found and len(found) > 40


@pytest.mark.parametrize("maker", ["x86", "llvm"])
def test_no_further_than_the_window(maker: str) -> None:
    first = 1_700_000_000
    headers = b"".join(pack("<IIII", first + turn, 0, 60, 60) + bytes(60) for turn in range(9))
    place = Guessing.WINDOW + 5000
    data = bytes(place) + headers
    held = ctypes.create_string_buffer(data, len(data))
    got = code("", maker=maker).guess([0, 4999, 10_000], ctypes.addressof(held), len(data), first, plain())
    assert got == [-1, -1, place]
