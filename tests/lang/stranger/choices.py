"""Texts that a condition chooses, sizes of dynptrs as types, enumerators in any case."""

from typing import Any

from skep import bpf
from skep.bpf import u32, u64

MAC_A = b"\x02\0\0\0\0\x01"
MAC_B = b"\x02\0\0\0\0\x02"


class Seen(bpf.Struct):
    way: bpf.Text = bpf.char(16)
    size: bpf.Text = bpf.char(6)
    mac: bpf.Raw = bpf.raw(6)
    left: u64


class Record(bpf.Struct):
    kind: u32
    n: u32
    body: bpf.Raw = bpf.raw(8)


rows = bpf.Array(Seen, 1)
ring = bpf.RingBuf(Record, size=4096)


@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    e = rows[0]
    n = len(ctx.packet())
    e.way = "in" if n > 100 else "outside"
    e.size = "small" if n < 80 else "large" if n > 100 else "mid"
    e.mac = MAC_A if n > 100 else MAC_B
    text = "yes" if e.way == "in" else "no"
    line = bpf.char(16)
    written = bpf.snprintf(line, f"<{text}>")
    expires = e.left + 5
    e.left = 1 if expires - bpf.ktime() > 0 else 2
    return 1000 * int(line == "<yes>") + written


@bpf.syscall
def dynamic() -> int:
    d = bpf.Dynptr()
    if bpf.ringbuf_reserve_dynptr(ring, 16, 0, d) < 0:
        bpf.ringbuf_discard_dynptr(d)
        return 1
    head = bpf.dynptr_data(d, 0, Record)
    if head is not None:
        head.kind = bpf.TCP_CA_Loss
    n = bpf.dynptr_data(d, 4, u32)
    if n is not None:
        n.value = 7
    body = bpf.dynptr_data(d, 8, 8)
    if body is not None:
        body[0] = 65
    bpf.ringbuf_submit_dynptr(d)
    return 0


def check(obj: Any) -> None:
    assert obj.main.run(bytes(120)).retval == 1006
    row = obj.rows[0]
    assert (row.way, row.size, row.mac, row.left) == (b"in", b"large", MAC_A, 2)
    assert obj.main.run(bytes(64)).retval == 5
    row = obj.rows[0]
    assert (row.way, row.size, row.mac) == (b"outside", b"small", MAC_B)
    reader = obj.reader("ring")
    assert obj.dynamic.run(b"").retval == 0
    record = next(iter(reader))
    assert (record.kind, record.n, bytes(record.body)[:1]) == (4, 7, b"A")
