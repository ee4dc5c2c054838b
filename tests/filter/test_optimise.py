"""The optimiser against libpcap's: the same listings where libpcap is right, the right verdict everywhere."""

from __future__ import annotations

import random

import pytest

from skep.errors import FilterSyntaxError
from skep.filter import compile
from skep.filter.ir import Block, Stmt, ret
from skep.filter.optimise import optimise
from tests.support import libpcap
from tests.support.directed import Packet, by_libpcap, by_skep, compare, packets, seed, trace
from tests.support.graphs import Looped, graph_of, listing
from tests.support.sentences import relation, sentence

REJECT = [(6, 0, 0, 0)]

# DLT numbers: Ethernet, raw IP, BSD loopback and null, Linux cooked v1 and v2, PPP, FDDI, token ring, ARCnet,
# OpenBSD enc, pflog, Frame Relay, IEEE 802.15.4 (no network layer), SLIP.
LINKTYPES = (1, 12, 0, 108, 113, 276, 50, 9, 10, 6, 7, 109, 117, 107, 8)

EVERYDAY = """
ip
ip6
arp
tcp
udp or icmp
ip and tcp port 8080
host 10.0.0.1
host 10.0.0.1 and port 53
src host 10.0.0.1 and dst port 80
not host 10.0.0.1
not port 22
not arp and not icmp6
port 80 or 443 or 8080
tcp port 80 or tcp port 443
tcp port 80 and host 10.0.0.1 or udp port 53
port 53 and (host 8.8.8.8 or host 8.8.4.4)
host 10.0.0.1 or host 10.0.0.2 or host 10.0.0.3
host 10.0.0.1 or 10.0.0.2 or 10.0.0.3 or 10.0.0.4 or 10.0.0.5 or 10.0.0.6
net 10.0.0.0/8
src net 192.168.0.0/16 and not dst net 192.168.0.0/16
net 10 and not net 10.1
portrange 6000-6063
tcp src portrange 1024-65535 and tcp dst portrange 1-1023
tcp[tcpflags] & (tcp-syn|tcp-fin) != 0
tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn
tcp[tcpflags] == tcp-rst
tcp[13] & 2 != 0 and port 80
tcp[13] = 18
tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)
tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420
port 80 and tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420 or tcp[20:4] = 0x48545450
icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply
icmp[0] = 8 or icmp[0] = 0
icmp6 and ip6[40] = 135
ip[6:2] & 0x1fff = 0
ip[6] & 0x20 != 0 or ip[6:2] & 0x1fff != 0
ip[8] < 5
ip[0] & 0xf != 5
ip[12:4] = ip[16:4]
ip[2:2] > 576
greater 1000
less 100 and udp
len > 1000 and len < 1500
len - 14 = ip[2:2]
ip proto 47
ip6 proto 17
proto 89
ip6 host fe80::1
ip6 src net 2001:db8::/32
ip6 multicast
ip multicast and not igmp
udp[8:4] = 0x12345678
udp[10] & 0x80 = 0 and udp port 53
udp port 67 or udp port 68
udp and (udp[4:2] > 100 or dst port 514)
sctp port 36412
esp or ah or udp port 500 or udp port 4500
vrrp or pim or igmp or ip proto 112
rarp or arp
ip src 10.0.0.1 and ip dst 10.0.0.2 and tcp
(tcp or udp) and (host 10.0.0.1 or host 10.0.0.2) and not port 22
(src host 10.0.0.1 and dst host 10.0.0.2) or (src host 10.0.0.2 and dst host 10.0.0.1)
tcp and (port 80 or 443) and not (src net 10.0.0.0/8 or dst net 10.0.0.0/8)
not (ip6 or arp) and (tcp[0:2] > 1023 or udp[0:2] > 1023)
(port 21 or 20) and tcp and not net 127
icmp or (tcp and tcp[13] & 7 != 0)
1 = 1
ip[0] >> 4 = 4 and ip[9] = 6
ip[1] & 0xfc = 0xb8
tcp[14:2] < 1000 and tcp[13] & 16 != 0
tcp port 25 and tcp[((tcp[12]&0xf0)>>2):2] = 0x4d41
port 5060 or portrange 10000-20000
ip[ip[0]&0xf:1] = 3
1+2=3 and tcp
2>1 and 3>2 and len>5
1>2 or 3/4=0 and ip[0]>len
""".strip().splitlines()

ETHERNET = """
ether host 00:11:22:33:44:55
ether src 00:11:22:33:44:55 and ip
ether dst 00:11:22:33:44:55 or ether dst ff:ff:ff:ff:ff:ff
broadcast
multicast
ether broadcast or ether multicast and not ip
not broadcast and not multicast
ether proto 0x88cc
ether[0] & 1 = 0 and ip[16] >= 224
ether[12:2] > 1500
vlan
vlan 10
vlan 10 and tcp port 80
vlan and vlan 20 and host 10.0.0.1
vlan or ip
mpls
mpls 100 and mpls 200 and host 10.0.0.1
mpls and tcp port 80
pppoed
pppoes and ip and tcp port 80
pppoes 17 and host 10.0.0.1
llc
stp or iso or ipx
isis or esis or clnp
lat or moprc or mopdl or decnet src 10.15
atalk or aarp
netbeui
ether proto 0x8863 or ether proto 0x8864
""".strip().splitlines()


def differs(text: str, linktype: int) -> str | None:
    """Why the optimised listing is not libpcap's; None when it is, or when libpcap refuses the expression."""
    raw = libpcap.compile(text, linktype, optimize=False).insns
    if raw is None:
        return None
    theirs = libpcap.compile(text, linktype)
    try:
        mine = listing(optimise(graph_of(raw)))
    except Looped:
        assert theirs.insns == raw
        return None
    except FilterSyntaxError as error:
        return None if str(error) in theirs.error else f"{error}, libpcap: {theirs.error or 'accepted'}"
    if theirs.insns is None:
        assert theirs.error == "expression rejects all packets", theirs.error
        theirs = libpcap.Compiled(REJECT)
    return None if mine == theirs.insns else f"{len(mine)} instructions, libpcap {len(theirs.insns or ())}"


@pytest.mark.parametrize("linktype", LINKTYPES)
def test_everyday_listings_are_libpcaps(linktype: int) -> None:
    wrong = {text: why for text in EVERYDAY + ETHERNET if (why := differs(text, linktype))}
    assert not wrong


def test_most_everyday_expressions_compile() -> None:
    """So that the test above cannot pass by comparing nothing."""
    refused = [text for text in EVERYDAY + ETHERNET if libpcap.compile(text, 1).insns is None]
    assert not refused
    assert len(EVERYDAY + ETHERNET) > 90


def test_random_listings_are_libpcaps() -> None:
    """All but those whose arithmetic libpcap gets wrong; the verdicts of every one are checked."""
    number = seed(41)
    rng = random.Random(number)
    equal = unequal = 0
    for turn in range(250):
        text, linktype = sentence(rng), rng.choice(LINKTYPES)
        raw = libpcap.compile(text, linktype, optimize=False).insns
        if raw is None:
            continue
        try:
            mine = listing(optimise(graph_of(raw)))
        except (Looped, FilterSyntaxError):
            continue
        difference = compare(raw, mine, turn, limit=60)
        assert difference is None, (number, text, linktype, str(difference))
        theirs = libpcap.compile(text, linktype).insns or REJECT
        equal += mine == theirs
        unequal += mine != theirs
    assert equal > 150
    assert unequal <= 0.05 * (equal + unequal), (number, equal, unequal)


def test_random_arithmetic_keeps_its_verdict() -> None:
    number = seed(42)
    rng = random.Random(number)
    compared = 0
    for turn in range(300):
        text = relation(rng) + rng.choice(("", " and ", " or "))
        text = text + relation(rng) if text.endswith(" ") else text
        raw = libpcap.compile(text, optimize=False).insns
        if raw is None:
            continue
        try:
            mine = listing(optimise(graph_of(raw)))
        except FilterSyntaxError as error:
            assert str(error) in libpcap.compile(text).error
            continue
        difference = compare(raw, mine, turn, limit=100)
        assert difference is None, (number, text, str(difference))
        compared += 1
    assert compared > 150


MISCOMPILED = {
    # what the tests skipped at the root compute is dropped
    "1/2=1/3&&1>4/5&&1>6/7": 1,
    # "jset #0xffffffff" is taken for always true
    "ip[12:4] & 0xffffffff = 0": 1,
    "ip[12:4] & 0xffffffff != 0": 1,
    # an index that wraps around is folded into the offset, where it does not wrap
    "icmp[-16:2] != 240": 1,
    "ether[1 + ip[4:4]] = 5": 1,
    # 0 / X is 0, but a division by zero rejects
    "0 / ip[8] = 0": 1,
    "0 % tcp[5:1] = 0": 1,
    # the test of a value seen before is lost when its way there has changed meanwhile
    "src and dst net 10.1 or ether proto 2054 or (greater 60 or ip)": 6,
    # values that differ between two ways are taken for equal
    "(ip6[19:4]/16) < -len and len > (-4294967295>>3)": 1,
}


@pytest.mark.parametrize("text", MISCOMPILED)
def test_what_libpcap_miscompiles(text: str) -> None:
    """libpcap 1.10.3's optimised code contradicts its own -O code; ours does not."""
    linktype = MISCOMPILED[text]
    raw = libpcap.compile(text, linktype, optimize=False).insns
    assert raw is not None
    mine = listing(optimise(graph_of(raw)))
    assert (difference := compare(raw, mine, 1)) is None, str(difference)
    if libpcap.version() == (1, 10, 3):
        theirs = libpcap.compile(text, linktype).insns or REJECT
        assert compare(raw, theirs, 1) is not None


@pytest.mark.parametrize(
    ("text", "linktype"),
    [
        # never come to: what is asked before contradicts it
        ("ip6 proto gre && 16 / 1 ^ 1 <= tcp[tcpflags] or byte 4 | 17", 276),
        ("ip6[34] <= 0 or ip6 proto gre && 16 / 1 ^ 1 <= tcp[tcpflags] and mopdl or byte 4 | 17", 276),
        # dropped by the very pass that finds the divisor
        ("5 + 16 != 0 || ip[25] % 32 % tcp-syn = sctp[21:4] % rarp[18:2] or ! (not (byte 10 < 255))", 12),
        # come to, by some packet
        ("(16 / tcp-syn ^ tcp-syn) != tcp[tcpflags]", 276),
        ("udp or (16 / tcp-syn ^ tcp-syn) != tcp[tcpflags]", 1),
        ("not 0xffffffff > - 1 or (4 % 2 & 1) != tcp[13]", 0),
        ("len / (ip[0] & 0) = 3", 1),
    ],
)
def test_a_divisor_of_zero_is_refused_where_libpcap_comes_to_it(text: str, linktype: int) -> None:
    refused = ""
    try:
        compile(text, linktype=linktype)
    except FilterSyntaxError as error:
        refused = error.reason
    theirs = libpcap.compile(text, linktype).error
    assert ("by zero" in refused) == ("by zero" in theirs), (refused, theirs)


@pytest.mark.parametrize("linktype", [1, 113, 12])
def test_optimising_twice_changes_nothing_that_matters(linktype: int) -> None:
    for text in EVERYDAY + ETHERNET:
        raw = libpcap.compile(text, linktype, optimize=False).insns
        if raw is None:
            continue
        once = optimise(graph_of(raw))
        twice = listing(optimise(once))
        assert len(twice) <= len(listing(once)), text
        assert compare(listing(once), twice, 1, limit=40) is None, text


def test_the_graph_given_is_not_changed() -> None:
    for text in EVERYDAY:
        raw = libpcap.compile(text, optimize=False).insns
        if raw is not None:
            root = graph_of(raw)
            optimise(root)
            assert listing(root) == raw


STATEMENTS = bytes.fromhex(
    "30 28 20 50 48 00 01 60 61 02 03 07 87 b1 80"  # loads, stores, moves
    "04 14 24 34 44 54 a4 64 74 94 84 0c 1c 2c 3c 4c 5c ac 9c"  # arithmetic, but shifts by X
)


def random_graph(rng: random.Random) -> Block:
    """Blocks that share, clobber and depend on A, X and M[], as no expression makes them."""

    def statement() -> Stmt:
        code = rng.choice(STATEMENTS)
        if code in (0x60, 0x61, 0x02, 0x03):
            return Stmt(code, rng.randrange(3))
        if code & 7 == 4 and code & 0xF0 in (0x60, 0x70):
            return Stmt(code, rng.randrange(32))
        if code in (0x00, 0x01) or code & 7 == 4:
            low = 1 if code in (0x34, 0x94) else 0
            return Stmt(code, rng.choice((low, 1, 2, 3, 8, 255, 0xFFFFFFFF)))
        return Stmt(code, rng.randrange(6))

    blocks = [ret(1), ret(0), ret(7)]
    for _ in range(rng.randrange(2, 14)):
        stmts = [statement() for _ in range(rng.randrange(4))]
        code = rng.choice((0x15, 0x15, 0x15, 0x25, 0x35, 0x45, 0x1D, 0x2D))
        recent = blocks[-4:] if rng.random() < 0.8 else blocks
        sides = rng.choice(recent), rng.choice(recent)
        blocks.append(Block(stmts, code, rng.choice((0, 0, 1, 2, 3, 255)), *sides))
    root = blocks[-1]
    # Scratch words are set at the root: libpcap leaves unset ones to chance.
    root.stmts = [Stmt(0x02, word) for word in range(3)] + root.stmts
    return root


def random_chain(rng: random.Random) -> Block:
    """Tests of few values that leave to one place, behind two ways that set scratch words differently."""
    palette: list[list[tuple[int, int]]] = [
        [(0x30, 0)],  # ldb [0]
        [(0x30, 1)],
        [(0x60, 0)],  # ld M[0]
        [(0x30, 1), (0x02, 0)],  # ldb [1], st M[0]
        [(0x60, 0), (0x04, 1)],  # ld M[0], add #1
        [(0x60, 1), (0x02, 0)],
        [(0x61, 1), (0x50, 0)],  # ldx M[1], ldb [x + 0]
        [(0xB1, 2), (0x50, 1)],  # ldxb 4*([2]&0xf), ldb [x + 1]
        [(0x30, 0), (0x07, 0), (0x02, 1)],  # ldb [0], tax, st M[1]
        [(0x87, 0)],  # txa
        [(0x00, 1), (0x0C, 0), (0x07, 0), (0x50, 0), (0x03, 1)],  # ld #1, add x, tax, ldb [x + 0], stx M[1]
        [(0x30, 3), (0x07, 0), (0x00, 2), (0x3C, 0), (0x02, 0), (0x30, 0)],  # M[0] = 2 / [3], ldb [0]
        [],
    ]

    def stmts() -> list[Stmt]:
        return [Stmt(code, k) for code, k in rng.choice(palette)]

    goal: Block = ret(5)
    if rng.random() < 0.6:
        goal = Block(stmts(), 0x15, rng.randrange(4), ret(6), ret(8))
    block: Block = ret(0)
    if rng.random() < 0.3:
        block = Block(stmts(), rng.choice((0x15, 0x1D, 0x25)), rng.randrange(3), ret(9), ret(0))
    for _ in range(rng.randrange(2, 8)):
        sides = (goal, block) if rng.random() < 0.85 else (block, goal)
        block = Block(stmts(), rng.choice((0x15, 0x15, 0x15, 0x45, 0x1D)), rng.randrange(4), *sides)
    for word in range(rng.randrange(3)):
        ways = [
            Block([*stmts(), *stmts(), Stmt(0x30, 0)], 0x15, rng.randrange(4), block, block) for _ in (0, 1)
        ]
        if rng.random() < 0.5:
            ways[0].jt = goal
        block = Block([Stmt(0x30, 1 + word), Stmt(0x02, rng.randrange(2))], 0x15, 1, *ways)
    start = [Stmt(0x30, 4), Stmt(0x02, 0), Stmt(0x02, 1), Stmt(0x30, 0)]
    return Block(start, 0x15, rng.randrange(3), block, rng.choice((block, goal)))


def small_packets(rng: random.Random) -> list[Packet]:
    """All bytes small, so that values coincide."""
    return [Packet(bytes(rng.choices((0, 1, 2, 3, 7), k=80)), 80) for _ in range(60)]


def test_random_graphs_keep_their_verdict() -> None:
    number = seed(43)
    rng = random.Random(number)
    verdicts = set()
    for turn in range(1500):
        root = random_graph(rng) if turn % 5 == 0 else random_chain(rng)
        before = listing(root)
        try:
            after = listing(optimise(root))
        except FilterSyntaxError:
            continue
        left, right = by_libpcap(before), by_skep(after)
        for packet in packets([before, after], turn, 40) if turn % 5 == 0 else small_packets(rng):
            if not trace(before, packet).fell:
                verdicts.add(left(*packet))
                assert left(*packet) == right(*packet), (number, turn, before, after, packet)
    assert verdicts == {0, 1, 5, 6, 7, 8, 9}


@pytest.mark.parametrize("offset", [0, 4, 20, 60])
def test_an_index_that_was_loaded_at_before_takes_a_constant_offset(offset: int) -> None:
    """AVS tells its length in 32 bits: X + 20 could wrap, but for the load at X that every way passes."""
    text = f"ether dst 01:00:0c:cc:cc:cc and ether[{offset}:2] == 0x2000"
    assert differs(text, 163) is None
