# mypy: ignore-errors
"""Times: what lies between two u64, divided and compared as numbers are; a part of a struct that is sent."""

from skep import bpf
from skep.bpf import s64, u32, u64


@bpf.struct
class Slice:
    start: u64
    stop: u64


@bpf.struct
class Event:
    pid: u32
    used: u32
    args: bpf.Raw = bpf.raw(96)


slices = bpf.Array(Slice, 8)
out: list[s64] = bpf.var(bpf.array(s64, 64))
sizes: list[u32] = bpf.var(bpf.array(u32, 8))
longest: u64 = bpf.var(0)
events = bpf.RingBuf(Event, size=4096)
last = bpf.Array(Event, 1)


def took(s: Slice) -> int:
    return s.stop - s.start


@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    global longest
    for i in range(8):
        s = slices[i]
        d = took(s)
        if d < 0:
            out[i] = -1
            continue
        if d > longest:
            longest = d
        out[i] = d // 1000
        out[8 + i] = d % 1000
    for i in range(8):
        d = took(slices[i])
        out[16 + i] = d // 7
        out[24 + i] = d % 7
        out[32 + i] = d >> 3
        out[40 + i] = d**2
        out[48 + i] = d // (i + 1)
        out[56 + i] = d // (i - 9)
    sizes[0] = bpf.sizeof(Event)
    sizes[1] = bpf.offsetof(Event.args)
    e = last[0]
    e.pid = 7
    e.used = 5
    e.args[4] = 9
    n = e.used
    if n <= 96:
        sizes[2] = events.output(e, size=bpf.offsetof(e.args) + n)
    return bpf.XDP_PASS


def check(obj):
    pairs = [(0, 5), (10**9, 10**9 + 12345), (7, 3), (1, 2**62), (2**62, 1), (2**63 + 9, 2**63 + 5009)]
    pairs += [(2**64 - 1, 0), (3, 3)]
    for i, pair in enumerate(pairs):
        obj.slices[i] = pair
    with obj.reader("events") as reader:
        assert obj.main.run(bytes(64)).retval == 2
        first = next(iter(reader))
    # From 2**64 - 1 to 0 is one step, as for clocks that wrap.
    apart = [(b - a + 2**63) % 2**64 - 2**63 for a, b in pairs]
    wrapped = [(d * d + 2**63) % 2**64 - 2**63 for d in apart]
    got = list(obj.bss.out)
    assert got[:8] == [d // 1000 if d >= 0 else -1 for d in apart]
    assert got[8:16] == [d % 1000 if d >= 0 else 0 for d in apart]
    assert got[16:24] == [d // 7 for d in apart]
    assert got[24:32] == [d % 7 for d in apart]
    assert got[32:40] == [d >> 3 for d in apart]
    assert got[40:48] == wrapped
    assert got[48:56] == [d // (i + 1) for i, d in enumerate(apart)]
    assert got[56:64] == [d // (i - 9) for i, d in enumerate(apart)]
    assert obj.bss.longest == max(apart)
    assert list(obj.bss.sizes)[:3] == [104, 8, 1]
    assert (first.pid, first.used, bytes(first.args)) == (7, 5, b"\0\0\0\0\x09".ljust(96, b"\0"))
