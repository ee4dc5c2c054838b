"""Packets that take both sides of every branch of a classic program, and comparing two programs on them.

Random packets hardly ever get past an EtherType test. Here a program is run on a packet while it is noted
which packet bytes each tested value was made of; then the packet is changed so that the test comes out the
other way, and at the limits of its constant, and the new packets are followed in turn.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from skep.isa import classic as c
from skep.vm import classic as machine
from tests.support import libpcap

Program = Sequence[tuple[int, int, int, int]]
Verdict = Callable[[bytes, int], int]
#: where a value came from: None for a constant, else a nested tuple
Origin = Any

_MASK = 0xFFFFFFFF
_SIZES = {c.BPF_W: 4, c.BPF_H: 2, c.BPF_B: 1}
_TIMES = 3  # packets from which each way into the program is varied
_LENGTHS = 4096  # the longest packet made


class Packet(NamedTuple):
    """Captured bytes, and the length on the wire in bytes."""

    data: bytes
    wirelen: int


class Difference(NamedTuple):
    """A packet on which two programs disagree."""

    packet: Packet
    left: int
    right: int

    def __str__(self) -> str:
        return f"{self.left} and {self.right} for {self.packet.data.hex()} (wire {self.packet.wirelen})"


class _Branch(NamedTuple):
    """A test, or (``code`` -1) an index or divisor, which can make the program end here."""

    pc: int
    code: int
    taken: bool
    a: int
    a_origin: Origin
    operand: int
    operand_origin: Origin


class Trace(NamedTuple):
    """One run: the branches, its result, and ``fell``: whether it read outside the packet or a word of M[]
    that it never set (which libpcap leaves to chance).
    """

    branches: list[_Branch]
    fell: bool
    result: int


def seed(default: int) -> int:
    """The seed of generated tests: SKEP_SEED, or ``default``. Print it."""
    return int(os.environ.get("SKEP_SEED", default))


def trace(program: Program, packet: Packet, limit: int = 20_000) -> Trace:
    """Run a program with libpcap's rules, noting where tested values come from."""
    data, wirelen = packet
    a = x = pc = 0
    ao: Origin = None
    xo: Origin = None
    mem: dict[int, tuple[int, Origin]] = {}
    branches: list[_Branch] = []
    for _ in range(limit):
        code, jt, jf, k = program[pc]
        pc += 1
        kind = code & 7
        if kind in (c.BPF_LD, c.BPF_LDX):
            mode = code & 0xE0
            value: int
            origin: Origin
            if mode in (c.BPF_ABS, c.BPF_IND):
                size = _SIZES[code & 0x18]
                start = k if mode == c.BPF_ABS else k + x
                if mode == c.BPF_IND and xo is not None:
                    branches.append(_Branch(pc - 1, -1, False, x, xo, len(data) - k - size, None))
                if start + size > len(data):
                    return Trace(branches, True, 0)
                value, origin = int.from_bytes(data[start : start + size], "big"), ("load", start, size)
            elif mode == c.BPF_MSH:
                if k >= len(data):
                    return Trace(branches, True, 0)
                value, origin = (data[k] & 15) << 2, ("msh", k)
            elif mode == c.BPF_LEN:
                value, origin = wirelen, ("len",)
            elif mode == c.BPF_MEM:
                if k not in mem:
                    return Trace(branches, True, 0)
                value, origin = mem[k]
            else:
                value, origin = k, None
            if kind == c.BPF_LD:
                a, ao = value, origin
            else:
                x, xo = value, origin
        elif kind == c.BPF_ST:
            mem[k] = (a, ao)
        elif kind == c.BPF_STX:
            mem[k] = (x, xo)
        elif kind == c.BPF_ALU:
            b, bo = (x, xo) if code & c.BPF_X else (k, None)
            op = code & 0xF0
            if op in (c.BPF_DIV, c.BPF_MOD):
                if bo is not None:
                    branches.append(_Branch(pc - 1, -1, False, b, bo, 0, None))
                if b == 0:
                    return Trace(branches, False, 0)
            ao = None if ao is None and bo is None else (op, a, ao, b, bo)
            a = arithmetic(op, a, b)
        elif kind == c.BPF_JMP:
            if code == c.BPF_JMP | c.BPF_JA:
                pc += k - (1 << 32) if k >> 31 else k
                continue
            b, bo = (x, xo) if code & c.BPF_X else (k, None)
            taken = holds(code & 0xF0, a, b)
            branches.append(_Branch(pc - 1, code, taken, a, ao, b, bo))
            pc += jt if taken else jf
        elif kind == c.BPF_RET:
            source = code & 0x18
            return Trace(branches, False, k if source == 0 else a if source == c.BPF_A else x)
        elif code == c.BPF_MISC | c.BPF_TAX:
            x, xo = a, ao
        else:
            a, ao = x, xo
    raise AssertionError(f"no end after {limit} instructions")


def arithmetic(op: int, a: int, b: int) -> int:
    """Unsigned 32-bit arithmetic, for a divisor other than zero."""
    results: dict[int, Callable[[], int]] = {
        c.BPF_ADD: lambda: a + b,
        c.BPF_SUB: lambda: a - b,
        c.BPF_MUL: lambda: a * b,
        c.BPF_DIV: lambda: a // b,
        c.BPF_MOD: lambda: a % b,
        c.BPF_AND: lambda: a & b,
        c.BPF_OR: lambda: a | b,
        c.BPF_XOR: lambda: a ^ b,
        c.BPF_LSH: lambda: a << b if b < 32 else 0,
        c.BPF_RSH: lambda: a >> b if b < 32 else 0,
        c.BPF_NEG: lambda: -a,
    }
    return results[op]() & _MASK


def holds(op: int, a: int, b: int) -> bool:
    """Whether a jump's test is true."""
    if op == c.BPF_JEQ:
        return a == b
    if op == c.BPF_JGT:
        return a > b
    return a >= b if op == c.BPF_JGE else bool(a & b)


def solve(origin: Origin, want: int, data: bytearray, wirelen: list[int]) -> bool:
    """Change the packet so that the value with this origin becomes ``want``; False where that fails."""
    if origin is None:
        return False
    kind = origin[0]
    if kind == "load":
        _, start, size = origin
        if want >> 8 * size:
            return False
        data[start : start + size] = want.to_bytes(size, "big")
        return True
    if kind == "msh":
        if want & ~60:
            return False
        data[origin[1]] = data[origin[1]] & 0xF0 | want >> 2
        return True
    if kind == "len":
        if want > 0x7FFFFFFF:
            return False
        wirelen[0] = want
        return True
    op, a, ao, b, bo = origin
    if ao is not None:
        back = _inverse(op, want, a, b)
        if back is not None and solve(ao, back, data, wirelen):
            return True
    if bo is not None:
        if op in (c.BPF_ADD, c.BPF_XOR):
            return solve(bo, arithmetic(c.BPF_SUB if op == c.BPF_ADD else op, want, a), data, wirelen)
        if op == c.BPF_SUB:
            return solve(bo, (a - want) & _MASK, data, wirelen)
        if op in (c.BPF_AND, c.BPF_OR, c.BPF_MUL):
            back = _inverse(op, want, b, a)
            return back is not None and solve(bo, back, data, wirelen)
    return False


def _inverse(op: int, want: int, a: int, b: int) -> int | None:
    """A left operand that gives ``want`` with the right operand ``b``, near its present value ``a``."""
    if op == c.BPF_AND:
        return (a & ~b) | want if not want & ~b else None
    if op == c.BPF_OR:
        return want if want & b == b else None
    if op == c.BPF_ADD:
        return (want - b) & _MASK
    if op == c.BPF_SUB:
        return (want + b) & _MASK
    if op == c.BPF_XOR:
        return want ^ b
    if op == c.BPF_NEG:
        return -want & _MASK
    if op == c.BPF_MUL:
        return want // b if b and want % b == 0 else None
    if op == c.BPF_DIV:
        return want * b if want * b <= _MASK else None
    if op == c.BPF_MOD:
        return want if want < b else None
    if op == c.BPF_RSH:
        return want << b | a & (1 << b) - 1 if b < 32 and want << b <= _MASK else None
    if op == c.BPF_LSH:
        return want >> b if b < 32 and not want & (1 << b) - 1 else None
    return None


def _wanted(branch: _Branch, rng: random.Random) -> Iterator[int]:
    """Values of A that put the test to the proof: both outcomes, and the limits of the constant."""
    k = branch.operand
    if branch.code < 0:
        yield from (0, 1, 4, 20, 60, max(0, k), max(0, k + 1), rng.randrange(max(1, k) + 1))
        return
    op = branch.code & 0xF0
    if op == c.BPF_JSET:
        low, high = k & -k, 1 << k.bit_length() - 1 if k else 0
        for bits in (0, low, high, k, k & rng.getrandbits(32)):
            yield (branch.a & ~k) | bits
        yield from (0, k, ~k & _MASK)
        for _ in range(4):  # one bit of the mask, and noise around it
            yield (branch.a & ~k) | k & (1 << rng.randrange(max(1, k.bit_length())))
    else:
        yield from (k, k + 1 & _MASK, k - 1 & _MASK)
        yield k ^ 1 << rng.randrange(max(1, k.bit_length()))
        yield rng.getrandbits(max(1, k.bit_length()))
        if op != c.BPF_JEQ:
            yield from (0, _MASK >> rng.choice((0, 16, 24)))


def reach(programs: Iterable[Program]) -> int:
    """How many bytes a packet needs so that every load at a fixed place, and usual others, are in it."""
    need, indexed = 0, False
    for program in programs:
        for code, _, _, k in program:
            if code & 7 in (c.BPF_LD, c.BPF_LDX) and code & 0xE0 in (c.BPF_ABS, c.BPF_IND, c.BPF_MSH):
                if k < _LENGTHS:
                    need = max(need, k + 4)
                indexed = indexed or code & 0xE0 == c.BPF_IND
    return min(_LENGTHS, max(64, need + (140 if indexed else 8)))


def explore(program: Program, rng: random.Random, limit: int, length: int) -> list[Packet]:
    """Up to ``limit`` packets that lead down different ways through the program."""
    usual: deque[Packet] = deque(Packet(data, length) for data in _starts(program, rng, length))
    first: deque[Packet] = deque()  # packets meant for a side not taken so far
    sides: set[tuple[int, bool]] = set()
    prefixes: dict[int, int] = {}
    found: dict[Packet, None] = {}
    while (first or usual) and len(found) < limit:
        packet = (first or usual).popleft()
        if packet in found:
            continue
        found[packet] = None
        way = 0
        for branch in trace(program, packet).branches:
            sides.add((branch.pc, branch.taken))
            way = hash((way, branch.pc))
            times = prefixes.get(way, 0)
            if times < _TIMES:
                prefixes[way] = times + 1
                for want in _wanted(branch, rng):
                    data, wirelen = bytearray(packet.data), [packet.wirelen]
                    if not solve(branch.a_origin, want, data, wirelen) and not (
                        branch.a_origin is None and solve(branch.operand_origin, want, data, wirelen)
                    ):
                        continue
                    taken = branch.code >= 0 and holds(branch.code & 0xF0, want, branch.operand)
                    new = branch.code >= 0 and (branch.pc, taken) not in sides
                    (first if new else usual).append(Packet(bytes(data), wirelen[0]))
            way = hash((way, branch.taken))
    return list(found)


def _starts(program: Program, rng: random.Random, length: int) -> Iterator[bytes]:
    """Noise, ones and zeros; header lengths are those of a header without options, in some of them."""
    lengths = {k for code, _, _, k in program if code == c.BPF_LDX | c.BPF_MSH | c.BPF_B and k < length}
    for base in (rng.randbytes(length), rng.randbytes(length), bytes([255]) * length, bytes(length)):
        data = bytearray(base)
        for k in lengths:
            data[k] = data[k] & 0xF0 | 5
        yield bytes(data)
    if lengths:
        yield bytes(length)
        yield rng.randbytes(length)


def packets(programs: Sequence[Program], number: int, limit: int = 300) -> list[Packet]:
    """Whole packets directed at all the programs; ``number`` is the seed, ``limit`` for each program."""
    rng = random.Random(number)
    length = reach(programs)
    found: dict[Packet, None] = {}
    for program in programs:
        found.update(dict.fromkeys(explore(program, rng, limit, length)))
    return list(found)


def truncations(packet: Packet, programs: Sequence[Program]) -> Iterator[Packet]:
    """The packet cut off before and within every field that a program loads from a fixed place."""
    cuts: set[int] = {0}
    for program in programs:
        for code, _, _, k in program:
            if code & 7 in (c.BPF_LD, c.BPF_LDX) and code & 0xE0 in (c.BPF_ABS, c.BPF_IND, c.BPF_MSH):
                size = _SIZES.get(code & 0x18, 1)
                cuts |= {k, k + size - 1, k + size}
    for cut in sorted(cuts):
        if cut < len(packet.data):
            yield Packet(packet.data[:cut], packet.wirelen)


def by_libpcap(program: Program) -> Verdict:
    """libpcap's own interpreter."""
    return libpcap.Filter(program)


def by_skep(program: Program) -> Verdict:
    """`skep.vm.classic`."""
    return lambda data, wirelen: machine.run(program, data, wirelen)


def compare(
    left: Program,
    right: Program,
    number: int,
    *,
    limit: int = 300,
    run_left: Callable[[Program], Verdict] = by_libpcap,
    run_right: Callable[[Program], Verdict] = by_skep,
    cut: bool = False,
) -> Difference | None:
    """The first packet on which two programs disagree, None when they agree on all that were tried.

    ``left`` is the reference. Packets on which it reads outside the packet (or a word never set) are left
    out unless ``cut``: optimised code may do without such a load. With ``cut`` truncated packets are tried
    as well.
    """
    verdict_left, verdict_right = run_left(left), run_right(right)
    for whole in packets([left, right], number, limit):
        for packet in [whole, *truncations(whole, [left, right])] if cut else [whole]:
            mine, other = verdict_left(*packet), verdict_right(*packet)
            if mine != other and (cut or not trace(left, packet).fell):
                return Difference(packet, mine, other)
    return None
