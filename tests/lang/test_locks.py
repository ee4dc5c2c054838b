"""Locks: resilient ones by hand and by with, which lock guards which list, on the live kernel and refused."""

from __future__ import annotations

import errno
import textwrap
from pathlib import Path

import pytest

import skep
from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.loading import programs_of
from skep.obj import read
from skep.verifier import Subject, check
from tests.lang import locks
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("locks") / "locks.bpf.o"
    path.write_bytes(compile_programs(programs_of(locks)))
    return path


@pytest.mark.live
def test_live(built: Path) -> None:
    bpf()
    with skep.load(str(built)) as obj:
        for name, wanted in {
            "by_irq": [1, 2],
            "by_hand": [1, 2],
            "by_hand_irq": [3, 3],
            "same": [errno.EDEADLK] * 2,
            "nested": [8, 8],
            "listed": [9, 9],
            "listed_by_hand": [19, 19],
        }.items():
            assert [obj.programs[name].run(bytes(64)).retval for _ in range(2)] == wanted, name
        assert obj.guards[1].count == 4
        assert obj.guards[2].count == 2


def test_verifier(built: Path) -> None:
    spec = read(str(built))
    for program in programs_of(locks):
        check(Subject.from_object(spec, program.__name__), kernel="6.18")  # raises when it is refused


_PRELUDE = (
    HEADER
    + """
@bpf.struct
class Item:
    node: bpf.ListNode

@bpf.struct
class Guard:
    lock: bpf.ResSpinLock
    count: u64
    items: bpf.ListHead[Item]

@bpf.struct
class Plain:
    lock: bpf.SpinLock
    items: bpf.ListHead[Item]

guards = bpf.Array(Guard, 4)
plains = bpf.Array(Plain, 4)
table = bpf.Hash(u32, Plain, max_entries=4)
one: Guard = bpf.var()

def take(g):
    return bpf.res_spin_lock(g.lock)

@bpf.tc
def main(ctx: bpf.SkBuff) -> int:
    a, b = guards[0], guards[1]
    p, q = plains[0], plains[0]
    t = table.get(1)
    if t is None:
        return 0
"""
)

_REFUSED = [
    ("bpf.res_spin_lock(a.lock)", "bpf.res_spin_lock(a.lock)", "whether the lock was taken"),
    ("r = bpf.res_spin_lock(a.lock)\nbpf.res_spin_unlock(a.lock)", "bpf.res_spin_unlock(a.lock)",
     "whether a.lock was taken on line"),
    ("r = bpf.res_spin_lock(a.lock)\nif r == 0:\n    return 1", "return 1", "is still in effect"),
    ("if bpf.res_spin_lock(a.lock) == 0:\n    bpf.res_spin_unlock(b.lock)", "bpf.res_spin_unlock(b.lock)",
     "the lock taken last is a.lock"),
    ("if bpf.res_spin_lock(a.lock):\n    return 0\nif bpf.res_spin_lock(b.lock):\n"
     "    bpf.res_spin_unlock(a.lock)\n    return 0\n"
     "bpf.res_spin_unlock(a.lock)\nbpf.res_spin_unlock(b.lock)",
     "bpf.res_spin_unlock(a.lock)", "the lock taken last is b.lock"),
    ("if bpf.res_spin_lock(a.lock) == 0:\n    if bpf.res_spin_lock(a.lock) == 0:\n        pass",
     "bpf.res_spin_lock(a.lock)", "is held already"),
    ("if bpf.res_spin_lock_irqsave(a.lock) == 0:\n    bpf.res_spin_unlock(a.lock)",
     "bpf.res_spin_unlock(a.lock)", "was taken by bpf.res_spin_lock_irqsave()"),
    ("with a.lock:\n    bpf.res_spin_unlock(a.lock)", "bpf.res_spin_unlock(a.lock)", "by itself"),
    ("bpf.res_spin_unlock(a.lock)", "bpf.res_spin_unlock(a.lock)", "is not held on this path"),
    ("if ctx.len == 5:\n    r = bpf.res_spin_lock(a.lock)\n    if r:\n        return 0\n"
     "bpf.res_spin_unlock(a.lock)", "bpf.res_spin_lock(a.lock)", "where two paths meet"),
    ("r = bpf.res_spin_lock(p.lock)", "bpf.res_spin_lock(p.lock)", "takes a field bpf.ResSpinLock"),
    ("with p.lock:\n    with q.lock:\n        pass", "q.lock", "a lock is held already"),
    ("if take(a) == 0:\n    t = bpf.ktime()\n    bpf.res_spin_unlock(a.lock)", "bpf.ktime()",
     "while they hold a lock"),
    # the lock beside another list
    ("with p.lock:\n    q.items.front()", "q.items.front()", "the lock beside this list is not the one held"),
    ("with p.lock:\n    t.items.front()", "t.items.front()", "the lock beside this list is not the one held"),
    ("with a.lock:\n    one.items.front()", "one.items.front()", "is not the one held here: a.lock"),
    ("with one.lock:\n    a.items.front()", "a.items.front()", "is not the one held here: one.lock"),
    ("if take(a) == 0:\n    x = b.items.pop_front()", "b.items.pop_front()", "is not the one held"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "at", "says"), _REFUSED)
def test_refused(body: str, at: str, says: str, tmp_path: Path) -> None:
    text = f"{_PRELUDE}{textwrap.indent(body, '    ')}\n    return 0\n"
    with pytest.raises(CompileError) as caught:
        to_ir([module(tmp_path, text).main])
    error = caught.value
    assert says in error.reason, error
    assert error.source is not None and error.column is not None
    assert error.source.splitlines()[error.line - 1][error.column : error.end_column] == at
    assert error.hint


#: the same value, reached in other ways, and locks that only the verifier can tell apart
_GOOD = [
    "r = bpf.res_spin_lock(a.lock)\nif r != 0:\n    return r\nbpf.res_spin_unlock(a.lock)",
    "if take(a) < 0:\n    return 1\na.count += 1\nbpf.res_spin_unlock(a.lock)",
    "with p.lock:\n    if p.items.front() is None:\n        return 3",
    "g = p\nwith g.lock:\n    if p.items.front() is None:\n        return 3",
    "with one.lock:\n    if one.items.front() is None:\n        return 3",
    "with a.lock:\n    with b.lock:\n        if a.items.front() is None:\n            return 2\n"
    "        b.items.front()",
    "for i in range(4):\n    g = guards[i]\n    with g.lock:\n        g.items.front()\n        g.count += 1",
    "g = guards[0] if ctx.len > 4 else guards[1]\nwith g.lock:\n    g.items.front()",
    "g = p if ctx.len > 4 else t\nwith g.lock:\n    g.items.front()",
    "for g in (a, b):\n    with bpf.res_spin_lock_irqsave(g.lock):\n        g.items.front()",
]


@pytest.mark.live
def test_good(tmp_path: Path) -> None:
    bpf()
    prelude, main = _PRELUDE.split("@bpf.tc\n")
    text = prelude + "".join(
        f"@bpf.tc\n{main.replace('main', f'main{i}')}{textwrap.indent(body, '    ')}\n    return 0\n\n"
        for i, body in enumerate(_GOOD)
    )
    path = tmp_path / "good.bpf.o"
    path.write_bytes(compile_programs(programs_of(module(tmp_path, text))))
    with skep.load(str(path)) as obj:
        assert len(obj.programs) == len(_GOOD)
