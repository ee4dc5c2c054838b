"""Primitives that are words of their own, with what they read behind the word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from skep.filter import gen_meta as meta
from skep.filter.emit import Cond, either
from skep.filter.lexer import NAME, NUM
from skep.isa.classic import BPF_JEQ

if TYPE_CHECKING:
    from skep.filter.parser import Parser


def _broadcast(p: Parser, word: str, proto: str | None) -> Cond:
    from skep.filter.gen_hw import broadcast, multicast

    return (broadcast if word == "broadcast" else multicast)(p.g, proto)


def _length(p: Parser, word: str, proto: str | None) -> Cond:
    number = p.take(NUM, "a length in bytes")
    return meta.less(p.g, number) if word == "less" else meta.greater(p.g, number)


def _byte(p: Parser, word: str, proto: str | None) -> Cond:
    index = p.take(NUM, "the number of a byte")
    sign = p.tokens.kinds[p.at]
    if sign not in ("&", "|", "<", ">", "="):
        raise p.unexpected("one of = < > & |")
    p.at += 1
    return meta.byte(p.g, index, sign, p.take(NUM, "a number"))


def _direction(p: Parser, word: str, proto: str | None) -> Cond:
    return meta.direction(p.g, word == "outbound")


def _ifindex(p: Parser, word: str, proto: str | None) -> Cond:
    return meta.ifindex(p.g, p.take(NUM, "the number of an interface"))


def _tunnel(p: Parser, word: str, proto: str | None) -> Cond:
    from skep.filter import gen_tunnel as tunnel

    if word == "pppoed":
        return tunnel.pppoe_discovery(p.g)
    generate = {
        "vlan": tunnel.vlan,
        "mpls": tunnel.mpls,
        "pppoes": tunnel.pppoe_session,
        "geneve": tunnel.geneve,
        "vxlan": tunnel.vxlan,
    }[word]
    return generate(p.g, p.optional_number())


def _name_or_number(p: Parser, expected: str) -> Any:
    kind = p.tokens.kinds[p.at]
    if kind != NAME and kind != NUM:
        raise p.unexpected(expected)
    return p.take(kind, expected)


def _pflog(p: Parser, word: str, proto: str | None) -> Cond:
    from skep.filter.gen_old import pflog

    value: Any
    if word in ("rnr", "srnr"):
        value = p.take(NUM, "a rule number")
    elif word == "reason":
        value = _name_or_number(p, "a reason")
    else:
        value = p.take(NAME, "an action" if word == "action" else "a name")
    return pflog(p.g, word, value)


def _frame(p: Parser, word: str, proto: str | None) -> Cond:
    from skep.filter import gen_wlan as wlan

    if word == "dir":
        return wlan.direction(p.g, _name_or_number(p, "an 802.11 direction"))
    if word == "subtype":
        bits = wlan.subtype_alone(p.take(NAME, "the name of an 802.11 frame subtype"))
        return wlan.frame(p.g, bits, wlan.TYPE_MASK | wlan.SUBTYPE_MASK)
    bits = wlan.frame_type(_name_or_number(p, "an 802.11 frame type"))
    if p.tokens.kinds[p.at] != "subtype":
        return wlan.frame(p.g, bits, wlan.TYPE_MASK)
    p.at += 1
    subtype = wlan.frame_subtype(_name_or_number(p, "an 802.11 frame subtype"), bits)
    return wlan.frame(p.g, bits | subtype, wlan.TYPE_MASK | wlan.SUBTYPE_MASK)


def _llc(p: Parser, word: str, proto: str | None) -> Cond:
    from skep.filter.gen_wlan import llc

    kind = p.tokens.kinds[p.at]
    if kind == "rnr":  # a keyword of pflog too
        p.at += 1
        return llc(p.g, "rnr")
    return llc(p.g, p.take(NAME, "a type of LLC frame") if kind == NAME else None)


def _atm(p: Parser, word: str, proto: str | None) -> Cond:
    from skep.filter.gen_old import atm

    return atm(p.g, word)


def _mtp2(p: Parser, word: str, proto: str | None) -> Cond:
    from skep.filter.gen_old import mtp2

    return mtp2(p.g, word)


def _field(p: Parser, word: str, proto: str | None) -> Cond:
    """vpi, vci and the fields of MTP3: a number, a relation and a number, or (number or number ...)."""
    from skep.filter.gen_old import atm_field, mtp3

    generate = atm_field if word in ("vpi", "vci") else mtp3
    if p.tokens.kinds[p.at] != "(":
        jump, reverse = p.comparison()
        return generate(p.g, word, p.take(NUM, "a number"), jump, reverse)
    p.at += 1
    cond = generate(p.g, word, p.take(NUM, "a number"), BPF_JEQ, False)
    while p.tokens.kinds[p.at] == "or":
        p.at += 1
        cond = either(cond, generate(p.g, word, p.take(NUM, "a number"), BPF_JEQ, False))
    p.take(")", "or, or a closing parenthesis")
    return cond


def _words(words: str, generate: Primitive) -> dict[str, Primitive]:
    return dict.fromkeys(words.split(), generate)


Primitive = Callable[["Parser", str, "str | None"], Cond]

PRIMITIVES: Final[Mapping[str, Primitive]] = {
    **_words("broadcast multicast", _broadcast),
    **_words("less greater", _length),
    "byte": _byte,
    **_words("inbound outbound", _direction),
    "ifindex": _ifindex,
    **_words("vlan mpls pppoed pppoes geneve vxlan", _tunnel),
    **_words("ifname rset rnr srnr reason action", _pflog),
    **_words("type subtype dir", _frame),
    "llc": _llc,
    **_words("lane metac bcc oam oamf4 oamf4ec oamf4sc sc ilmic connectmsg metaconnect", _atm),
    **_words("fisu lssu msu hfisu hlssu hmsu", _mtp2),
    **_words("vpi vci sio opc dpc sls hsio hopc hdpc hsls", _field),
}
