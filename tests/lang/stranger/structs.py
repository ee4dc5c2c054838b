"""Structs by their base class, of which fields are left out; the same classes as values in Python."""

from typing import Any

from skep import bpf
from skep.bpf import be16, u32, u64


class Inner(bpf.Struct):
    a: u32
    b: be16


class Event(bpf.Struct, packed=True):
    pid: u32
    inner: Inner
    comm: bpf.Text = bpf.char(16)
    slots: list[u64] = bpf.array(u64, 4)


table = bpf.Hash(u32, Event)
out = bpf.RingBuf(Event, size=4096)


@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    e = Event()
    e.pid = 3
    e.inner.a = 4
    e.comm = "hello"
    e.slots[1] = 9
    table[1] = e
    table[2] = Event(pid=7)
    with out.reserve() as r:
        r.pid = 2
        r.inner = Inner(a=1, b=2)
    return bpf.sizeof(Event)


def check(obj: Any) -> None:
    reader = obj.reader("out")
    assert obj.main.run(bytes(64)).retval == 4 + 8 + 16 + 32
    assert obj.table[1].inner.a == 4 and obj.table[1].slots[1] == 9 and obj.table[2].pid == 7
    assert obj.table[1].comm == b"hello"
    obj.table[3] = Event(pid=9, inner=Inner(b=8))
    assert (obj.table[3].pid, obj.table[3].inner.b) == (9, 8)
    record = next(iter(reader))
    assert (record.pid, record.inner.a, record.inner.b) == (2, 1, 2)
