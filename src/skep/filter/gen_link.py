"""Is the packet of this protocol? One way for each link type."""

from __future__ import annotations

from typing import Final

from skep.filter import linktypes as lt
from skep.filter.emit import (
    JEQ_X,
    LD_MEM,
    LDX_MEM,
    LINKHDR,
    LINKPL,
    LINKTYPE,
    LLC,
    PREVLINKHDR,
    Cond,
    Emitter,
    both,
    either,
    negate,
    refused,
    test,
)
from skep.filter.ir import Stmt
from skep.isa.classic import BPF_B, BPF_H, BPF_W

ETHERMTU: Final = 1500  # type fields up to this are lengths (IEEE 802.3)

# EtherTypes.
IP: Final = 0x0800
ARP: Final = 0x0806
NS: Final = 0x0600
REVARP: Final = 0x8035
DECNET: Final = 0x6003
ATALK: Final = 0x809B
AARP: Final = 0x80F3
IPX_TYPE: Final = 0x8137
IPV6: Final = 0x86DD
# 802.2 service access points, asked for as if they were EtherTypes.
SAP_IP: Final = 0x06
SAP_STP: Final = 0x42
SAP_SNAP: Final = 0xAA
SAP_IPX: Final = 0xE0
SAP_NETBEUI: Final = 0xF0
SAP_ISO: Final = 0xFE

_PAIRED_SAPS = (SAP_ISO, SAP_IP, SAP_NETBEUI)
_SLL_802_3 = 0x0001  # Novell's frames without LLC
_SLL_802_2 = 0x0004
_PT_LLC = 2

_TO_PPP = {
    IP: 0x0021,
    IPV6: 0x0057,
    DECNET: 0x0027,
    ATALK: 0x0029,
    NS: 0x0025,
    SAP_ISO: 0x0023,
    SAP_STP: 0x0031,
    SAP_IPX: 0x002B,
}
_PPP_TYPES = frozenset({lt.PPP, lt.PPP_PPPD, lt.PPP_SERIAL, lt.PPP_ETHER})
_LLC_TYPES = frozenset({lt.FDDI, lt.IEEE802, lt.ATM_RFC1483, lt.ATM_CLIP, lt.IP_OVER_FC})
# AF_INET6 of NetBSD and OpenBSD, FreeBSD, macOS; and of this system.
_BSD_INET6 = (24, 28, 30)
_LINUX_INET6 = 10
_NO_TYPE = {
    lt.MFR: "Multi-link Frame Relay",
    144: "IrDA",
    143: "DOCSIS",
    lt.MTP2: "MTP2",
    lt.MTP2_WITH_PHDR: "MTP2",
    lt.ERF: "ERF",
    lt.PFSYNC: "PFSYNC",
    177: "LAPD",
    **dict.fromkeys((186, 189, 220, 249), "USB"),
    **dict.fromkeys((187, 201), "Bluetooth"),
    **dict.fromkeys((190, 227), "CAN"),
    **dict.fromkeys((191, 195, 215, 230, 283), "IEEE 802.15.4"),
    193: "IEEE 802.16",
    196: "SITA",
    198: "RAIF1",
    **dict.fromkeys((199, 209), "IPMB"),
    lt.AX25_KISS: "AX.25",
    239: "NFLOG",
}


def linktype(g: Emitter, proto: int) -> Cond:
    """The packet carries ``proto``, an EtherType or an 802.2 SAP."""
    if g.labels:
        return _mpls(g, proto)
    link = g.linktype
    if link in lt.ETHERNETS:
        check = None if g.in_overlay else outer_check(g)
        cond = _ethernet(g, proto)
        return cond if check is None else both(check, cond)
    if link in lt.WIRELESS:
        return both(wlan_data_frame(g), _llc(g, proto))
    if link in _LLC_TYPES:
        return _llc(g, proto)
    if link == lt.SUNATM:
        return both(g.equal(LINKHDR, 0, BPF_B, _PT_LLC, 0x0F), _llc(g, proto))
    if link == lt.LINUX_SLL:
        return _cooked(g, proto)
    if link in (lt.RAW, lt.SLIP, lt.SLIP_BSDOS):
        if proto in (IP, IPV6):
            return g.equal(LINKHDR, 0, BPF_B, 0x40 if proto == IP else 0x60, 0xF0)
        return g.false()
    if link in (lt.IPV4, lt.IPV6):
        return g.true() if proto == (IP if link == lt.IPV4 else IPV6) else g.false()
    if link in (lt.C_HDLC, lt.HDLC):
        return g.equal(LINKTYPE, 0, BPF_H, SAP_ISO << 8 | SAP_ISO if proto == SAP_ISO else proto)
    if link in _PPP_TYPES:
        return g.equal(LINKTYPE, 0, BPF_H, _TO_PPP.get(proto, proto))
    if link == lt.PPP_BSDOS:
        if proto != IP:
            return g.equal(LINKTYPE, 0, BPF_H, _TO_PPP.get(proto, proto))
        # IP, and IP with Van Jacobson's compressed and uncompressed TCP headers.
        cond = either(g.equal(LINKTYPE, 0, BPF_H, 0x0021), g.equal(LINKTYPE, 0, BPF_H, 0x002D))
        return either(cond, g.equal(LINKTYPE, 0, BPF_H, 0x002F))
    if link in (lt.NULL, lt.LOOP, lt.ENC):
        return _loopback(g, proto)
    if link == lt.PFLOG:
        if proto in (IP, IPV6):
            return g.equal(LINKHDR, 1, BPF_B, 2 if proto == IP else _LINUX_INET6)
        return g.false()
    if link in (lt.ARCNET, lt.ARCNET_LINUX):
        return _arcnet(g, proto)
    if link == lt.LTALK:
        return g.true() if proto == ATALK else g.false()
    if link == lt.FRELAY:
        return _frame_relay(g, proto)
    if link in lt.JUNIPER:
        # Juniper's headers say nothing of the payload; their magic number is all there is to test.
        return g.equal(LINKHDR, 0, BPF_W, 0x4D474300, 0xFFFFFF00)
    if link == lt.BACNET_MS_TP:
        return g.equal(LINKHDR, 0, BPF_W, 0x55FF0000, 0xFFFF0000)
    if link == lt.IPNET:
        if proto in (IP, IPV6):  # Solaris's AF_INET and AF_INET6
            return g.equal(LINKTYPE, 0, BPF_B, 2 if proto == IP else 26)
        return g.false()
    if link in _NO_TYPE or g.type_at.const == lt.NOT_SET:
        what = _NO_TYPE.get(link, f"link type {link}")
        raise refused(f"{what}: its packet types cannot be filtered on", "bytes can: link[offset:size]")
    return g.equal(LINKTYPE, 0, BPF_H, proto)


def outer_check(g: Emitter) -> Cond | None:
    """What must hold before an inner Ethernet header can be looked at; None for nothing."""
    if g.in_overlay:
        # The inner packet has an Ethernet header when its payload is not where the header would be.
        return negate(test([Stmt(LD_MEM, g.linkhdr.reg), Stmt(LDX_MEM, g.payload.reg)], JEQ_X, 0))
    if g.prevlinktype == lt.SUNATM:
        return negate(g.equal(PREVLINKHDR, 4, BPF_H, 0xFF00))  # LANE control frames
    return None


def wlan_data_frame(g: Emitter) -> Cond:
    """An 802.11 data frame."""
    data = g.bits(LINKHDR, 0, BPF_B, 0x08)
    return both(negate(g.bits(LINKHDR, 0, BPF_B, 0x04)), data)


def snap(g: Emitter, organisation: int, proto: int) -> Cond:
    """An LLC and SNAP header (RFC 1042) that names this protocol."""
    return g.octets(LLC, 0, b"\xaa\xaa\x03" + organisation.to_bytes(3, "big") + proto.to_bytes(2, "big"))


def _ethernet(g: Emitter, proto: int) -> Cond:
    if proto in _PAIRED_SAPS:
        return both(g.at_most(LINKTYPE, 0, BPF_H, ETHERMTU), g.equal(LLC, 0, BPF_H, proto << 8 | proto))
    if proto == SAP_IPX:
        # 802.2, Novell's frames without LLC, SNAP, or Ethernet II.
        cond = either(g.equal(LLC, 0, BPF_B, SAP_IPX), g.equal(LLC, 0, BPF_H, 0xFFFF))
        cond = either(snap(g, 0, IPX_TYPE), cond)
        cond = both(g.at_most(LINKTYPE, 0, BPF_H, ETHERMTU), cond)
        return either(g.equal(LINKTYPE, 0, BPF_H, IPX_TYPE), cond)
    if proto in (ATALK, AARP):
        short = g.at_most(LINKTYPE, 0, BPF_H, ETHERMTU)
        cond = both(short, _apple_snap(g, proto))
        return either(g.equal(LINKTYPE, 0, BPF_H, proto), cond)
    if proto <= ETHERMTU:
        return both(g.at_most(LINKTYPE, 0, BPF_H, ETHERMTU), g.equal(LINKTYPE, 2, BPF_B, proto))
    return g.equal(LINKTYPE, 0, BPF_H, proto)


def _apple_snap(g: Emitter, proto: int) -> Cond:
    return snap(g, 0x080007, ATALK) if proto == ATALK else snap(g, 0, AARP)


def _cooked(g: Emitter, proto: int) -> Cond:
    """Linux cooked mode, version 1: the type field holds an EtherType or says what follows."""
    if proto in _PAIRED_SAPS:
        return both(g.equal(LINKTYPE, 0, BPF_H, _SLL_802_2), g.equal(LLC, 0, BPF_H, proto << 8 | proto))
    if proto == SAP_IPX:
        cond = either(g.equal(LLC, 0, BPF_B, SAP_IPX), snap(g, 0, IPX_TYPE))
        cond = both(g.equal(LINKTYPE, 0, BPF_H, _SLL_802_2), cond)
        cond = either(g.equal(LINKTYPE, 0, BPF_H, _SLL_802_3), cond)
        return either(g.equal(LINKTYPE, 0, BPF_H, IPX_TYPE), cond)
    if proto in (ATALK, AARP):
        llc = g.equal(LINKTYPE, 0, BPF_H, _SLL_802_2)
        cond = both(llc, _apple_snap(g, proto))
        return either(g.equal(LINKTYPE, 0, BPF_H, proto), cond)
    if proto <= ETHERMTU:
        llc = g.equal(LINKTYPE, 0, BPF_H, _SLL_802_2)
        return both(llc, g.equal(LINKHDR, g.payload.const, BPF_B, proto))
    return g.equal(LINKTYPE, 0, BPF_H, proto)


def _llc(g: Emitter, proto: int) -> Cond:
    """The link layer always has an 802.2 header."""
    if proto in _PAIRED_SAPS:
        return g.equal(LLC, 0, BPF_H, proto << 8 | proto)
    if proto == SAP_IPX:
        return g.equal(LLC, 0, BPF_B, SAP_IPX)
    if proto == ATALK:
        return snap(g, 0x080007, ATALK)
    if proto <= ETHERMTU:
        return g.equal(LLC, 0, BPF_B, proto)
    # Only the type behind the SNAP header is looked at, whoever's it is: encapsulations differ.
    return g.equal(LLC, 6, BPF_H, proto)


def _loopback(g: Emitter, proto: int) -> Cond:
    """The header is an address family number, in the byte order of the capturing host or the network's."""

    def family(number: int) -> Cond:
        host_order = g.linktype != lt.LOOP
        if host_order and not (g.savefile and g.swapped):
            number = int.from_bytes(number.to_bytes(4, "little"), "big")
        return g.equal(LINKHDR, 0, BPF_W, number)

    if proto == IP:
        return family(2)
    if proto == IPV6:
        if not g.savefile:
            return family(_LINUX_INET6)
        # A file may come from any system, and their numbers differ.
        netbsd, freebsd, darwin = _BSD_INET6
        cond = either(family(netbsd), family(freebsd))
        return either(family(darwin), cond)
    return g.false()


def _arcnet(g: Emitter, proto: int) -> Cond:
    codes = {IPV6: (196,), IP: (212, 240), ARP: (213, 241), REVARP: (214,), ATALK: (221,)}.get(proto)
    if codes is None:
        return g.false()
    cond = g.equal(LINKTYPE, 0, BPF_B, codes[0])
    for code in codes[1:]:
        cond = either(cond, g.equal(LINKTYPE, 0, BPF_B, code))
    return cond


def _frame_relay(g: Emitter, proto: int) -> Cond:
    """A Q.922 header of two bytes, UI, and a network-layer protocol identifier (RFC 2427)."""
    if proto in (IP, IPV6):
        return g.equal(LINKHDR, 2, BPF_H, 0x03CC if proto == IP else 0x038E)
    if proto == SAP_ISO:
        clnp, esis, isis = (g.equal(LINKHDR, 2, BPF_H, 0x0300 | nlpid) for nlpid in (0x81, 0x82, 0x83))
        return either(clnp, either(esis, isis))
    return g.false()


def _mpls(g: Emitter, proto: int) -> Cond:
    """Behind the last label (bottom of stack) only the version nibble tells IPv4 from IPv6."""
    if proto not in (IP, IPV6):
        raise refused("behind mpls only IPv4 and IPv6 can be told apart")
    bottom = g.equal(LINKPL, -2, BPF_B, 0x01, 0x01)
    return both(bottom, g.equal(LINKPL, 0, BPF_B, 0x40 if proto == IP else 0x60, 0xF0))
