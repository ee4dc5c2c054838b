# mypy: ignore-errors
"""Numbers that a loop counts up, used as indices; tuples in order."""

from skep import bpf
from skep.bpf import be32, u8, u32


@bpf.struct
class Flow:
    low: be32
    high: be32


texts: list[u8] = bpf.var(bpf.array(u8, 64))
packed: list[u8] = bpf.var(bpf.array(u8, 16))
used: u32 = bpf.var(0)
back: list[u8] = bpf.var(bpf.array(u8, 16))
order: list[u32] = bpf.var(bpf.array(u32, 6))


def sorted_flow(a: int, b: int, x: int, y: int) -> tuple[int, int]:
    if (a, x) <= (b, y):
        return a, b
    return b, a


@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    global used
    pkt = ctx.packet()
    i = 0
    for _ in range(64):
        b = pkt.take(u8)
        if b is None or b.value == 0:
            break
        texts[i] = b.value
        i += 1
    used = i
    n, k = 0, 15
    for x in texts[0:18]:
        if n < 16 and x > 64:
            packed[n] = x
            n += 1
    for j in range(8):
        if packed[j] & 1:
            back[k] = packed[j]
            k -= 1
    order[0] = (1, 2) < (1, 3)
    low, high = sorted_flow(texts[0], texts[1], texts[2], texts[3])
    order[1] = low * 256 + high
    order[2] = (texts[0], texts[1], texts[2]) > (texts[0], texts[1], texts[3])
    order[3] = (texts[0], 5) >= (texts[0], 5)
    head, *mid, tail = (texts[0], 2, 3, 4)
    order[4] = head * 100 + mid[0] * 10 + mid[1] + tail
    *rest, x = (7, 8)
    order[5] = len(rest) + x
    return bpf.XDP_PASS


def check(obj):
    for text in (b"a1B2c3D4e5", b"zyx", b"az" * 30, b"  11" + b"CDEFGHIJKLMNOPQRSTUVWXYZ" * 2):
        for name in ("texts", "packed", "back"):
            setattr(obj.bss, name, [0] * len(getattr(obj.bss, name)))
        assert obj.main.run(text + bytes(64)).retval == 2
        padded = text.ljust(64, b"\0")
        assert bytes(obj.bss.texts) == padded and obj.bss.used == len(text)
        packed = bytes(x for x in padded[:18] if x > 64)[:16].ljust(16, b"\0")
        assert bytes(obj.bss.packed) == packed
        odd = bytes(x for x in packed[:8] if x & 1)
        assert bytes(obj.bss.back) == odd[::-1].rjust(16, b"\0")
        a, b, x, y = padded[:4]
        low, high = (a, b) if (a, x) <= (b, y) else (b, a)
        assert list(obj.bss.order) == [1, low * 256 + high, (a, b, x) > (a, b, y), 1, a * 100 + 27, 9]
