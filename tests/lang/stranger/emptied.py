"""Queues and stacks that a loop empties, in each way it is written."""

from typing import Any

from skep import bpf
from skep.bpf import u32, u64


class Job(bpf.Struct):
    key: u32
    size: u64


work = bpf.Queue(u64, max_entries=32)
jobs = bpf.Stack(Job, max_entries=2000)
seen = bpf.Hash(u32, u64, max_entries=16)


@bpf.syscall
def fill() -> int:
    for i in range(32):
        work.push(i + 1)
    for i in range(50):
        jobs.push(Job(i & 7, i))
    return 0


@bpf.syscall
def walrus() -> int:
    total = 0
    while (x := work.pop()) is not None:
        total += x
    return total


@bpf.syscall
def breaks() -> int:
    n = 0
    total = 0
    while True:
        x = work.pop()
        if x is None:
            break
        if x & 1:
            continue
        total += x
        n += 1
    return 1000 * n + total


@bpf.syscall
def structs() -> int:
    n = 0
    while job := jobs.pop():
        seen[job.key] += job.size
        n += 1
    return n


def check(obj: Any) -> None:
    obj.fill.run(b"")
    assert obj.walrus.run(b"").retval == 32 * 33 // 2
    assert obj.walrus.run(b"").retval == 0
    assert obj.structs.run(b"").retval == 50
    assert dict(obj.seen) == {k: sum(i for i in range(50) if i & 7 == k) for k in range(8)}
    obj.fill.run(b"")
    assert obj.breaks.run(b"").retval == 16000 + 16 * 17
