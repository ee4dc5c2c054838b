"""A syscall program's struct: constant places in the context, arrays and texts in a copy that goes back."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import skep
from skep.errors import CompileError, SkepError
from skep.lang.compile import to_ir
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

PROGRAM = """
@bpf.struct
class Point:
    x: u32
    y: u32

@bpf.struct
class Args:
    pick: u32
    points: list[Point] = bpf.array(Point, 5)
    total: u32
    name: bpf.Text = bpf.char(12)
    slots: list[u64] = bpf.array(u64, 8)
    same: u64
    big: list[u64] = bpf.array(u64, 100)

@bpf.subprog
def bump(p: Point, by: u32) -> u32:
    p.x += by
    return p.x

@bpf.syscall
def main(a: Args) -> int:
    points = a.points
    for p in points:
        a.total += p.x
        p.y = p.x + 1
    a.total += bump(points[4], 100)
    pick = a.pick
    if pick >= 8:
        return -22
    a.slots[a.pick & 7] = len(a.name)
    for i in range(pick):
        a.slots[i] += i
    a.name = "given back"
    a.same = a.big[3] if a.pick == 5 else a.big[99]
    a.big[1] = 7
    return 0
"""
LAYOUT = "I10II12s8QQ100Q"


@pytest.mark.live
@pytest.mark.parametrize("pick", [0, 5, 9])
def test_parts_are_memory(pick: int, tmp_path: Path) -> None:
    bpf()
    made = module(tmp_path, HEADER + PROGRAM)
    points = [1, 50, 2, 50, 3, 50, 4, 50, 5, 50]
    big = list(range(1000, 1100))
    given = struct.pack(LAYOUT, pick, *points, 7, b"abc", *[10] * 8, 9, *big)
    with skep.load(made.main) as obj:
        done = obj.main.run(ctx=given)
    points = [1, 2, 2, 3, 3, 4, 4, 5, 105, 6]
    total, slots, name, same = 7 + 15 + 105, [10] * 8, b"abc".ljust(12, b"\0"), 9
    if pick < 8:
        slots[pick] = 3
        slots = [slot + i if i < pick else slot for i, slot in enumerate(slots)]
        name, same = b"given back\0\0", big[3] if pick == 5 else big[99]
        big[1] = 7
    assert done.retval == (0 if pick < 8 else 2**32 - 22)
    assert done.ctx == struct.pack(LAYOUT, pick, *points, total, name, *slots, same, *big)


def test_what_does_not_fit_the_stack_is_refused_at_the_parameter(tmp_path: Path) -> None:
    text = HEADER + PROGRAM.replace("a.big[1] = 7", "a.big[a.pick & 63] = 7")
    with pytest.raises(CompileError, match="arrays with other indices are copied") as caught:
        to_ir([module(tmp_path, text).main])
    assert text.splitlines()[caught.value.line - 1] == "def main(a: Args) -> int:"


def test_nothing_is_copied_without_need(tmp_path: Path) -> None:
    text = HEADER + PROGRAM.split("@bpf.subprog")[0]
    text += "@bpf.syscall\ndef main(a: Args) -> int:\n    a.total = a.points[2].x + a.big[3]\n    return 0\n"
    assert "%given.0" not in to_ir([module(tmp_path, text).main])


@pytest.mark.live
def test_values_go_in_and_come_out(tmp_path: Path) -> None:
    """The object's BTF says what a syscall program is given."""
    bpf()
    made = module(tmp_path, HEADER + PROGRAM)
    with skep.load(made.main) as obj:
        done = obj.main.run(ctx={"pick": 2, "points": [{"x": i} for i in range(5)], "name": b"abc"})
        assert done.retval == 0 and done.ctx.name == b"given back" and done.ctx.total == 10 + 104
        assert [(p.x, p.y) for p in done.ctx.points] == [(0, 1), (1, 2), (2, 3), (3, 4), (104, 5)]
        again = obj.main.run(ctx=done.ctx)
        assert again.ctx.total == 114 + 110 + 204 and again.ctx.slots[2] == len(b"given back")
        with pytest.raises(SkepError, match=r"program main: its context: .*pikc"):
            obj.main.run(ctx={"pikc": 2})
    other = module(tmp_path, HEADER + XDP, "other")
    with skep.load(other.main) as obj, pytest.raises(SkepError, match="no BTF says what its context is"):
        obj.main.run(bytes(64), ctx={"ingress_ifindex": 1})


XDP = """
@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    return 2
"""
