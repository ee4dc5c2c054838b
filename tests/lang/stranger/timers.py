# mypy: ignore-errors
"""bpf_timer, bpf_loop callbacks, for_each, spin locks, open-coded iterators, workqueue."""

from skep import bpf
from skep.bpf import s64, u32, u64


@bpf.struct
class Elem:
    timer: bpf.Timer
    fired: u64


@bpf.struct
class Sum:
    total: u64
    n: u32


timers = bpf.Array(Elem, 2)
table = bpf.Hash(u32, u64, max_entries=64)
out = bpf.Array(s64, 16)
CLOCK_MONOTONIC = 1


def fired(m, key: u32, e: Elem) -> int:
    e.fired += 1
    return 0


def step(i: u32, s: Sum) -> bool:
    if i == 1000:
        return True
    s.total += i
    s.n += 1
    return False


def visit(m, key: u32, value: u64, s: Sum) -> bool:
    s.total += value
    s.n += 1
    return False


@bpf.syscall
def main(ctx: Sum) -> int:
    e = timers[0]
    bpf.timer_init(e.timer, timers, CLOCK_MONOTONIC)
    bpf.timer_set_callback(e.timer, fired)
    bpf.timer_start(e.timer, 1_000_000, 0)
    s = Sum()
    out[0] = bpf.loop(5000, step, s)
    out[1] = s.total
    for i in range(10):
        table[i] = i * i
    t = Sum()
    table.for_each(visit, t)
    out[2] = t.total
    out[3] = t.n
    n = 0
    for _ in bpf.range(100_000):
        n += 1
    out[4] = n
    total = 0
    for i in range(60_000):
        total += i & 3
    out[5] = total
    ctx.total = 42
    return 7


def check(obj):
    import time

    r = obj.main.run(ctx=bytes(16))
    assert r.retval == 7
    for _ in range(100):
        if obj.timers[0].fired:
            break
        time.sleep(0.01)
    assert obj.timers[0].fired == 1
    got = [obj.out[i] for i in range(6)]
    assert got == [
        1001,
        sum(range(1000)),
        sum(i * i for i in range(10)),
        10,
        100_000,
        sum(i & 3 for i in range(60_000)),
    ], got
