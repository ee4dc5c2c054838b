"""Filter expressions by the thousand: sensible ones, and ones with a word changed, dropped or added.

Everything comes from a `random.Random`, so a printed seed gives the same ones again.
"""

# ruff: noqa: SIM905 - word lists read better as text

from __future__ import annotations

import os
import random
import re

#: Link types that tests go through: the common ones first, then each that has code of its own.
COMMON_LINKTYPES = (1, 12, 113, 276, 0, 108, 105, 127, 9, 228, 229)
LINKTYPES = (
    *COMMON_LINKTYPES,
    *(6, 7, 8, 10, 11, 15, 16, 19, 50, 51, 99, 104, 107, 109, 112, 114, 117, 119, 121, 122, 123, 129),
    *(130, 132, 133, 135, 136, 137, 138, 139, 140, 143, 144, 163, 164, 165, 166, 167, 168, 177, 178, 182),
    *(183, 187, 190, 192, 194, 195, 197, 200, 202, 220, 226, 232, 239, 240, 241, 246, 247, 283, 289),
)

_PROTOCOLS = (
    "ip ip6 arp rarp tcp udp sctp icmp icmp6 igmp igrp pim vrrp carp ah esp atalk aarp decnet lat sca moprc "
    "mopdl iso esis es-is isis is-is l1 l2 iih lsp snp csnp psnp clnp stp ipx netbeui"
).split()
_LINKS = "ether ether ether link fddi tr wlan ppp slip".split()
_INDEXABLE = (
    "ip ip ip6 tcp tcp udp icmp icmp6 arp rarp ether ether link sctp igmp decnet atalk pim radio"
).split()
_PORT_NAMES = "http https domain ssh ntp smtp snmp tftp syslog imap2".split()
_PROTO_NAMES = "\\tcp \\udp \\icmp ospf gre ipip \\sctp \\ah eigrp".split()
_ETHER_NAMES = "\\ip \\arp \\ip6 0x8847 0x42 loopback \\stp".split()
_ISO_NAMES = "\\clnp \\esis \\isis 0x83".split()
_NUMBERS = (
    "0 1 2 4 5 6 13 16 17 20 31 32 40 80 100 255 256 1500 65535 65536 0x0f 0x800 0x86dd 010 0xffffffff"
).split()
_SIGNS = "+ - * / % & | ^ << >>".split()
_RELATIONS = "= == != < > <= >=".split()
_WLAN_DIRS = "addr1 addr2 addr3 addr4 ra ta address1".split()
_PARTS = "and or not && || ! ( ) [ ] : / mask".split()
_QUALIFIERS = "src dst host net port portrange proto protochain gateway".split()
_STARTERS = "len less greater byte vlan mpls pppoes geneve ifindex vpi sio".split()
_VALUES = "type subtype dir tcpflags tcp-syn icmp-echo $1 80-90 1-2".split()
_FIELDS = "vpi vci sio opc dpc sls hsio hopc hdpc hsls".split()
_NETWORKS6 = "2001:db8::/32 fe80::/10 ::/0 ff00::/8 2001:db8:1::/65".split()
_ODD = (
    "llc,llc i,llc s,llc u,llc rr,llc rnr,llc ui,llc xid,inbound,outbound,broadcast,multicast,pppoed,"
    "ether broadcast,ether multicast,ip multicast,ip6 multicast,ip broadcast,"
    "lane,metac,bcc,oam,oamf4,oamf4ec,oamf4sc,sc,ilmic,connectmsg,metaconnect,"
    "fisu,lssu,msu,hfisu,hlssu,hmsu,type mgt,type data subtype qos-data,"
    "subtype beacon,type ctl subtype ack,dir fromds,dir 3,type 4 subtype 0xb0,"
    "ifname en0,on lo,rset main,rnr 3,srnr 4,reason match,reason 7,action pass"
).split(",")


class Expressions:
    """A source of expressions."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._kind = "host"  # what a bare value after `or` would be

    def one(self) -> str:
        """A sensible expression, or in one of eight cases a damaged one."""
        text = self.expression(self.random.choice((0, 1, 1, 2, 3)))
        return text if self.random.randrange(8) else self.damaged(text)

    def damaged(self, text: str) -> str:
        """One or two words dropped, doubled, swapped or replaced."""
        words = re.findall(r"\s+|[\w.:\\$-]+|[^\w\s]", text)
        for _ in range(self.random.choice((1, 1, 2))):
            if not words:
                break
            at = self.random.randrange(len(words))
            match self.random.randrange(4):
                case 0:
                    del words[at]
                case 1:
                    words.insert(at, words[at])
                case 2:
                    words[at] = f" {self.word()} "
                case _:
                    words.insert(at, f" {self.word()} ")
        return "".join(words)

    def soup(self) -> str:
        """Words in any order."""
        return " ".join(self.word() for _ in range(self.random.randint(1, 7)))

    def word(self) -> str:
        choose = self.random.choice
        lists = (_PROTOCOLS, _LINKS, _PARTS, _QUALIFIERS, _SIGNS, _RELATIONS, _NUMBERS, _STARTERS, _VALUES)
        kind = self.random.randrange(len(lists) + 3)
        if kind < len(lists):
            return choose(lists[kind])
        return (self.address4, self.address6, self.mac)[kind - len(lists)]()

    # --- parts ---------------------------------------------------------------------------------

    def number(self) -> str:
        return self.random.choice(_NUMBERS)

    def address4(self) -> str:
        r = self.random
        parts = r.choice((4, 4, 4, 4, 4, 3, 2))
        return ".".join(str(r.choice((0, 1, 10, 127, 192, 224, 255, r.randrange(256)))) for _ in range(parts))

    def address6(self) -> str:
        r = self.random
        some = f"2001:db8::{r.randrange(1 << 16):x}:{r.randrange(1 << 16):x}"
        fixed = "::", "::1", "fe80::1", "2001:db8::", "1:2:3:4:5:6:7:8", "::ffff:10.0.0.1", "ff02::1:ff00:0"
        return r.choice((some, *fixed))

    def mac(self) -> str:
        r = self.random
        octets = [r.randrange(256) for _ in range(6)]
        match r.randrange(5):
            case 0:
                return "-".join(f"{o:02x}" for o in octets)
            case 1:
                return ".".join(f"{a:02x}{b:02x}" for a, b in zip(octets[::2], octets[1::2], strict=True))
            case 2:
                return "".join(f"{o:02X}" for o in octets)
            case _:
                return ":".join(f"{o:x}" for o in octets)

    def network(self) -> str:
        r = self.random
        match r.randrange(6):
            case 0:
                return f"{r.randrange(224)}.{r.randrange(256)}"
            case 1:
                return f"{r.randrange(224)}"
            case 2:
                bits = r.choice((0, 8, 12, 16, 20, 24, 32))
                address = r.randrange(1 << 32) & -1 << 32 - bits & 0xFFFFFFFF
                return ".".join(map(str, address.to_bytes(4, "big"))) + f"/{bits}"
            case 3:
                return "10.1.0.0 mask 255.255.0.0"
            case 4:
                return r.choice(_NETWORKS6)
            case _:
                return r.choice(("loopback", "172.16.0.0/12", "192.168.1"))

    def direction(self) -> str:
        return self.random.choice(("", "", "", "src ", "dst ", "src or dst ", "src and dst ", "dst and src "))

    # --- primitives ----------------------------------------------------------------------------

    def item(self) -> str:
        """A primitive; now and then one that the link type or the qualifiers do not allow."""
        r = self.random
        self._kind = "host"
        kind = r.randrange(24)
        if kind < 5:
            return self.host(kind)
        if kind == 5:
            self._kind = "net"
            return f"{r.choice(('', '', '', 'ip '))}{self.direction()}net {self.network()}"
        if kind < 10:
            return self.port(kind)
        if kind < 14:
            return r.choice(_PROTOCOLS)
        if kind == 14:
            return self.protocol()
        if kind == 15:
            self._kind = "ether"
            direction = self.direction() if r.randrange(8) else f"{r.choice(_WLAN_DIRS)} "
            return f"{r.choice(_LINKS)} {direction or 'host '}{self.mac()}"
        if kind == 16:
            return r.choice(_ODD)
        if kind == 17:
            word = r.choice(("vlan", "vlan", "mpls", "pppoes", "geneve"))
            return f"{word}{r.choice(('', '', f' {r.randrange(4096)}'))}"
        if kind == 18:
            return f"{r.choice(('less', 'greater', 'ifindex'))} {self.number()}"
        if kind == 19:
            if r.randrange(2):
                return f"byte {r.randrange(40)} {r.choice('=<>&|')} {self.number()}"
            value = r.choice((f"{r.randrange(16)}", f"> {r.randrange(300)}", "!= 9", "(1 or 2 or 3)"))
            return f"{r.choice(_FIELDS)} {value}"
        if kind == 20 and r.randrange(2):
            return f"decnet {self.direction()}host {r.randrange(64)}.{r.randrange(1024)}"
        return f"{self.arithmetic(2)} {r.choice(_RELATIONS)} {self.arithmetic(1)}"

    def host(self, kind: int) -> str:
        r = self.random
        if kind:
            over = r.choice(("", "", "", "ip ", "arp ", "rarp "))
            return f"{over}{self.direction()}host {self.address4()}"
        return f"{r.choice(('', 'ip6 '))}{self.direction()}host {self.address6()}"

    def port(self, kind: int) -> str:
        r = self.random
        over = r.choice(("", "", "tcp ", "udp ", "sctp "))
        if kind == 9:
            low, high = r.randrange(66000), r.randrange(65536)
            span = r.choice((f"{low % 65536}-{high}", f"{low}-{high}", "80", "ssh-http", "http-90"))
            return f"{over}{self.direction()}portrange {span}"
        self._kind = "port"
        port = r.choice((str(r.choice((22, 53, 80, 443, 0, 65535))), r.choice(_PORT_NAMES)))
        return f"{over}{self.direction()}port {port}"

    def protocol(self) -> str:
        """A protocol by number or name."""
        r = self.random
        self._kind = "proto"
        over = r.choice(("", "ip ", "ip6 ", "ether ", "iso "))
        names = {"ether ": _ETHER_NAMES, "iso ": _ISO_NAMES}.get(over, _PROTO_NAMES)
        chain = "protochain" if not r.randrange(3) and over not in ("ether ", "iso ") else "proto"
        return f"{over}{chain} {r.choice((*names, self.number()))}"

    def arithmetic(self, depth: int) -> str:
        r = self.random
        kind = r.randrange(8 if depth else 4)
        if kind < 1:
            return self.number()
        if kind < 3:
            index = self.arithmetic(0) if not r.randrange(5) and depth else str(r.randrange(40))
            size = r.choice(("", "", "", ":1", ":2", ":2", ":4", ":4", ":3"))
            return f"{r.choice(_INDEXABLE)}[{index}{size}]"
        if kind == 3:
            return r.choice(("len", "length", "tcp[tcpflags]", "icmp[icmptype]", "tcp-syn", "- 1"))
        left, right = self.arithmetic(depth - 1), self.arithmetic(depth - 1)
        text = f"{left} {r.choice(_SIGNS)} {right}"
        return f"({text})" if r.randrange(3) == 0 else text

    # --- the whole -----------------------------------------------------------------------------

    def ids(self, depth: int) -> str:
        """More values for what was qualified before."""
        r = self.random
        fitting = {
            "host": self.address4,
            "net": self.network,
            "port": lambda: r.choice((str(r.randrange(65536)), r.choice(_PORT_NAMES))),
            "proto": lambda: str(r.randrange(256)),
            "ether": self.mac,
        }
        make = fitting[self._kind if r.randrange(12) else r.choice(tuple(fitting))]
        if depth and not r.randrange(4):
            return f"({make()} {r.choice(('or', 'and'))} {self.ids(depth - 1)})"
        return r.choice(("", "", "", "not ")) + make()

    def expression(self, depth: int) -> str:
        r = self.random
        text = self.operand(depth)
        for _ in range(r.choice((0, 0, 1, 1, 2, 3))):
            joint = r.choice((" and ", " or ", " && ", " || ", " or "))
            text += joint + (self.ids(depth) if not r.randrange(7) else self.operand(depth))
        return text

    def operand(self, depth: int) -> str:
        r = self.random
        negation = r.choice(("", "", "", "", "not ", "! ", "not not "))
        if depth and r.randrange(3) == 0:
            return f"{negation}({self.expression(depth - 1)})"
        if not r.randrange(8):
            kind = r.choice(
                ("host", "port", "net", "src host", "dst port", "tcp port", "ether src", "ip proto")
            )
            self._kind = kind.split()[0] if kind == "ether src" else kind.split()[-1]
            values = f" {r.choice(('or', 'and'))} ".join(self.ids(1) for _ in range(r.randint(1, 3)))
            return f"{negation}{kind} ({values})"
        return negation + self.item()


def seed(default: int = 20230803) -> int:
    """The seed of generated tests: fixed, or SKEP_SEED."""
    return int(os.environ.get("SKEP_SEED", default))
