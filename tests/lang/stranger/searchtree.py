# mypy: ignore-errors
"""A binary tree and a hash table in an arena, filled by one program and read by another."""

from typing import Any

from skep import bpf
from skep.bpf import u64

arena = bpf.Arena(pages=64)
BUCKETS = 16


@bpf.struct
class Tree:
    key: u64
    left: bpf.ArenaPtr["Tree"]
    right: bpf.ArenaPtr["Tree"]


@bpf.struct
class Arg:
    key: u64
    found: u64


root: bpf.ArenaPtr[Tree] = bpf.var(None)
pool: bpf.ArenaPtr[Tree] = bpf.var(None)
used: u64 = bpf.var(0)


@bpf.syscall
def insert(arg: Arg) -> int:
    global root, pool, used
    if pool is None:
        pool = arena.alloc(Tree, 100)
        if pool is None:
            return 12
    if used >= 100:
        return 28
    n = pool[used]
    used += 1
    n.key = arg.key
    if root is None:
        root = n
        return 0
    at = root
    for _ in range(64):
        if arg.key == at.key:
            return 17
        if arg.key < at.key:
            if at.left is None:
                at.left = n
                return 0
            at = at.left
        else:
            if at.right is None:
                at.right = n
                return 0
            at = at.right
    return 7


@bpf.syscall
def lookup(arg: Arg) -> int:
    at = root
    for depth in range(64):
        if at is None:
            return 2
        if at.key == arg.key:
            arg.found = depth + 1
            return 0
        at = at.left if arg.key < at.key else at.right
    return 7


def check(obj: Any) -> None:
    for k in (50, 20, 70, 60, 80, 10):
        assert obj.insert.run(ctx={"key": k}).retval == 0
    assert obj.insert.run(ctx={"key": 60}).retval == 17
    r = obj.lookup.run(ctx={"key": 60})
    assert r.retval == 0 and r.ctx.found == 3
    assert obj.lookup.run(ctx={"key": 61}).retval == 2
