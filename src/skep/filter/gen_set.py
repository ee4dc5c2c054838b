"""Opt-in: `host in FILE`, `net in FILE`: any of many addresses and networks, found by binary search.

The search compares the address, once loaded, with the middle of what is left; 100,000 addresses take
seventeen comparisons. An IPv6 address is searched word by word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from skep.errors import FilterSyntaxError
from skep.filter import gen_link as link
from skep.filter.addresses import ipv4, ipv6
from skep.filter.emit import (
    ADD_X,
    JEQ,
    JGE,
    JGT,
    LD_IMM,
    LD_IND,
    LDX_MEM,
    LINKPL,
    MASK32,
    Cond,
    Emitter,
    both,
    either,
    refused,
)
from skep.filter.gen_ip import Qual
from skep.filter.ir import Block, Stmt
from skep.isa.classic import BPF_ST, BPF_W

#: (first, last) addresses, both included.
Range = tuple[int, int]
#: Characters of a set: a million addresses have fewer.
_MOST: Final = 64 << 20
_DIRECTIONS: Final = (None, "src", "dst", "src or dst", "src and dst")


def read(path: str) -> tuple[list[Range], list[Range]]:
    """IPv4 and IPv6 ranges of a file, sorted and merged: an address or CIDR network a line, # comments.

    Raises:
        FilterSyntaxError: the file cannot be read or a line is no address.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refused(f"cannot read {path}: {reason}") from None
    if len(text) > _MOST:
        raise refused(f"{path} is larger than {_MOST >> 20} MiB")
    lines = text.split("\n")
    fours: list[Range] = []
    sixes: list[Range] = []
    for number, line in enumerate(lines, 1):
        word = line.partition("#")[0].strip()
        if word:
            (sixes if ":" in word else fours).append(_range(path, number, word))
    if not fours and not sixes:
        raise refused(f"{path} holds no address")
    return _merged(fours), _merged(sixes)


def _range(path: str, line: int, word: str) -> Range:
    """One line: 10.1.2.3, 10.1/16, 2001:db8::/32."""
    text, slash, length = word.partition("/")
    width = 128 if ":" in text else 32
    if width == 128:
        address = ipv6(text)
    else:
        parsed = ipv4(text) if text else None
        # Only a network may leave octets out.
        usable = parsed is not None and (parsed[1] == 32 or (slash and parsed[1] < 32))
        address = parsed[0] << 32 - parsed[1] if parsed is not None and usable else None
    bits = width
    problem = None
    if address is None:
        problem = "is no IPv4 or IPv6 address or network"
    elif slash:
        if length.isascii() and length.isdigit() and len(length) < 4 and int(length) <= width:
            bits = int(length)
            if address & (1 << width - bits) - 1:
                problem = "has host bits set"
        else:
            problem = f"needs a prefix length up to {width}"
    if problem is not None or address is None:
        shown = word if len(word) <= 60 else word[:60] + "..."
        raise FilterSyntaxError(f"{shown} {problem}", file=path, line=line, column=0, end_column=len(word))
    return address, address | (1 << width - bits) - 1


def _merged(ranges: list[Range]) -> list[Range]:
    """Sorted, without overlaps, and neighbours joined."""
    out: list[Range] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            if last > out[-1][1]:
                out[-1] = out[-1][0], last
        else:
            out.append((first, last))
    return out


def from_file(g: Emitter, path: str, qual: Qual) -> Cond:
    """The source or destination (as ``qual`` says) is in the file."""
    over, dir = qual.proto, qual.dir
    if over not in (None, "ip", "arp", "rarp", "ip6"):
        raise refused(f"{over!r} has no addresses that a file could hold", "ip, arp, rarp or ip6")
    if dir not in _DIRECTIONS:
        raise refused(f"{dir!r} is for 802.11 hardware addresses, not for IP addresses")
    fours, sixes = read(path)
    cond: Cond | None = None
    if fours and over != "ip6":
        cond = _in_ipv4(g, fours, over, dir)
    if sixes and over in (None, "ip6"):
        six = _in_ipv6(g, sixes, dir)
        cond = six if cond is None else either(cond, six)
    return g.false() if cond is None else cond


def _combine(dir: str | None, src: Callable[[], Cond], dst: Callable[[], Cond]) -> Cond:
    if dir == "src" or dir == "dst":
        return src() if dir == "src" else dst()
    first = src()
    return (both if dir == "src and dst" else either)(first, dst())


def _in_ipv4(g: Emitter, ranges: list[Range], over: str | None, dir: str | None) -> Cond:
    """IPv4, ARP and RARP keep addresses at different places; one search serves all three.

    Scratch registers hold where the addresses are.
    """
    protocols = {
        "ip": (link.IP, 12, 16),
        "arp": (link.ARP, 14, 24),
        "rarp": (link.REVARP, 14, 24),
    }
    wanted = [over] if over else ["ip"] if g.labels else ["ip", "arp", "rarp"]
    at = g.alloc()
    net = g.payload.const + g.net & MASK32

    def load(stmts: list[Stmt]) -> list[Stmt]:
        return [*stmts, Stmt(LDX_MEM, at), Stmt(LD_IND | BPF_W, net)]

    carried: Cond | None = None
    entries: list[Block] = []
    for name in wanted:
        etype, src, dst = protocols[name]
        is_it = link.linktype(g, etype)
        entry = Block(_note(g, at, dst if dir == "dst" else src), JEQ, 0)
        is_it = both(is_it, Cond(entry, [(entry, True), (entry, False)], []))
        entries.append(entry)
        carried = is_it if carried is None else either(carried, is_it)
    assert carried is not None
    if dir == "src" or dir == "dst":
        cond = both(carried, _search(ranges, 32, lambda _: load([])))
    else:
        second = g.alloc()
        for name, entry in zip(wanted, entries, strict=True):
            entry.stmts += _note(g, second, protocols[name][2])
        first = _search(ranges, 32, lambda _: load([]))
        other = _search(ranges, 32, lambda _: [Stmt(LDX_MEM, second), Stmt(LD_IND | BPF_W, net)])
        cond = both(carried, both(first, other) if dir == "src and dst" else either(first, other))
        g.free(second)
    g.free(at)
    return cond


def _note(g: Emitter, reg: int, offset: int) -> list[Stmt]:
    """Scratch register = offset of an address, with the variable part of where its header starts."""
    stmts = [Stmt(LD_IMM, offset)]
    if g.payload.variable:
        stmts += (*g.varpart(g.payload), Stmt(ADD_X))
    return [*stmts, Stmt(BPF_ST, reg)]


def _in_ipv6(g: Emitter, ranges: list[Range], dir: str | None) -> Cond:
    carried = link.linktype(g, link.IPV6)

    def at(offset: int) -> Cond:
        return _search(ranges, 128, lambda word: g.load(LINKPL, offset + 4 * word, BPF_W))

    return both(carried, _combine(dir, lambda: at(8), lambda: at(24)))


def _search(ranges: list[Range], bits: int, load: Callable[[int], list[Stmt]], word: int = 0) -> Cond:
    """The address is in one of ``ranges``: ``bits`` long, from ``word`` on, which ``load(word)`` loads."""
    shift = bits - 32
    low = (1 << shift) - 1
    # What the first word alone decides: (from, to, None), or (word, word, ranges of the rest).
    items: list[tuple[int, int, list[Range] | None]] = []

    def partial(value: int, rest: Range) -> None:
        if items and items[-1][0] == value and items[-1][2] is not None:
            items[-1][2].append(rest)
        else:
            items.append((value, value, [rest]))

    for first, last in ranges:
        begin, end = first >> shift, last >> shift
        head, tail = first & low, last & low
        if begin == end and (head or tail != low):
            partial(begin, (head, tail))
            continue
        if head:
            partial(begin, (head, low))
            begin += 1
        whole_end = end if tail == low else end - 1
        if begin <= whole_end:
            items.append((begin, whole_end, None))
        if tail != low:
            partial(end, (0, tail))
    true: list[tuple[Block, bool]] = []
    false: list[tuple[Block, bool]] = []
    root = _tree(items, 0, len(items), 0, true, false, lambda rest: _search(rest, shift, load, word + 1))
    root.stmts = load(word) + root.stmts
    return Cond(root, true, false)


def _tree(
    items: list[tuple[int, int, list[Range] | None]],
    start: int,
    stop: int,
    known: int,
    true: list[tuple[Block, bool]],
    false: list[tuple[Block, bool]],
    deeper: Callable[[list[Range]], Cond],
) -> Block:
    """Search among items[start:stop] for A, which is at least ``known``. Depth: logarithmic."""
    if stop - start > 1:
        middle = (start + stop) // 2
        edge = items[middle][0]
        block = Block([], JGE, edge)
        block.jt = _tree(items, middle, stop, edge, true, false, deeper)
        block.jf = _tree(items, start, middle, known, true, false, deeper)
        return block
    first, last, rest = items[start]
    if rest is not None:
        block = Block([], JEQ, first)
        inner = deeper(rest)
        block.jt = inner.head
        true += inner.true
        false += inner.false
        false.append((block, False))
        return block
    if first == last:
        block = Block([], JEQ, first)
        true.append((block, True))
        false.append((block, False))
        return block
    top = Block([], JGT, last)
    false.append((top, True))
    true.append((top, False))
    if first <= known:
        return top
    bottom = Block([], JGE, first, top)
    false.append((bottom, False))
    return bottom
