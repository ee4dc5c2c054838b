"""vlan, mpls, pppoed, pppoes, geneve, vxlan: a test, and a new place for everything behind it."""

from __future__ import annotations

from typing import Final

from skep.filter import gen_link as link
from skep.filter import linktypes as lt
from skep.filter.emit import (
    ADD_K,
    ADD_X,
    AND_K,
    JEQ,
    JEQ_X,
    LD_ABS,
    LD_IMM,
    LD_IND,
    LD_MEM,
    LDX_MEM,
    LINKPL,
    MASK32,
    PREVMPLS,
    TAX,
    TRAN4,
    TRAN6,
    Cond,
    Emitter,
    Offset,
    both,
    either,
    refused,
    test,
)
from skep.filter.gen_ip import UDP, port4, port6
from skep.filter.ir import Stmt
from skep.isa.classic import (
    BPF_ALU,
    BPF_B,
    BPF_H,
    BPF_JA,
    BPF_JMP,
    BPF_K,
    BPF_MISC,
    BPF_MUL,
    BPF_ST,
    BPF_STX,
    BPF_TXA,
    BPF_W,
    SKF_AD_OFF,
    SKF_AD_VLAN_TAG,
    SKF_AD_VLAN_TAG_PRESENT,
)

_VLAN_TYPES: Final = (0x8100, 0x88A8, 0x9100)  # 802.1Q, 802.1ad, and QinQ before it was a standard
_MPLS: Final = 0x8847
_PPP_MPLS: Final = 0x0281
_PPPOED: Final = 0x8863
_PPPOES: Final = 0x8864
_GENEVE_PORT: Final = 6081
_VXLAN_PORT: Final = 4789
_ETHERNET_INSIDE: Final = 0x6558  # transparent Ethernet bridging
_TXA: Final = BPF_MISC | BPF_TXA


def enter(g: Emitter, linktype: int, header: Offset) -> None:
    """What follows is about a link-layer header at ``header``; the one around it is remembered."""
    g.prevlinktype, g.prevlinkhdr = g.linktype, g.linkhdr
    g.linktype, g.linkhdr = linktype, header
    g.in_overlay = False


# --- VLAN --------------------------------------------------------------------------------------


def vlan(g: Emitter, tag: int | None) -> Cond:
    """A VLAN tag, of number ``tag``; behind it everything is four bytes later."""
    if g.labels:
        raise refused("no VLAN tag follows an MPLS label")
    if g.linktype not in lt.ETHERNETS | lt.WIRELESS - {lt.PPI}:
        raise refused("'vlan' is for Ethernet and 802.11")
    outermost = not g.linkhdr.variable and g.linkhdr.const == g.outermost_linkhdr.const
    if g.live and g.linktype in lt.ETHERNETS and not g.vlans and outermost:
        cond = _vlan_live(g, tag)
    else:
        cond = _vlan_type(g)
        if tag is not None:
            cond = both(cond, _vlan_tag(g, tag))
        g.payload.const = g.payload.const + 4 & MASK32
        g.type_at.const = g.type_at.const + 4 & MASK32
    g.vlans += 1
    return cond


def _vlan_type(g: Emitter) -> Cond:
    first, second, third = _VLAN_TYPES
    cond = either(link.linktype(g, first), link.linktype(g, second))
    return either(cond, link.linktype(g, third))


def _vlan_tag(g: Emitter, tag: int) -> Cond:
    if tag > 0xFFF:
        raise refused(f"VLAN {tag} is over 4095")
    return g.equal(LINKPL, 0, BPF_H, tag, 0xFFF)


def _vlan_live(g: Emitter, tag: int | None) -> Cond:
    """Linux takes the outer tag out of the packet: it may be there, or in the packet's metadata."""
    in_metadata = test([_metadata(SKF_AD_VLAN_TAG_PRESENT)], JEQ, 1)
    in_packet = _vlan_type(g)
    tagged = None if tag is None else _vlan_tag(g, tag)
    g.vlan_in_metadata = True
    # Only when the tag is in the packet do the later offsets move.
    moved: list[Stmt] = []
    still = [Stmt(LD_IMM, 0)]
    for place in (g.payload, g.type_at):
        place.variable = True
        if place.reg == -1:
            place.reg = g.alloc()
        moved += (Stmt(LD_MEM, place.reg), Stmt(ADD_K, 4), Stmt(BPF_ST, place.reg))
        still.append(Stmt(BPF_ST, place.reg))
    in_packet.head.stmts = moved + in_packet.head.stmts
    if g.scoped:
        # An alternative in parentheses may have moved them before.
        in_metadata.head.stmts = still + in_metadata.head.stmts
    cond = either(in_metadata, in_packet)
    if tagged is None:
        return cond
    block = tagged.head
    at_packet = block.stmts
    load = _metadata(SKF_AD_VLAN_TAG)
    # Both ways meet at the masking of the tag, the last statement.
    skip = Stmt(BPF_JMP | BPF_JA, len(at_packet) - 1, at_packet[-1])
    choose = Stmt(JEQ, 1, load, at_packet[0])
    block.stmts = [_metadata(SKF_AD_VLAN_TAG_PRESENT), choose, load, skip, *at_packet]
    return both(cond, tagged)


def _metadata(field: int) -> Stmt:
    return Stmt(LD_ABS | BPF_B, SKF_AD_OFF + field & MASK32)


# --- MPLS --------------------------------------------------------------------------------------


def mpls(g: Emitter, label: int | None) -> Cond:
    """An MPLS label, the next of the stack if one was there before."""
    if g.labels:
        cond = g.equal(PREVMPLS, 2, BPF_B, 0, 0x01)  # not the bottom of the stack
    elif g.linktype in lt.ETHERNETS or g.linktype in (lt.C_HDLC, lt.HDLC):
        cond = link.linktype(g, _MPLS)
    elif g.linktype == lt.PPP:
        cond = link.linktype(g, _PPP_MPLS)
    else:
        raise refused("'mpls' is for Ethernet, Cisco HDLC and PPP")
    if label is not None:
        if label > 0xFFFFF:
            raise refused(f"MPLS label {label} is over 1048575")
        cond = both(cond, g.equal(LINKPL, 0, BPF_W, label << 12, 0xFFFFF000))
    g.net = g.net + 4 & MASK32
    g.net_nosnap = g.net_nosnap + 4 & MASK32
    g.labels += 1
    return cond


# --- PPPoE -------------------------------------------------------------------------------------


def pppoe_discovery(g: Emitter) -> Cond:
    return link.linktype(g, _PPPOED)


def pppoe_session(g: Emitter, session: int | None) -> Cond:
    """A PPPoE session packet; behind it is PPP without address and control bytes."""
    cond = link.linktype(g, _PPPOES)
    if session is not None:
        if session > 0xFFFF:
            raise refused(f"PPPoE session {session} is over 65535")
        cond = both(cond, g.equal(LINKPL, 0, BPF_W, session, 0xFFFF))
    at = g.payload
    enter(g, lt.PPP, Offset(at.const + g.net + 6 & MASK32, at.variable, at.reg))
    g.type_at = g.linkhdr.copy()
    # The payload keeps its variable part.
    g.payload.const = g.linkhdr.const + 2 & MASK32
    g.net = g.net_nosnap = 0
    return cond


# --- tunnels in UDP ----------------------------------------------------------------------------


def geneve(g: Emitter, vni: int | None) -> Cond:
    """Geneve (RFC 8926) over UDP port 6081; behind it is the inner packet, Ethernet or not."""
    cond = _udp_tunnel(g, _GENEVE_PORT, vni, "Geneve", (0, 0xC0))
    # A and X hold the end of the IP header; walk over UDP and Geneve with its options.
    stmts = [
        Stmt(ADD_K, g.payload.const + g.net + 8 & MASK32),
        Stmt(TAX),
        Stmt(ADD_K, 2),
    ]
    outer = g.type_at.const, g.linkhdr.const, g.payload.const + g.net
    g.type_at = Offset(0, True, g.alloc())
    stmts += (
        Stmt(BPF_ST, g.type_at.reg),
        Stmt(LD_IND | BPF_B, 0),
        Stmt(AND_K, 0x3F),
        Stmt(BPF_ALU | BPF_MUL | BPF_K, 4),
        Stmt(ADD_K, 8),
        Stmt(ADD_X),
    )
    enter(g, lt.EN10MB, Offset(0, True, g.alloc()))
    g.fixed = True
    g.payload = Offset(0, True, g.alloc())
    for place, const in zip((g.type_at, g.linkhdr, g.payload), outer, strict=True):
        g.unset[place.reg] = const & MASK32
    store_payload = Stmt(BPF_STX, g.payload.reg)
    ethernet = Stmt(_TXA)
    stmts += (
        Stmt(BPF_ST, g.linkhdr.reg),
        Stmt(LD_IND | BPF_H, 2),
        Stmt(LDX_MEM, g.linkhdr.reg),
        Stmt(JEQ, _ETHERNET_INSIDE, ethernet, store_payload),
        ethernet,
        Stmt(ADD_K, 12),
        Stmt(BPF_ST, g.type_at.reg),
        Stmt(ADD_K, 2),
        Stmt(TAX),
        store_payload,
    )
    g.net = 0
    return _tunnelled(g, cond, stmts)


def vxlan(g: Emitter, vni: int | None) -> Cond:
    """VXLAN (RFC 7348) over UDP port 4789; behind it is an Ethernet frame. libpcap 1.10 has no such word."""
    cond = _udp_tunnel(g, _VXLAN_PORT, vni, "VXLAN", (0x08, 0x08))
    reg = g.alloc()
    # In `vxlan or ip` the second word then looks at the outer packet.
    g.zeroed.append(reg)
    stmts = [Stmt(ADD_K, g.payload.const + g.net + 16 & MASK32), Stmt(BPF_ST, reg)]
    enter(g, lt.EN10MB, Offset(0, True, reg))
    g.type_at = Offset(12, True, reg)
    g.payload = Offset(14, True, reg)
    g.net, g.net_nosnap = 0, 3
    cond = _tunnelled(g, cond, stmts)
    g.in_overlay = False  # the inner Ethernet header is always there
    return cond


def _udp_tunnel(g: Emitter, port: int, vni: int | None, what: str, flags: tuple[int, int]) -> Cond:
    """To ``port`` over IPv4 or IPv6, first header byte as in ``flags`` (value, mask). Leaves the length of
    the IP header, with the variable part of its start, in A and X."""
    if vni is not None and vni > 0xFFFFFF:
        raise refused(f"{what} network {vni} is over 16777215")
    walk, g.ipv6_transport = g.ipv6_transport, False
    value, mask = flags
    four = both(port4(g, port, None, UDP, "dst"), g.equal(TRAN4, 8, BPF_B, value, mask))
    if vni is not None:
        four = both(four, g.equal(TRAN4, 12, BPF_W, vni << 8, 0xFFFFFF00))
    stmts = g.load_ip_header_length()
    stmts.append(Stmt(_TXA))
    four = both(four, test(stmts, JEQ_X, 0))
    six = both(port6(g, port, None, UDP, "dst"), g.equal(TRAN6, 8, BPF_B, value, mask))
    if vni is not None:
        six = both(six, g.equal(TRAN6, 12, BPF_W, vni << 8, 0xFFFFFF00))
    stmts = g.varpart(g.payload)
    stmts.append(Stmt(LD_IMM, 40))
    if g.payload.variable:
        stmts.append(Stmt(ADD_X))
    stmts.append(Stmt(TAX))
    six = both(six, test(stmts, JEQ_X, 0))
    g.ipv6_transport = walk
    return either(four, six)


def _tunnelled(g: Emitter, cond: Cond, stmts: list[Stmt]) -> Cond:
    """``cond``, then the statements that find the inner headers."""
    always = g.true()
    always.head.stmts = stmts + always.head.stmts
    g.in_overlay = True
    return both(cond, always)
