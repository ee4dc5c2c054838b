# mypy: ignore-errors
from skep import bpf
from skep.bpf import be32, s64, u16, u32, u64


@bpf.struct
class V:
    lock: bpf.SpinLock
    a: u64
    b: u32


@bpf.struct
class P:
    x: u16
    y: u16


q = bpf.Queue(u32, 16)
st = bpf.Stack(P, 16)
bl = bpf.BloomFilter(u64, 1000, hashes=3)
stacks = bpf.StackTrace(1024, depth=32)
inner = bpf.Array(u64, 4)
inner2 = bpf.Array(u64, 4)
outer = bpf.ArrayOfMaps(bpf.Array(u64, 4), 2, initial=[inner, inner2])
houter = bpf.HashOfMaps(u32, bpf.Hash(u32, u64, max_entries=16), 8)
locked = bpf.Hash(u32, V)
lockarr = bpf.Array(V, 2)
pc = bpf.PerCpuArray(P, 4)
pch = bpf.PerCpuHash(u32, P)
lru = bpf.LruPerCpuHash(u64, u64, max_entries=64)
out = bpf.Array(s64, 64)
rb = bpf.RingBuf(P, 4096)
trie = bpf.LpmTrie(bpf.lpm(be32), u32)
v6trie = bpf.LpmTrie(bpf.lpm(bpf.raw(16)), P)


@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    for i in range(5):
        q.push(i * 10)
    out[0] = 1 if q.push(1) else 0
    v = q.pop()
    out[1] = v if v is not None else -1
    if (w := q.peek()) is not None:
        out[2] = w
    st.push(P(1, 2))
    st.push(P(3, 4))
    p = st.pop()
    if p:
        out[3] = p.x * 100 + p.y
    pp = st.peek()
    out[4] = pp.y if pp is not None else -1
    bl.push(77)
    bl.add(78)
    out[5] = (77 in bl) + (78 in bl) * 10
    a = outer.get(1)
    if a is not None:
        a[2] = 99
        a[2] += 1
        out[6] = a[2]
    h = houter.get(5)
    out[7] = -1 if h is None else h.get(1, 5)
    locked[1] = V(a=5)
    e = locked.get(1)
    if e is not None:
        with e.lock:
            e.a += 10
            e.b = e.a * 2
        out[8] = e.a
        out[9] = e.b
    with lockarr[0].lock:
        lockarr_total = 3
    out[10] = lockarr_total
    pc[1].x += 7
    pc[1] = P(pc[1].x, 5)
    out[11] = pc[1].x * 10 + pc[1].y
    pch[3] = P(8, 9)
    s = pch.lookup(3)
    if s:
        s.x += 1
        out[12] = s.x
    lru[5] += 3
    lru[5] += 4
    out[13] = lru.get(5, 0)
    trie[bpf.lpm(be32)(8, 0x0A000000)] = 8
    trie[(24, 0x0A010200)] = 24
    out[14] = trie.get(0x0A010203, 0)
    out[15] = trie.get(0x0A999999 & 0xFFFFFFFF, 0)
    out[16] = 1 if 0x0B000000 in trie else 0
    rb.output(P(1, 2))
    with rb.reserve() as r:
        r.x = 5
    out[17] = rb.query(bpf.BPF_RB_AVAIL_DATA)
    out[18] = locked.delete(1)
    out[19] = locked.delete(1)
    out[20] = locked.update(9, V(a=1), bpf.BPF_EXIST)
    out[21] = locked.insert(9, V(a=1))
    out[22] = locked.insert(9, V(a=1))
    del locked[9]
    out[23] = 9 in locked
    addr = bpf.raw(16)
    x = v6trie.get(addr)
    out[24] = 0 if x is None else 1
    return bpf.XDP_PASS


def check(obj):
    r = obj.main.run(bytes(64))
    assert r.retval == 2
    got = [obj.out[i] for i in range(25)]
    assert got == [1, 0, 10, 304, 2, 11, 100, -1, 15, 30, 3, 75, 9, 7, 24, 8, 0, 32, 1, 0, -2, 1, 0, 0, 0]
