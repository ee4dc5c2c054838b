"""Slices: views of texts and arrays; records of which only the beginning is sent."""

from skep import bpf
from skep.bpf import u32, u64


@bpf.struct
class Line:
    used: u32
    text: bpf.Raw = bpf.raw(64)
    cells: list[u32] = bpf.array(u32, 8)


lines = bpf.PerCpuArray(Line, 1)
sent = bpf.RingBuf(Line, size=1 << 16)
events = bpf.PerfEventArray(Line)
total: u64 = bpf.var(0)


def sum_of(cells: list[u32]) -> int:
    found = 0
    for one in cells:
        found += one
    return found


@bpf.tc
def cut(skb: bpf.SkBuff) -> int:
    global total
    line = lines[0]
    line.used = 0
    line.text = b"." * 60 + b"end" + b"\0"
    for word in ("ab", "cd", "ef"):
        at = line.used
        if at > 32:
            return 1
        line.text[at : at + 2] = word
        line.used += 3
    at = line.used
    if at > 48:
        return 1
    if bpf.skb_load_bytes(0, line.text[at : at + 16], size=4):
        return 1
    for i in range(8):
        line.cells[i] = i
    line.text[40:44] = line.used.to_bytes(4, "big")
    if int.from_bytes(line.text[40:42], "big") or int.from_bytes(line.text[42:44], "little") != at << 8:
        return 1
    if line.text[44:48] != bytes(4):
        line.text[44:48] = bytes(4)
    total = sum_of(line.cells[2:4]) + 100 * sum_of(line.cells[6:])
    sent.output(line, size=4 + at + 4)
    events.output(line, size=8)
    return 2


def check(obj) -> None:  # type: ignore[no-untyped-def]  # its maps are the program's
    reader = obj.reader("sent", "Line")
    assert obj.cut.run(bytes(range(65, 129))).retval == 2
    assert obj.bss.total == 5 + 100 * 13
    kept = bytes(next(line for line in obj.lines[0] if line.used).text)
    assert kept[:14] == b"ab.cd.ef.ABCD." and kept[40:] == b"\0\0\0\x09" + bytes(4) + b"." * 12 + b"end\0", (
        kept
    )
    del reader
