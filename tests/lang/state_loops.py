"""Programs whose loops change variables under conditions: the object of test_state_loops."""

from __future__ import annotations

from skep import bpf
from skep.bpf import s32, u32, u64

inp = bpf.Array(u64, 64)
out = bpf.Array(u64, 64)


@bpf.struct
class Table:
    v: list[u64] = bpf.array(u64, 64)
    w: list[u64] = bpf.array(u64, 64)
    text: bpf.Text = bpf.char(64)
    raw: bpf.Raw = bpf.raw(128)
    n: u32


rows = bpf.Array(Table, 4)


@bpf.xdp
def collected(ctx: bpf.Xdp) -> int:
    """Numbers above a limit, collected."""
    t = rows.lookup(0)
    if t is None:
        return 0
    n = 0
    for i in range(64):
        x = t.v[i]
        if x > 64:
            t.w[n] = x
            n += 1
    return n & 1


@bpf.xdp
def counters(ctx: bpf.Xdp) -> int:
    """Three counters, each under a condition."""
    t = rows.lookup(0)
    if t is None:
        return 0
    a = 0
    b = 0
    c = 0
    for i in range(64):
        x = t.v[i]
        if x > 64:
            a += 1
        elif x > 32:
            b += 1
        if x & 1 == 0:
            c += 1
    if a > b and b > c:
        return 2
    return 1


@bpf.xdp
def searches(ctx: bpf.Xdp) -> int:
    """Three searches one after the other."""
    t = rows.lookup(0)
    if t is None:
        return 0
    a = 0
    for i in range(64):
        if t.text[i] == 58:
            a = i
            break
    b = 0
    for i in range(64):
        if t.text[i] == 47:
            b = i
            break
    c = 0
    for i in range(128):
        if t.raw[i] == 32:
            c = i
            break
    if a < b:
        return t.raw[c] & 1
    return t.text[a] & 1


@bpf.xdp
def extremes(ctx: bpf.Xdp) -> int:
    """The least and the greatest, where the least is, and whether the greatest ever changed."""
    t = rows.lookup(0)
    if t is None:
        return 0
    lo = t.v[0]
    hi = t.v[0]
    at = 0
    seen = False
    for i in range(1, 64):
        x = t.v[i]
        if x < lo:
            lo = x
            at = i
        if x > hi:
            hi = x
            seen = True
    if seen and t.w[at] > hi - lo:
        return 1
    return 0


@bpf.xdp
def best(ctx: bpf.Xdp) -> int:
    """The best of inner loops, and a count over all of them."""
    t = rows.lookup(0)
    if t is None:
        return 0
    n = 0
    best = 0
    for i in range(16):
        k = 0
        for j in range(16):
            if t.v[(i * j) & 63] > t.w[j]:
                k += 1
                n += 1
        if k > best:
            best = k
            t.w[k] = n
    return best


@bpf.xdp
def words(ctx: bpf.Xdp) -> int:
    """Words of a text, and the longest."""
    t = rows.lookup(0)
    if t is None:
        return 0
    inside = False
    count = 0
    length = 0
    longest = 0
    for i in range(128):
        ch = t.raw[i]
        if ch == 0:
            break
        if ch == 32 or ch == 10:
            inside = False
            length = 0
        else:
            if not inside:
                count += 1
            inside = True
            length += 1
            if length > longest:
                longest = length
    if longest < 64:
        t.w[longest] = count
    return count & 1


@bpf.xdp
def collatz(ctx: bpf.Xdp) -> int:
    """As many turns as the number says."""
    x = inp[3] & 0xFFFF
    steps = 0
    for _ in range(100):
        if x == 1:
            break
        if x & 1:
            x = 3 * x + 1
        else:
            x = x >> 1
        steps += 1
    if steps < 64:
        out[steps] = x
    return steps & 1


@bpf.xdp
def copied(ctx: bpf.Xdp) -> int:
    """Two places that move each for itself."""
    t = rows.lookup(0)
    if t is None:
        return 0
    j = 0
    i = 0
    while i < 128 and j < 64:
        ch = t.raw[i]
        i += 1
        if ch == 37:
            i += 2
        t.text[j] = ch
        if ch > 32:
            j += 1
    return j & 1


@bpf.xdp
def lengths(ctx: bpf.Xdp) -> int:
    """Two lengths of texts."""
    t = rows.lookup(0)
    u = rows.lookup(1)
    if t is None or u is None:
        return 0
    a = len(t.text)
    b = len(u.text)
    if a > 0 and b > 0 and a < 64 and b < 64 and t.text[a - 1] == u.text[b - 1] and a > b:
        return 1
    return 0


@bpf.xdp
def primes(ctx: bpf.Xdp) -> int:
    """An inner loop that ends early."""
    t = rows.lookup(0)
    if t is None:
        return 0
    count = 0
    for i in range(2, 40):
        prime = True
        for j in range(2, 7):
            if j < i and i % j == 0:
                prime = False
                break
        if prime:
            t.w[count] = i
            count += 1
    return count


@bpf.xdp
def as_many(ctx: bpf.Xdp) -> int:
    """Two loops of as many turns as a number says, which bounds an index then."""
    t = rows.lookup(0)
    if t is None:
        return 0
    n = t.n
    if n > 64:
        return 0
    k = 0
    for i in range(n):
        if t.v[i] > 7:
            k += 1
    for i in range(n):
        if t.w[i] > 7:
            k += 1
    if n > 0 and k < 64:
        return (t.v[n - 1] + t.w[k]) & 1
    return 0


@bpf.xdp
def ranges(ctx: bpf.Xdp) -> int:
    """Tests of both ends of a range."""
    t = rows.lookup(0)
    if t is None:
        return 0
    n = t.n
    if 0 < n <= 8:
        t.v[n - 1] = 1
    m = inp[0]
    if 3 <= m < 12:
        t.v[m - 3] = 2
    k = s32(inp[1])
    if -4 <= k < 4:
        t.v[k + 4] = 1
    q = inp[2]
    if 10 <= q < 74:
        z = q - 10
        t.w[z] = 4
    if 0 < n < 9:
        y = n - 1
        t.w[y] = 3
    return 1


@bpf.xdp
def sorted_rows(ctx: bpf.Xdp) -> int:
    """A flag that ends the loop."""
    t = rows.lookup(0)
    if t is None:
        return 0
    for _ in range(12):
        swapped = False
        for j in range(11):
            if t.v[j] > t.v[j + 1]:
                t.v[j], t.v[j + 1] = t.v[j + 1], t.v[j]
                swapped = True
        if not swapped:
            break
    return 0
