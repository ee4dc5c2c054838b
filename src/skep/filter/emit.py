"""State of the code generator, and the tests everything else is made of.

A `Cond` is an unfinished piece of graph: its first block, and the sides of its blocks that are still
open, those taken when the expression is true and those taken when it is false. The blocks, their
statements and the scratch registers come in libpcap's order, so the listings are the same.
"""

from __future__ import annotations

from typing import Any, Final

from skep.errors import FilterSyntaxError
from skep.filter import linktypes as lt
from skep.filter.ir import Block, Stmt
from skep.filter.names import Names
from skep.isa.classic import (
    BPF_ABS,
    BPF_ADD,
    BPF_ALU,
    BPF_AND,
    BPF_B,
    BPF_H,
    BPF_IMM,
    BPF_IND,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JMP,
    BPF_JSET,
    BPF_K,
    BPF_LD,
    BPF_LDX,
    BPF_LSH,
    BPF_MEM,
    BPF_MEMWORDS,
    BPF_MISC,
    BPF_MSH,
    BPF_TAX,
    BPF_W,
    BPF_X,
)

MASK32: Final = 0xFFFFFFFF

# What an offset counts from.
PACKET: Final = "packet"
LINKHDR: Final = "link-layer header"
PREVLINKHDR: Final = "link-layer header around this one"
LLC: Final = "link-layer payload, with LLC"
PREVMPLS: Final = "MPLS header before"
LINKTYPE: Final = "packet type"
LINKPL: Final = "network header"
NOSNAP: Final = "network header without SNAP"
TRAN4: Final = "transport header over IPv4"
TRAN6: Final = "transport header over IPv6"

JEQ: Final = BPF_JMP | BPF_JEQ | BPF_K
JGT: Final = BPF_JMP | BPF_JGT | BPF_K
JGE: Final = BPF_JMP | BPF_JGE | BPF_K
JSET: Final = BPF_JMP | BPF_JSET | BPF_K
JEQ_X: Final = BPF_JMP | BPF_JEQ | BPF_X
LD_ABS: Final = BPF_LD | BPF_ABS
LD_ABS_H: Final = LD_ABS | BPF_H
LD_ABS_W: Final = LD_ABS | BPF_W
LD_IND: Final = BPF_LD | BPF_IND
LD_IMM: Final = BPF_LD | BPF_IMM
LD_MEM: Final = BPF_LD | BPF_MEM
LDX_MEM: Final = BPF_LDX | BPF_MEM
LDX_IMM: Final = BPF_LDX | BPF_IMM
TAX: Final = BPF_MISC | BPF_TAX
AND_K: Final = BPF_ALU | BPF_AND | BPF_K
ADD_K: Final = BPF_ALU | BPF_ADD | BPF_K
ADD_X: Final = BPF_ALU | BPF_ADD | BPF_X


class Cond:
    """``head`` is where to enter; ``true`` and ``false`` are open ends: a block, and True for its jt."""

    __slots__ = ("false", "head", "true")

    def __init__(self, head: Block, true: list[tuple[Block, bool]], false: list[tuple[Block, bool]]) -> None:
        self.head = head
        self.true = true
        self.false = false


def test(stmts: list[Stmt], code: int, k: int) -> Cond:
    """One block that ends in a conditional jump."""
    block = Block(stmts, code, k & MASK32)
    return Cond(block, [(block, True)], [(block, False)])


def close(ends: list[tuple[Block, bool]], target: Block) -> None:
    """Lead open ends to ``target``."""
    for block, side in ends:
        if side:
            block.jt = target
        else:
            block.jf = target


def both(a: Cond, b: Cond) -> Cond:
    """``a and b``: b is entered when a is true. Uses up both."""
    close(a.true, b.head)
    # The longer list takes the shorter one, or deep nesting would be quadratic.
    if len(a.false) > len(b.false):
        a.false += b.false
        b.false = a.false
    else:
        b.false += a.false
    b.head = a.head
    return b


def either(a: Cond, b: Cond) -> Cond:
    """``a or b``: b is entered when a is false. Uses up both."""
    close(a.false, b.head)
    if len(a.true) > len(b.true):
        a.true += b.true
        b.true = a.true
    else:
        b.true += a.true
    b.head = a.head
    return b


def negate(a: Cond) -> Cond:
    """``not a``, in place."""
    a.true, a.false = a.false, a.true
    return a


class Offset:
    """A place in the packet: ``const`` bytes, plus what scratch register ``reg`` holds when ``variable``.

    ``reg`` is -1 until the first use asks for a register.
    """

    __slots__ = ("const", "reg", "variable")

    def __init__(self, const: int = 0, variable: bool = False, reg: int = -1) -> None:
        self.const = const
        self.variable = variable
        self.reg = reg

    def copy(self) -> Offset:
        return Offset(self.const, self.variable, self.reg)


def refused(reason: str, hint: str | None = None) -> FilterSyntaxError:
    """The expression is refused; the parser adds where. Names of any length may be in ``reason``."""
    return FilterSyntaxError(_clipped(reason), hint=None if hint is None else _clipped(hint))


def _clipped(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:120]}...{text[-60:]}"


class Emitter:
    """What the code generated so far has assumed about the packet, and the generators of single tests."""

    def __init__(
        self,
        linktype: int,
        *,
        names: Names,
        netmask: int | None = None,
        live: bool = False,
        savefile: bool = False,
        swapped: bool = False,
        ipv6_transport: bool = False,
        scoped: bool = False,
    ) -> None:
        layout = lt.layout(linktype)
        if layout is None:
            raise refused(f"link type {linktype} is not one that filters are compiled for")
        self.names = names
        self.netmask = netmask
        self.live = live
        self.savefile = savefile
        self.swapped = swapped
        self.ipv6_transport = ipv6_transport
        #: What tunnels move ends with the parenthesis around them.
        self.scoped = scoped
        #: Code that must stay as it is (loops, jumps inside a block).
        self.fixed = False

        self.outermost = self.prevlinktype = self.linktype = linktype
        header = Offset(lt.HEADER_AT.get(linktype, 0), linktype in lt.WIRELESS and linktype != lt.IEEE802_11)
        self.linkhdr = header
        self.prevlinkhdr = header.copy()
        self.outermost_linkhdr = header.copy()
        self.type_at = Offset(layout.type)
        self.payload = Offset(layout.payload, linktype in lt.WIRELESS or linktype == lt.PFLOG)
        # The outermost headers' own, whatever tunnels put in their place later.
        self.outer_linkhdr = self.linkhdr
        self.outer_payload = self.payload
        self.outer_type_at = self.type_at
        self.net = layout.net
        self.net_nosnap = layout.net_nosnap
        self.atm = linktype == lt.SUNATM
        self.in_overlay = False  # behind geneve or vxlan: the inner packet may have no Ethernet header
        self.vlan_in_metadata = False
        #: Scratch registers that must be 0 where nothing has set them.
        self.zeroed: list[int] = []
        #: Scratch registers that only some ways through the program set, and what they should hold on others.
        self.unset: dict[int, int] = {}
        self.labels = 0
        self.vlans = 0
        self._used = [False] * BPF_MEMWORDS
        self._next = 0

    # --- scratch registers ---------------------------------------------------------------------

    def alloc(self) -> int:
        """A free scratch register, the next one round the ring."""
        for _ in range(BPF_MEMWORDS):
            if not self._used[self._next]:
                self._used[self._next] = True
                return self._next
            self._next = (self._next + 1) % BPF_MEMWORDS
        raise refused("too many scratch registers: classic BPF has 16", "split the arithmetic")

    def free(self, reg: int) -> None:
        self._used[reg] = False

    # --- scopes --------------------------------------------------------------------------------

    def place(self) -> tuple[Any, ...]:
        """Where headers are now, for `return_to`."""
        offsets = (self.linkhdr, self.prevlinkhdr, self.type_at, self.payload)
        return (
            (self.linktype, self.prevlinktype, self.net, self.net_nosnap),
            (self.in_overlay, self.labels, self.vlans),
            [(offset, offset.const, offset.variable) for offset in offsets],
        )

    def return_to(self, place: tuple[Any, ...]) -> None:
        """Take back what tunnels have moved since `place`."""
        inner = (self.linkhdr, self.prevlinkhdr, self.type_at, self.payload)
        (self.linktype, self.prevlinktype, self.net, self.net_nosnap) = place[0]
        (self.in_overlay, self.labels, self.vlans) = place[1]
        for offset, const, variable in place[2]:
            offset.const, offset.variable = const, variable
        self.linkhdr, self.prevlinkhdr, self.type_at, self.payload = (entry[0] for entry in place[2])
        # Registers of inner headers are free again, but for those the outer ones share.
        kept = {entry[0].reg for entry in place[2]}
        for offset in inner:
            if offset.reg != -1 and offset.reg not in kept:
                self.free(offset.reg)

    # --- loads ---------------------------------------------------------------------------------

    def varpart(self, base: Offset) -> list[Stmt]:
        """X = the variable part of an offset; nothing for a constant one."""
        if not base.variable:
            return []
        if base.reg == -1:
            base.reg = self.alloc()
        return [Stmt(LDX_MEM, base.reg)]

    def load_at(self, base: Offset, off: int, size: int) -> list[Stmt]:
        """A = ``size`` at ``base`` + ``off``."""
        if base.variable:
            return [*self.varpart(base), Stmt(LD_IND | size, (base.const + off) & MASK32)]
        return [Stmt(LD_ABS | size, (base.const + off) & MASK32)]

    def load(self, rel: str, off: int, size: int) -> list[Stmt]:
        """A = ``size`` (BPF_B, _H, _W) at ``off`` bytes into what ``rel`` names."""
        if rel is LINKPL:
            return self.load_at(self.payload, self.net + off, size)
        if rel is LINKTYPE:
            return self.load_at(self.type_at, off, size)
        if rel is TRAN4:
            stmts = self.load_ip_header_length()
            stmts.append(Stmt(LD_IND | size, (self.payload.const + self.net + off) & MASK32))
            return stmts
        if rel is TRAN6:
            return self.load_at(self.payload, self.net + 40 + off, size)
        if rel is LINKHDR:
            return self.load_at(self.linkhdr, off, size)
        if rel is LLC:
            return self.load_at(self.payload, off, size)
        if rel is NOSNAP:
            return self.load_at(self.payload, self.net_nosnap + off, size)
        if rel is PREVMPLS:
            return self.load_at(self.payload, self.net - 4 + off, size)
        if rel is PREVLINKHDR:
            return self.load_at(self.prevlinkhdr, off, size)
        assert rel is PACKET, rel
        return [Stmt(LD_ABS | size, off & MASK32)]

    def load_ip_header_length(self) -> list[Stmt]:
        """X = length of the IPv4 header, plus the variable part of where it starts."""
        at = (self.payload.const + self.net) & MASK32
        if not self.payload.variable:
            return [Stmt(BPF_LDX | BPF_MSH | BPF_B, at)]
        return [
            *self.varpart(self.payload),
            Stmt(LD_IND | BPF_B, at),
            Stmt(AND_K, 0xF),
            Stmt(BPF_ALU | BPF_LSH | BPF_K, 2),
            Stmt(ADD_X),
            Stmt(TAX),
        ]

    # --- comparisons ---------------------------------------------------------------------------

    def equal(self, rel: str, off: int, size: int, value: int, mask: int = MASK32) -> Cond:
        """field & mask == value."""
        stmts = self.load(rel, off, size)
        if mask != MASK32:
            stmts.append(Stmt(AND_K, mask))
        return test(stmts, JEQ, value)

    def compare(self, rel: str, off: int, size: int, mask: int, jump: int, reverse: bool, value: int) -> Cond:
        """field & mask, ``jump`` (BPF_JEQ, _JGT, _JGE), value. ``reverse`` negates all but equality."""
        stmts = self.load(rel, off, size)
        if mask != MASK32:
            stmts.append(Stmt(AND_K, mask))
        cond = test(stmts, BPF_JMP | BPF_K | jump, value)
        return negate(cond) if reverse and jump != BPF_JEQ else cond

    def greater(self, rel: str, off: int, size: int, value: int) -> Cond:
        return test(self.load(rel, off, size), JGT, value)

    def at_least(self, rel: str, off: int, size: int, value: int) -> Cond:
        return test(self.load(rel, off, size), JGE, value)

    def at_most(self, rel: str, off: int, size: int, value: int) -> Cond:
        return negate(self.greater(rel, off, size, value))

    def bits(self, rel: str, off: int, size: int, bits: int) -> Cond:
        """Any of ``bits`` is set."""
        return test(self.load(rel, off, size), JSET, bits)

    def octets(self, rel: str, off: int, value: bytes) -> Cond:
        """Bytes at ``off`` are ``value``: words first, from the end."""
        cond: Cond | None = None
        end = len(value)
        for width, size in ((4, BPF_W), (2, BPF_H), (1, BPF_B)):
            while end >= width:
                end -= width
                part = self.equal(rel, off + end, size, int.from_bytes(value[end : end + width], "big"))
                cond = part if cond is None else both(cond, part)
        if cond is None:
            raise refused("an empty name matches nothing")
        return cond

    def true(self) -> Cond:
        return test([Stmt(LD_IMM, 0)], JEQ, 0)

    def false(self) -> Cond:
        return test([Stmt(LD_IMM, 1)], JEQ, 0)
