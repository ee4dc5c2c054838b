"""Objects that programs allocate: on the live kernel, and what is refused."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

import skep
from skep.btf import types as t
from skep.btf.build import BtfBuilder
from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.loading import build, programs_of
from tests.lang import owned
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("owned") / "owned.bpf.o"
    path.write_bytes(compile_programs(programs_of(owned)))
    return path


@pytest.mark.live
def test_alone_and_in_maps(built: Path) -> None:
    bpf()
    with skep.load(str(built)) as obj:
        assert obj.alone.run(bytes(64)).retval == 2
        assert obj.bss.zeros == 0
        assert obj.bss.seen == 8 * 1000000 + 500 * 1000 + 1 + 2 + 9 + 4 + 3
        assert obj.by_with.run(bytes(64)).retval == 42
        assert obj.take.run(bytes(64)).retval == 0
        assert obj.odd.run(bytes(64)).retval == 12
        assert [obj.keep.run(bytes(n)).retval for n in (60, 70, 80)] == [1, 60, 70]
        assert [obj.take.run(bytes(64)).retval for _ in range(2)] == [80, 0]


@pytest.mark.live
def test_lists(built: Path) -> None:
    bpf()
    with skep.load(str(built)) as obj:
        assert obj.empty.run(bytes(64)).retval == 0
        assert obj.fill.run(bytes(64)).retval == 0
        assert obj.queues[0].count == 6
        assert obj.empty.run(bytes(64)).retval == 4123
        assert obj.empty.run(bytes(64)).retval == 0


@pytest.mark.live
def test_trees(built: Path) -> None:
    bpf()
    keys = [(i * 5 + 2) % 7 for i in range(6)]
    with skep.load(str(built)) as obj:
        # a list in what is in a tree, and what the tree's has in a field
        for key in (9, 10):
            assert obj.nest.run(bytes(64)).retval == 12
            assert obj.tops[1].count == key - 8
        assert [obj.unnest.run(bytes(64)).retval for _ in range(3)] == [21, 21, 0]
        assert obj.grow.run(bytes(64)).retval == 6
        top = obj.peek.run(bytes(64)).retval
        assert top // 1000 == keys[-1]
        root, left, right = top // 100 % 10, top // 10 % 10, top % 10
        assert left < root < right
        digits = "".join(map(str, sorted(keys)))
        assert obj.shrink.run(bytes(64)).retval == int(digits)
        assert obj.shrink.run(bytes(64)).retval == 0
        # the list holds them still
        assert obj.drain.run(bytes(64)).retval == int("".join(map(str, keys)))


@pytest.mark.live
def test_other_forms(built: Path) -> None:
    bpf()
    with skep.load(str(built)) as obj:
        assert [obj.guarded.run(bytes(64)).retval for _ in range(3)] == [1, 2, 3]
        assert obj.counters[0].count == 3
        assert [obj.ways_out.run(bytes(n)).retval for n in (60, 61, 62, 62)] == [5, 1, 4, 7]
        assert obj.by_name.run(bytes(64)).retval == 21
        assert [obj.in_global.run(bytes(n)).retval for n in (60, 61, 62, 63)] == [0, 0, 60, 61]
        assert [obj.either.run(bytes(64)).retval for _ in range(5)] == [1, 2, 3, 1, 2]


@pytest.mark.live
def test_types_that_only_lists_name(tmp_path: Path) -> None:
    """The kernel looks structs up by name: those that are allocated nowhere, and one of each of its own."""
    bpf()
    text = """
@bpf.struct
class Item:
    key: u64
    node: bpf.ListNode

@bpf.struct
class Queue:
    lock: bpf.SpinLock
    items: bpf.ListHead[Item]

@bpf.struct
class Kept:
    item: bpf.Kptr[Item]

queues = bpf.Array(Queue, 1)
kept = bpf.Array(Kept, 1)

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    q = queues[0]
    with q.lock:
        x = q.items.pop_front()
    if x is None:
        return 1
    bpf.drop(x)
    return 2

@bpf.xdp
def other(ctx: bpf.Xdp) -> int:
    x = kept[0].item.swap(None)
    if x is None:
        return 1
    bpf.drop(x)
    return 2
"""
    path = tmp_path / "named.bpf.o"
    path.write_bytes(compile_programs(programs_of(module(tmp_path, HEADER + text))))
    with skep.load(str(path)) as obj:
        assert obj.main.run(bytes(64)).retval == 1
        assert obj.other.run(bytes(64)).retval == 1


_PRELUDE = (
    HEADER
    + """
@bpf.struct
class Item:
    key: u64
    node: bpf.ListNode
    cells: list[u32] = bpf.array(u32, 4)

@bpf.struct
class Other:
    key: u64
    tree: bpf.RbNode

@bpf.struct
class Both:
    node: bpf.ListNode
    tree: bpf.RbNode

@bpf.struct
class Queue:
    lock: bpf.SpinLock
    items: bpf.ListHead[Item]

@bpf.struct
class Tree:
    lock: bpf.SpinLock
    nodes: bpf.RbRoot[Other]

@bpf.struct
class Slot:
    item: bpf.Kptr[Item]

@bpf.struct
class Guard:
    lock: bpf.ResSpinLock
    count: u64

queues = bpf.Array(Queue, 2)
trees = bpf.Array(Tree, 1)
slots = bpf.Array(Slot, 1)
guards = bpf.Array(Guard, 1)

@bpf.struct
class Bits:
    a: u8 = bpf.bits(u8, 3)
    b: u8 = bpf.bits(u8, 5)
    node: bpf.ListNode

def less(a: Other, b: Other) -> bool:
    return a.key < b.key

def wrong(a: Item, b: Item) -> bool:
    return a.key < b.key

def turn(i: u32, state: Queue) -> bool:
    return i == 2

def calls(a: Other, b: Other) -> bool:
    return bpf.ktime() < b.key

@bpf.tc
def main(ctx: bpf.SkBuff) -> int:
    q, tree, slot, guard = queues[0], trees[0], slots[0], guards[0]
    x, y = bpf.new(Item), bpf.new(Other)
    if x is None:
        if y is not None:
            bpf.drop(y)
        return 0
    if y is None:
        bpf.drop(x)
        return 0
"""
)


class Refused(NamedTuple):
    body: str
    at: str
    says: str


_NONE = """
@bpf.struct
class Item:
    key: u64

@bpf.tc
def main(ctx: bpf.SkBuff) -> int:
    with bpf.releasing(bpf.new(Item)) as x:
        return 1
    return 0
"""

_REFUSED = [
    Refused("bpf.drop(x)", "return 0", "y, which bpf.new() acquired on line"),
    Refused("bpf.drop(x)\nreturn x.key", "x", "x was given back"),
    Refused("bpf.drop(x)\nbpf.drop(x)", "x", "x was given back"),
    Refused("z = bpf.new(Item)\nz.key = 1", "z.key", "may be None"),
    Refused("z = bpf.new(u64)", "bpf.new(u64)", "takes a struct"),
    Refused("bpf.new(Item)", "bpf.new(Item)", "is dropped here and never given back"),
    Refused("x = bpf.new(Item)", "x = bpf.new(Item)", "x still holds what bpf.new() acquired"),
    Refused("bpf.drop(ctx)", "bpf.drop(ctx)", "takes what bpf.new() allocated"),
    Refused("bpf.drop(q)", "bpf.drop(q)", "takes what bpf.new() allocated"),
    Refused("q.items.push_front(x)", "q.items.push_front(x)", "while the lock beside the list is held"),
    Refused("z = q.items.pop_front()", "q.items.pop_front()", "while the lock beside the list is held"),
    Refused("with q.lock:\n    q.items.push_front(y)", "q.items.push_front(y)", "this list has Items"),
    Refused("with q.lock:\n    q.items.push_front(q)", "q.items.push_front(q)", "takes what bpf.new()"),
    Refused("with q.lock:\n    q.items.add(x)", "q.items.add", "a list has no 'add'"),
    Refused("with q.lock:\n    q.items.push_back(x)\n    q.items.push_back(x)", "q.items.push_back(x)",
            "a list or tree owns this"),
    Refused("with q.lock:\n    q.items.push_back(x)\n    bpf.drop(x)", "bpf.drop(x)", "a list or tree owns"),
    Refused("with q.lock:\n    q.items.push_back(x)\nreturn x.key", "x",
            "was only to be seen under the lock"),
    Refused("with q.lock:\n    bpf.drop(x)", "bpf.drop(x)", "while they hold a lock"),
    Refused("with q.lock:\n    z = bpf.new(Item)", "bpf.new(Item)", "while they hold a lock"),
    Refused("if ctx.len > 5:\n    with q.lock:\n        q.items.push_back(x)\nbpf.drop(x)", "x",
            "was only to be seen under the lock"),
    Refused("bpf.drop(x)\nbpf.drop(y)\nwith q.lock:\n    z = q.items.pop_back()", "return 0",
            "z, which q.items.pop_back() acquired on line"),
    Refused("with tree.lock:\n    tree.nodes.add(y, wrong)", "a: Item", "'a' is Other here, not Item"),
    Refused("with tree.lock:\n    tree.nodes.add(y, calls)", "bpf.ktime()", "while they hold a lock"),
    Refused("with tree.lock:\n    tree.nodes.add(y)", "tree.nodes.add(y)", "add() takes 2 arguments"),
    Refused("with tree.lock:\n    z = tree.nodes.remove(y)", "tree.nodes.remove(y)", "what is in the tree"),
    Refused("with tree.lock:\n    f = tree.nodes.first()\n    z = tree.nodes.remove(f)",
            "f", "may be None"),
    Refused("with tree.lock:\n    f = tree.nodes.first()\nif f is not None:\n    return 1", "f",
            "was only to be seen under the lock"),
    Refused("z = bpf.refcount_acquire(x)", "bpf.refcount_acquire(x)", "Item counts no references"),
    Refused("old = slot.item.swap(y)", "slot.item.swap(y)", "takes no Other"),
    Refused("z = bpf.new(Both)", "bpf.new(Both)", "has to count its references"),
    Refused("bpf.loop(3, turn, q)", "bpf.loop(3, turn, q)", "this Queue lies in a map"),
    Refused("z = bpf.new(Bits)", "bpf.new(Bits)", "bit field Bits.b begins within a byte"),
    Refused("for n in x.cells:\n    pass", "x.cells", "by a constant index only"),
    Refused("slot.item = x", "slot.item", "is not set, but exchanged"),
    Refused("x.cells[ctx.len & 3] = 1", "x.cells[ctx.len & 3]", "by a constant index only"),
    Refused("x.node = 1", "x.node", "cannot be copied or set"),
    Refused("with guard.lock:\n    with q.lock:\n        pass", "q.lock", "a lock is held already"),
    Refused("with guard.lock:\n    t = bpf.ktime()", "bpf.ktime()", "while they hold a lock"),
    Refused("bpf.res_spin_lock(guard.lock)", "bpf.res_spin_lock(guard.lock)", "is not looked at"),
    Refused("bpf.list_push_front(tree.nodes, x)", "bpf.list_push_front(tree.nodes, x)", "takes a list"),
]  # fmt: skip


@pytest.mark.parametrize("case", _REFUSED, ids=[case.body.replace("\n", "; ")[:60] for case in _REFUSED])
def test_refused(case: Refused, tmp_path: Path) -> None:
    end = "" if "return" in case.body.splitlines()[-1] else "\n    return 0"
    made = module(tmp_path, _PRELUDE + textwrap.indent(case.body, "    ") + end + "\n")
    with pytest.raises(CompileError) as caught:
        to_ir([made.main])
    error = caught.value
    assert error.source is not None and error.column is not None and error.end_column is not None
    assert case.says in error.reason
    if case.at:
        assert error.source.splitlines()[error.line - 1][error.column : error.end_column] == case.at
    assert error.hint


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ("bpf.ListHead[Plain]", "Plain has no field node: bpf.ListNode"),
        ("bpf.RbRoot[Linked]", "Linked has no field node: bpf.RbNode"),
        ("bpf.ListHead[Twice]", "Twice has several: name one of a, b"),
        ("bpf.ListHead[u64]", "a list has structs"),
        ("bpf.ListHead[Linked]\n\nglobals()['Head'] = Bare", "needs a lock beside it"),
    ],
)
def test_heads_that_cannot_be(record: str, says: str, tmp_path: Path) -> None:
    text = f"""
@bpf.struct
class Plain:
    key: u64

@bpf.struct
class Linked:
    node: bpf.ListNode

@bpf.struct
class Twice:
    a: bpf.ListNode
    b: bpf.ListNode

@bpf.struct
class Bare:
    items: bpf.ListHead[Linked]

@bpf.struct
class Head:
    lock: bpf.SpinLock
    items: {record}

heads = bpf.Array(Head, 1)

@bpf.tc
def main(ctx: bpf.SkBuff) -> int:
    with heads[0].lock:
        return 1
    return 0
"""
    made = module(tmp_path, HEADER + text)
    with pytest.raises(CompileError) as caught:
        to_ir([made.main])
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("hook", "body", "says"),
    [
        ('tracepoint("sched:sched_switch")', "q = queues[0]\nwith q.lock:\n    q.items.pop_front()",
         "tracepoint programs cannot hold locks"),
        ('tracepoint("sched:sched_switch")', "g = guards[0]\nwith g.lock:\n    g.items.pop_front()",
         "tracepoint programs cannot hold locks"),
        ('kprobe("do_exit")', "bpf.drop(bpf.new(Item))", "kprobe programs cannot call bpf_obj_new_impl"),
        ("sockops", "x = bpf.new(Item)", "x, which bpf.new() acquired"),
    ],
)  # fmt: skip
def test_hooks(hook: str, body: str, says: str, tmp_path: Path) -> None:
    text = f"""
@bpf.struct
class Item:
    node: bpf.ListNode

@bpf.struct
class Queue:
    lock: bpf.SpinLock
    items: bpf.ListHead[Item]

@bpf.struct
class Guard:
    lock: bpf.ResSpinLock
    items: bpf.ListHead[Item]

queues = bpf.Array(Queue, 1)
guards = bpf.Array(Guard, 1)

@bpf.{hook}
def main(ctx) -> int:
{textwrap.indent(body, "    ")}
    return 1
"""
    made = module(tmp_path, HEADER + text)
    with pytest.raises(CompileError) as caught:
        to_ir([made.main])
    assert says in caught.value.reason


def test_kernels_without(tmp_path: Path) -> None:
    """The first kernel is named where the one compiled for has no such function."""
    made = BtfBuilder()
    made.add(t.Int("int", 4, t.SIGNED))
    types = tmp_path / "old.btf"
    types.write_bytes(made.build())
    source = module(tmp_path, HEADER + _NONE)
    with pytest.raises(CompileError, match=r"has no bpf_obj_new_impl \(Linux 6\.2 is the first with it\)"):
        build(source.main, btf=str(types))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x: Lock = bpf.const()", "cannot be in a constant"),
        ('x: Lock = bpf.var(section=".data.a")\n'
         'y: Lock = bpf.var(section=".data.a")', "is in section .data.a too"),
        ("x = bpf.PerCpuArray(Lock, 1)", "cannot be in the value of a map of type percpu_array"),
    ],
)  # fmt: skip
def test_places_that_cannot_be(text: str, says: str, tmp_path: Path) -> None:
    head = HEADER + "@bpf.struct\nclass Lock:\n    lock: bpf.SpinLock\n    n: u64\n"
    made = module(tmp_path, f"{head}{text}\n@bpf.tc\ndef main(ctx: bpf.SkBuff) -> int:\n    return 0\n")
    with pytest.raises(CompileError, match=says):
        compile_programs([made.main])
