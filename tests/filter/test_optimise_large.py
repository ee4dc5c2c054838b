"""Huge graphs: verdicts, size and sharing. (Listings are libpcap's only for smaller ones.)"""

from __future__ import annotations

import random

import pytest

from skep.filter import compile as compile_filter
from skep.filter.ir import Block, Stmt, ret
from skep.filter.optimise import EXACT_BLOCKS, optimise
from skep.filter.optimise.large import optimise_large
from skep.isa import classic as c
from tests.support import libpcap
from tests.support.directed import Packet, by_libpcap, by_skep, compare, packets, seed, trace
from tests.support.graphs import Program, graph_of, listing
from tests.support.sentences import primitive, relation, sentence


def raw_code(text: str, linktype: int = 1) -> list[tuple[int, int, int, int]]:
    insns = libpcap.compile(text, linktype, optimize=False).insns
    assert insns is not None
    return insns


def addresses(rng: random.Random, count: int) -> list[str]:
    return [
        f"{rng.choice((10, 172, 192))}.{rng.randrange(4)}.{rng.randrange(256)}.{i & 255}"
        for i in range(count)
    ]


def hit_packets(program: Program, hosts: list[str], rng: random.Random) -> list[Packet]:
    """IPv4, ARP and RARP packets from, to and near the hosts."""
    found = []
    for host in rng.sample(hosts, min(len(hosts), 60)):
        number = int.from_bytes(bytes(map(int, host.split("."))), "big")
        for ethertype, offset in (
            (0x800, 26),
            (0x800, 30),
            (0x806, 28),
            (0x806, 38),
            (0x8035, 38),
            (0x86DD, 26),
        ):
            for near in (0, 1, -1):
                data = bytearray(rng.randbytes(80))
                data[12:14] = ethertype.to_bytes(2, "big")
                data[offset : offset + 4] = (number + near & 0xFFFFFFFF).to_bytes(4, "big")
                found.append(Packet(bytes(data), 80))
    return found


def check(text: str, linktype: int, number: int, limit: int = 60) -> list[tuple[int, int, int, int]]:
    """The optimised code, whose verdicts have been compared with the unoptimised code's."""
    raw = raw_code(text, linktype)
    result = optimise_large(graph_of(raw))
    assert result is not None
    mine = listing(result)
    difference = compare(raw, mine, number, limit=limit)
    assert difference is None, (text, linktype, str(difference))
    return mine


@pytest.mark.parametrize("side", ["", "src ", "dst ", "src and dst ", "not "])
@pytest.mark.parametrize("joint", [" or ", " and not "])
def test_lists_of_hosts(side: str, joint: str) -> None:
    number = seed(51)
    rng = random.Random(number)
    hosts = addresses(rng, 150)
    text = joint.join(f"{side}host {host}" for host in hosts)
    raw = raw_code(text)
    mine = listing(optimise(graph_of(raw)))
    left, right = by_libpcap(raw), by_skep(mine)
    verdicts = set()
    for packet in hit_packets(raw, hosts, rng):
        verdicts.add(left(*packet))
        assert left(*packet) == right(*packet), (number, text, packet)
    if joint == " or " and side in ("", "src ", "dst "):
        assert len(verdicts) == 2
    assert compare(raw, mine, number, limit=30) is None
    assert len(mine) < (len(raw) / 3 if side in ("", "src ", "dst ") else len(raw) / 2)


@pytest.mark.parametrize(
    "text",
    [
        " or ".join(f"tcp port {port}" for port in range(1000, 1100)),
        " or ".join(f"port {port}" for port in range(1, 60)),
        " or ".join(f"portrange {port}-{port + 5}" for port in range(1, 300, 10)),
        " or ".join(f"net 10.{i}.0.0/16" for i in range(120)),
        " or ".join(f"net 10.{4 * i}.0.0/{14 + i % 3}" for i in range(60)),
        "tcp and (" + " or ".join(f"host 10.0.{i}.1" for i in range(80)) + ") and not port 22",
        "(" + " or ".join(f"host 10.0.0.{i}" for i in range(60)) + ") and (" + " or ".join(
            f"port {port}" for port in range(40)) + ")",
        " or ".join(f"(host 10.0.0.{i} and port {i})" for i in range(1, 60)),
        " or ".join(f"ether host 00:11:22:33:44:{i:02x}" for i in range(200)),
        " or ".join(f"ip6 host fe80::{i:x}" for i in range(120)),
        " and ".join(f"ip[{i}] != {i}" for i in range(10, 60)) + " and " + " and ".join(
            f"ip[8] != {i}" for i in range(200)),
        " or ".join(f"ip[2:2] / ip[8] = {i}" for i in range(150)),
        " or ".join(f"ip[{i % 20}] & {1 + i % 3} = {i}" for i in range(300)),
        " or ".join(f"tcp[{i % 20}:2] > {i * 100}" for i in range(200)),
        " or ".join(f"ip[{i % 9}:4] << {i % 31} + {i} != {i} + {i % 7}" for i in range(150)),
        " and ".join(f"ip[{i % 9}] - {i % 5} != {i % 256}" for i in range(300)),
        "vlan and (" + " or ".join(f"host 10.0.{i}.1" for i in range(80)) + ")",
        "mpls and (" + " or ".join(f"host 10.0.{i}.1" for i in range(80)) + ")",
    ],
)  # fmt: skip
def test_other_lists(text: str) -> None:
    raw = raw_code(text)
    mine = check(text, 1, 7)
    assert len(mine) <= len(raw)


def test_random_sentences() -> None:
    """The strategy for huge graphs is right for small ones as well."""
    number = seed(52)
    rng = random.Random(number)
    compared = 0
    for turn in range(150):
        text = (
            sentence(rng, rng.choice((2, 4, 8, 16))) if turn % 2 else f"{relation(rng)} or {primitive(rng)}"
        )
        linktype = rng.choice((1, 12, 113, 117))
        if libpcap.compile(text, linktype, optimize=False).insns is None:
            continue
        if linktype == 117 and optimise_large(graph_of(raw_code(text, linktype))) is None:
            continue  # libpcap's arithmetic overwrote the scratch word that holds the header's length
        check(text, linktype, turn, limit=40)
        compared += 1
    assert compared > 75


def test_truncated_packets_differ_no_more_than_libpcaps_do() -> None:
    """A grouped list reads its fields in another order, as libpcap's optimised code does; nothing else."""
    rng = random.Random(5)
    hosts = addresses(rng, 60)
    text = " or ".join(f"host {host}" for host in hosts)
    raw = raw_code(text)
    mine = by_skep(listing(optimise(graph_of(raw))))
    theirs = by_libpcap(libpcap.compile(text).insns or [])
    for whole in hit_packets(raw, hosts, rng)[:200]:
        for cut in (11, 13, 14, 27, 30, 31, 34, 42):
            packet = Packet(whole.data[:cut], 80)
            assert mine(*packet) == theirs(*packet), packet


def test_a_thousand_hosts_fit_the_kernels_limit() -> None:
    text = " or ".join(f"host 10.{i >> 6 & 255}.{i & 63}.{i * 7 & 255}" for i in range(1000))
    code = compile_filter(text).insns
    assert len(code) <= c.BPF_MAXINSNS
    # and a packet is answered after a balanced search, not after a thousand comparisons
    packet = Packet(bytes.fromhex("00" * 12 + "0800" + "45" + "00" * 50), 65)
    assert len(trace(code, packet).branches) < 60


def test_blocks_that_depend_on_each_other_are_left_alone() -> None:
    """Scratch words set on the way, not at the root: the graph comes back as it was."""
    accept, block = ret(1), ret(0)
    for i in range(EXACT_BLOCKS + 5):
        block = Block([Stmt(c.BPF_LD | c.BPF_MEM, 3)], 0x15, i, accept, block)
    root = Block([Stmt(c.BPF_LD | c.BPF_ABS | c.BPF_B, 0), Stmt(c.BPF_ST, 3)], 0x15, 999, accept, block)
    outer = Block([Stmt(c.BPF_LD | c.BPF_ABS | c.BPF_B, 1)], 0x15, 1, accept, root)
    assert optimise(outer) is outer
    # set at the root alone it is fine
    mine, before = listing(optimise(root)), listing(root)
    for packet in packets([before, mine], 1, 100):
        assert by_libpcap(before)(*packet) == by_skep(mine)(*packet)
    assert len(mine) < len(before)


def test_a_sum_of_many_terms_grows_in_proportion() -> None:
    """Ten times the terms are ten times the work: counted in statements looked at, not in seconds."""
    from skep.filter.optimise.values import Numbering

    def work(terms: int) -> int:
        count = 0
        run = Numbering.run

        def counted(self: Numbering, stmts: list[list[int]], row: list[int]) -> None:
            nonlocal count
            count += len(stmts)
            run(self, stmts, row)

        Numbering.run = counted  # type: ignore[method-assign]
        try:
            program = compile_filter("+".join(f"ip[{at % 97}]" for at in range(terms)) + " = 3")
        finally:
            Numbering.run = run  # type: ignore[method-assign]
        assert len(program.insns) < 6 * terms + 20
        return count

    assert work(2000) < 12 * work(200)


def test_beyond_all_measure_nothing_is_optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "+".join(["len"] * 300) + " = 3"
    plain = compile_filter(text, optimise=False).insns
    assert len(compile_filter(text).insns) < len(plain) / 3
    monkeypatch.setattr("skep.filter.optimise.MOST_STATEMENTS", 1000)
    assert compile_filter(text).insns == plain
