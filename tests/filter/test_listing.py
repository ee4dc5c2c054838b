"""Listings equal to libpcap's: a table of expressions over link types, and generated ones."""

from __future__ import annotations

import functools
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from skep.errors import FilterSyntaxError
from skep.filter import Names, compile
from tests.support import libpcap
from tests.support.directed import compare
from tests.support.expressions import COMMON_LINKTYPES, LINKTYPES, Expressions, seed
from tests.support.oracles import absent, tool

TABLE = Path(__file__).with_name("expressions.txt")

#: 802.11 and pflog: headers whose length is computed first.
VARIABLE = frozenset({105, 117, 119, 127, 163, 192})


def on_purpose(linktype: int, text: str) -> bool:
    """Where we differ because libpcap 1.10.3 is wrong whatever the packet.

    It takes the dollar sign of an ARCNET address for a digit, and computes the wrong header's length where a
    tunnel's headers are within ones of variable length.
    """
    if linktype in (7, 129):
        return "$" in text
    return linktype in VARIABLE and ("geneve" in text or "pppoes" in text)


@pytest.fixture(autouse=True)
def libpcap_1_10_3() -> None:
    """Listings differ between versions of libpcap; the one compared with is Debian 12's."""
    if libpcap.version() != (1, 10, 3):
        absent(f"libpcap 1.10.3 (here is {'.'.join(map(str, libpcap.version()))})")


@functools.cache
def names() -> Names:
    return Names()


def table() -> list[tuple[int, str]]:
    """(link type, expression) pairs of the file."""
    pairs: list[tuple[int, str]] = []
    linktypes: list[int] = []
    for line in TABLE.read_text().splitlines():
        if line.startswith("@ "):
            linktypes = [int(word) for word in line[2:].split()]
        elif line and not line.startswith("#"):
            pairs += ((linktype, line) for linktype in linktypes)
    return pairs


def ours(text: str, linktype: int, optimise: bool) -> tuple[list[libpcap.Quad] | None, str]:
    try:
        program = compile(text, linktype=linktype, optimise=optimise, names=names())
    except FilterSyntaxError as error:
        return None, str(error)
    return [(code, jt, jf, k) for code, jt, jf, k in program.insns], ""


def verdict(text: str, linktype: int, optimise: bool) -> str | None:
    """None when both have the same listing or both refuse; else what differs."""
    mine, problem = ours(text, linktype, optimise)
    theirs = libpcap.compile(text, linktype, optimize=optimise)
    if mine is None or theirs.insns is None:
        if mine is None and theirs.insns is None:
            return None
        if "name servers are not asked" in problem:
            return None  # a name server answered libpcap
        return f"here: {problem or 'accepted'}; libpcap: {theirs.error or 'accepted'}"
    return None if mine == theirs.insns else f"{len(mine)} instructions, libpcap {len(theirs.insns)}"


def test_the_table_is_worth_comparing() -> None:
    pairs = table()
    assert len({text for _, text in pairs}) >= 400
    assert len({linktype for linktype, _ in pairs}) >= 30
    accepted = sum(libpcap.compile(text, linktype).insns is not None for linktype, text in pairs)
    assert 0.4 < accepted / len(pairs) < 0.95


@pytest.mark.parametrize("optimise", [False, True], ids=["-O", "optimised"])
@pytest.mark.parametrize("linktype", sorted({linktype for linktype, _ in table()}))
def test_table(linktype: int, optimise: bool) -> None:
    wrong = {
        text: problem
        for number, text in table()
        if number == linktype
        and not on_purpose(number, text)
        and (problem := verdict(text, linktype, optimise))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("linktype", "text"),
    [(7, "link host $05"), (129, "link src $5"), (105, "geneve and ip"), (127, "pppoes and ip")],
)
def test_what_differs_on_purpose_still_does(linktype: int, text: str) -> None:
    assert on_purpose(linktype, text)
    assert verdict(text, linktype, True) is not None


def test_every_link_type() -> None:
    """All that libpcap knows, with a word for each way to look at one."""
    words = ("ip", "ip6", "arp", "ipx", "iso", "host 10.0.0.1", "port 80", "tcp[13] = 2", "ether[0] = 1")
    more = (
        "vlan and ip",
        "mpls and ip6",
        "stp",
        "inbound",
        "ifindex 3",
        "broadcast",
        "multicast",
        "llc",
        "isis",
    )
    wrong = {
        (linktype, text): problem
        for linktype in (*range(20), 50, 51, 99, 100, 103, *range(104, 292))
        for text in (*words, *more)
        if (problem := verdict(text, linktype, False))
    }
    assert not wrong


def some_linktype(rng: random.Random) -> int:
    return rng.choice((*[1] * 12, *COMMON_LINKTYPES, *LINKTYPES))


def test_random_expressions_unoptimised() -> None:
    """Accepted or refused like libpcap's, and every accepted one with the same listing."""
    number = seed()
    source, rng = Expressions(number), random.Random(number)
    outcomes: Counter[str] = Counter()
    for turn in range(4000):
        text = source.soup() if turn % 10 == 9 else source.one()
        linktype = some_linktype(rng)
        if on_purpose(linktype, text):
            continue
        problem = verdict(text, linktype, False)
        assert problem is None, (number, linktype, text, problem)
        outcomes["refused" if libpcap.compile(text, linktype, optimize=False).insns is None else "equal"] += 1
    assert outcomes["equal"] > 1000, outcomes
    assert outcomes["refused"] > 1000, outcomes


def test_random_expressions_optimised() -> None:
    """The same listing; or another one that is right where libpcap's optimiser goes other ways."""
    number = seed(20230804)
    source, rng = Expressions(number), random.Random(number)
    outcomes: Counter[str] = Counter()
    for turn in range(1500):
        text, linktype = source.expression(rng.choice((0, 1, 2))), some_linktype(rng)
        raw, _ = ours(text, linktype, False)
        mine, _ = ours(text, linktype, True)
        if raw is None or on_purpose(linktype, text):
            continue
        if verdict(text, linktype, True) is None:
            outcomes["equal"] += 1
            continue
        outcomes["different"] += 1
        reject = [(6, 0, 0, 0)]
        difference = compare(raw, mine or reject, turn, limit=60)
        assert difference is None, (number, linktype, text, str(difference))
    assert outcomes["equal"] > 400, (number, outcomes)
    assert outcomes["different"] <= 0.05 * outcomes["equal"], (number, outcomes)


@pytest.mark.parametrize(
    "text",
    [
        "vlan",
        "vlan 5",
        "vlan 5 and tcp port 80",
        "vlan and vlan 7 and ip",
        "inbound and vlan",
        "not vlan and ip",
    ],
)
@pytest.mark.parametrize("optimise", [False, True], ids=["-O", "optimised"])
def test_live_listings(text: str, optimise: bool) -> None:
    """On a live socket the outer VLAN tag may be in the packet's metadata."""
    options = [] if optimise else ["-O"]
    done = subprocess.run(
        [tool("tcpdump"), "-i", "lo", *options, "-ddd", text], capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        absent(f"the right to capture on lo ({done.stderr.strip()})")
    theirs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()[1:]]
    mine = compile(text, live=True, optimise=optimise).insns
    if optimise and text.startswith("vlan 5"):
        # Two ways to the tag meet inside one block, and our optimiser leaves such programs alone.
        assert mine == compile(text, live=True, optimise=False).insns
        return
    assert [tuple(insn) for insn in mine] == theirs


def test_savefile_listings(tmp_path: Path) -> None:
    """Reading a file, the address families of BSD loopback headers are those of all the BSDs."""
    header = bytes.fromhex("d4c3b2a1 02000400 00000000 00000000 00000400 00000000")
    for linktype, swapped in ((0, False), (0, True), (108, False), (109, True), (1, False)):
        order = "big" if swapped else "little"
        data = header[:20] + linktype.to_bytes(4, "little")
        if swapped:
            data = b"".join(
                data[at : at + size][::-1]
                for at, size in ((0, 4), (4, 2), (6, 2), (8, 4), (12, 4), (16, 4), (20, 4))
            )
        file = tmp_path / f"{linktype}-{order}.pcap"
        file.write_bytes(data)
        for text in ("ip", "ip6", "host ::1", "tcp port 80", "arp"):
            done = subprocess.run(
                [tool("tcpdump"), "-r", str(file), "-O", "-ddd", text],
                capture_output=True,
                text=True,
                timeout=60,
            )
            theirs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()[1:]]
            program = compile(
                text, linktype=linktype, savefile=True, swapped=swapped, optimise=False, snaplen=262144
            )
            mine = [tuple(insn) for insn in program.insns]
            assert mine == theirs, (linktype, swapped, text)


@pytest.mark.parametrize("text", ["inbound", "outbound", "ifindex 3"])
def test_savefiles_have_no_metadata(text: str) -> None:
    with pytest.raises(FilterSyntaxError, match="captures of this link type"):
        compile(text, savefile=True)
    assert compile(text, linktype=276, savefile=True).insns


@pytest.mark.parametrize("netmask", [0xFFFFFF00, 0xFFFF0000, 0xFFFFFFFF - 1, 0, 0xFF00FF00])
@pytest.mark.parametrize("linktype", [1, 12, 105, 113])
def test_ip_broadcast(netmask: int, linktype: int) -> None:
    for text in ("ip broadcast", "not ip broadcast and udp", "ip broadcast or broadcast"):
        theirs = libpcap.compile(text, linktype, optimize=False, netmask=netmask).insns
        try:
            mine = compile(text, linktype=linktype, optimise=False, netmask=netmask).insns
        except FilterSyntaxError:
            assert theirs is None
        else:
            assert [tuple(insn) for insn in mine] == theirs
