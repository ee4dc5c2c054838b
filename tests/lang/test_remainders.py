"""Indices and sizes that come from a division: the verifier takes them, and programs do what Python does."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep.lang.compile import to_ir
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

TABLE = HEADER + "table: list[u64] = bpf.var(bpf.array(u64, 10))\n"
MAIN = """
def slot(x: u64) -> u64:
    return x % 10

def twice(x: u64) -> u64:
    return slot(x)

def put(i: u64) -> None:
    table[i] += 1

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    r = bpf.random()
"""
BODIES = {
    "on the way": "table[r % 10] += 1",
    "stack": "a = bpf.array(u64, 10)\na[r % 10] = 1\na[r // 429496730] = 1\nreturn a[(r >> 3) % 10] & 1",
    "kept": "i = r % 10\nj = i\ntable[9 - j] += i",
    "step by step": "i = bpf.ktime()\ni %= 10\ntable[i] += 1",
    "64 bits": "table[bpf.ktime() % 10] += 1",
    "a function": "table[twice(r)] += 1",
    "a parameter": "put(twice(r))",
    "divmod": "q, m = divmod(r, 10)\ntable[m] += q",
    "in a loop": "for i in range(4):\n    r = (r * 7 + i) % 10\n    table[r] += 1",
    "behind a mask": "table[(r % 20) & 7] += 1",
    "by a variable": "d = r & 7\nif d == 0:\n    d = 1\ntable[r % d] += 1",
    "turned round": "table[9 - (r & 7)] += 1",
    "a text": "t = bpf.char(16)\nt[r % 10] = 65\ns = t[r % 10 : r % 10 + 4]\nreturn s[1]",
    "corrected": "i = r & 15\nif i > 9:\n    i -= 10\ntable[i] += 1",
    "corrected in one": "i = r & 15\ni = i - 6 if i > 9 else i\ntable[i] += 1",
    "one more": "i = r & 7\nif i < 5:\n    i += 2\ntable[i] += 1",
    "a packet": "pkt = ctx.packet()\npkt.skip(r % 60)\nb = pkt.take(u8)\nif b:\n    table[b & 7] = 1",
    "digits": "k = bpf.ktime()\nwhile k > 0:\n    table[k % 10] += 1\n    k //= 10",
    "digits of a text": "t = bpf.char(16)\ni = 0\nwhile r > 0 and i < 16:\n"
    "    t[15 - i] = 48 + r % 10\n    r //= 10\n    i += 1\nreturn t[15]",
}


@pytest.mark.live
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_kernel_takes_it(body: str, tmp_path: Path) -> None:
    bpf()
    text = TABLE + MAIN + "".join(f"    {line}\n" for line in body.split("\n")) + "    return 0\n"
    skep.load(module(tmp_path, text).main).close()


@pytest.mark.live
def test_a_size(tmp_path: Path) -> None:
    bpf()
    text = """
name: bytes = bpf.var(bpf.char(16))

@bpf.kprobe("do_exit")
def main(ctx: bpf.PtRegs) -> int:
    bpf.probe_read_kernel(name, ctx.sp, size=bpf.random() % 10)
    return 0
"""
    skep.load(module(tmp_path, HEADER + text).main).close()


@pytest.mark.live
def test_what_they_give(tmp_path: Path) -> None:
    """The digits of numbers of 64 bits, counted by a loop that ends by division."""
    bpf()
    text = """
@bpf.struct
class Work:
    number: u64
    counts: list[u32] = bpf.array(u32, 10)

@bpf.syscall
def main(work: Work) -> int:
    k = work.number
    while k > 0:
        work.counts[k % 10] += 1
        k //= 10
    return 0
"""
    with skep.load(module(tmp_path, HEADER + text).main) as obj:
        for number in (0, 7, 10, 1234567890, (1 << 64) - 1, 10**19, 9_999_999_999):
            given = number.to_bytes(8, "little") + bytes(40)
            out = obj.main.run(ctx=given).ctx
            counts = [int.from_bytes(out[8 + 4 * i : 12 + 4 * i], "little") for i in range(10)]
            assert counts == [str(number).count(str(digit)) if number else 0 for digit in range(10)]


def test_what_needs_no_more_is_left_alone(tmp_path: Path) -> None:
    plain = MAIN + "    table[r & 7] += 1\n    table[r >> 29] += 1\n    table[r % 8] += 1\n    return 0\n"
    assert "select" not in to_ir([module(tmp_path, TABLE + plain).main])
