"""What goes beyond tcpdump, on packets: sets of addresses, scoped tunnels, IPv6 extension headers, VXLAN."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skep.errors import FilterSyntaxError
from skep.filter import compile
from skep.filter.check import check
from skep.isa.classic import SKF_AD_OFF, SKF_AD_VLAN_TAG, SKF_AD_VLAN_TAG_PRESENT, ClassicInsn
from tests.support import libpcap
from tests.support.directed import compare
from tests.support.expressions import Expressions, seed


def ether(kind: int, payload: bytes) -> bytes:
    return bytes.fromhex("020000000001020000000002") + kind.to_bytes(2, "big") + payload


def ip4(src: str, dst: str, proto: int = 6, payload: bytes = b"") -> bytes:
    head = (
        bytes.fromhex("4500")
        + (20 + len(payload)).to_bytes(2, "big")
        + bytes(4)
        + bytes([64, proto])
        + bytes(2)
    )
    return head + ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed + payload


def ip6(src: str, dst: str, proto: int = 6, payload: bytes = b"") -> bytes:
    head = bytes.fromhex("60000000") + len(payload).to_bytes(2, "big") + bytes([proto, 64])
    return head + ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed + payload


def arp(src: str, dst: str) -> bytes:
    senders = ipaddress.IPv4Address(src).packed + bytes(6) + ipaddress.IPv4Address(dst).packed
    return bytes.fromhex("0001080006040001") + bytes(6) + senders


def ports(src: int, dst: int, length: int = 20) -> bytes:
    return src.to_bytes(2, "big") + dst.to_bytes(2, "big") + bytes(length - 4)


def matches(text: str, packet: bytes, linktype: int = 1, **options: bool) -> bool:
    """The same verdict optimised and not."""
    verdicts = set()
    for optimise in (False, True):
        program = compile(text, linktype=linktype, optimise=optimise, **options)  # type: ignore[arg-type]
        verdicts.add(libpcap.run(program.insns, packet))
    assert len(verdicts) == 1, text
    return bool(verdicts.pop())


# --- sets ------------------------------------------------------------------------------------------

DIRECTIONS: dict[str, Callable[[bool, bool], bool]] = {
    "host": lambda src, dst: src or dst,
    "src host": lambda src, dst: src,
    "dst host": lambda src, dst: dst,
    "src and dst host": lambda src, dst: src and dst,
    "src or dst net": lambda src, dst: src or dst,
}


def test_sets_of_addresses(tmp_path: Path) -> None:
    number = seed(11)
    rng = random.Random(number)
    singles = [ipaddress.IPv4Address(rng.getrandbits(32)) for _ in range(60)]
    blocks = [
        ipaddress.IPv4Network((rng.getrandbits(32) & -1 << 32 - bits & 0xFFFFFFFF, bits))
        for bits in (3, 8, 12, 16, 20, 24, 25, 30, 31, 32)
    ]
    sixes = [ipaddress.IPv6Address(rng.getrandbits(128)) for _ in range(20)]
    sixes += [ipaddress.IPv6Address(int(sixes[0]) ^ 1 << bit) for bit in (0, 1, 31, 32, 40, 64, 96, 127)]
    six_blocks = [
        ipaddress.IPv6Network((rng.getrandbits(128) & -1 << 128 - bits & (1 << 128) - 1, bits))
        for bits in (7, 16, 32, 33, 48, 64, 65, 96, 100, 127)
    ]
    members = [*singles, *blocks, *sixes, *six_blocks]
    rng.shuffle(members)
    file = tmp_path / "set.txt"
    file.write_text("# a set\n\n" + "\n".join(f"{member}  # {n}" for n, member in enumerate(members)))

    def inside(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        if isinstance(address, ipaddress.IPv4Address):
            return address in singles or any(address in block for block in blocks)
        return address in sixes or any(address in block for block in six_blocks)

    fours: list[ipaddress.IPv4Address] = [*singles]
    for block in blocks:
        fours += (block[0], block[-1])
        fours += (
            ipaddress.IPv4Address(int(a) & 0xFFFFFFFF)
            for a in (int(block[0]) - 1 & 0xFFFFFFFF, int(block[-1]) + 1 & 0xFFFFFFFF)
        )
    fours += (ipaddress.IPv4Address(rng.getrandbits(32)) for _ in range(30))
    others: list[ipaddress.IPv6Address] = [*sixes]
    for six in six_blocks:
        edge = int(six[-1]) + 1 & (1 << 128) - 1
        others += (
            six[0],
            six[-1],
            ipaddress.IPv6Address(edge),
            ipaddress.IPv6Address(int(six[0]) - 1 & (1 << 128) - 1),
        )
    for direction, expected in DIRECTIONS.items():
        program = libpcap.Filter(compile(f"{direction} in {file}").insns)
        raw = libpcap.Filter(compile(f"{direction} in {file}", optimise=False).insns)
        seen = set()
        for _ in range(300):
            a, b = rng.choice(fours), rng.choice(fours)
            want = expected(inside(a), inside(b))
            seen.add(want)
            for packet in (
                ether(0x800, ip4(str(a), str(b))),
                ether(0x806, arp(str(a), str(b))),
                ether(0x8035, arp(str(a), str(b))),
            ):
                assert bool(program(packet)) == bool(raw(packet)) == want, (number, direction, a, b)
            c, d = rng.choice(others), rng.choice(others)
            want = expected(inside(c), inside(d))
            packet = ether(0x86DD, ip6(str(c), str(d)))
            assert bool(program(packet)) == bool(raw(packet)) == want, (number, direction, c, d)
        assert seen == {True, False}
        assert not program(ether(0x88CC, bytes(60)))


def test_a_set_is_the_or_of_its_hosts(tmp_path: Path) -> None:
    """On directed packets, and for link types with headers of variable length."""
    file = tmp_path / "hosts"
    hosts = ["10.0.0.1", "10.0.0.2", "192.168.7.7"]
    file.write_text("\n".join(hosts))
    for linktype in (1, 12, 113, 105, 127, 117, 9, 0):
        for qualifier in ("ip src", "ip dst", "ip src or dst", "ip src and dst"):
            listed = compile(f"{qualifier} host in {file} and tcp", linktype=linktype, optimise=False).insns
            spelled = compile(
                "(" + " or ".join(f"{qualifier} host {host}" for host in hosts) + ") and tcp",
                linktype=linktype,
                optimise=False,
            ).insns
            if qualifier == "ip src and dst":  # both in the set, not both the same
                either = " or ".join(f"ip src host {host}" for host in hosts)
                other = either.replace("src", "dst")
                spelled = compile(
                    f"({either}) and ({other}) and tcp", linktype=linktype, optimise=False
                ).insns
            assert compare(spelled, listed, linktype, limit=80) is None, (linktype, qualifier)


def test_large_sets(tmp_path: Path) -> None:
    """100,000 addresses: a program of bounded depth."""
    rng = random.Random(3)
    addresses = sorted({rng.getrandbits(32) for _ in range(100_000)})
    file = tmp_path / "many"
    file.write_text("\n".join(str(ipaddress.IPv4Address(a)) for a in addresses))
    program = compile(f"ip src host in {file}", optimise=False)
    steps = 0
    known = set(addresses)
    run = libpcap.Filter(program.insns)
    for _ in range(500):
        address = rng.choice((rng.choice(addresses), rng.getrandbits(32), rng.choice(addresses) ^ 1))
        packet = ether(0x800, ip4(str(ipaddress.IPv4Address(address)), "1.2.3.4"))
        assert bool(run(packet)) == (address in known)
        steps = max(steps, _steps(program.insns, packet))
    assert steps < 60


def _steps(insns: tuple[ClassicInsn, ...], packet: bytes) -> int:
    """Instructions executed for a packet, loads of packet words and comparisons only."""
    pc = count = accumulator = index = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = insns[pc]
        pc += 1
        count += 1
        match code:
            case 0x06:
                return count
            case 0x05:
                pc += k
            case 0x15 | 0x25 | 0x35:
                taken = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[code]
                pc += jt if taken else jf
            case 0x00:
                accumulator = k
            case 0x02:
                memory[k] = accumulator
            case 0x61:
                index = memory[k]
            case 0x20 | 0x28 | 0x40:
                size = 2 if code == 0x28 else 4
                at = k + (index if code == 0x40 else 0)
                accumulator = int.from_bytes(packet[at : at + size], "big")
            case _:
                raise AssertionError(hex(code))


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("10.0.0.1\n10.0.0.256\n", 2, "no IPv4 or IPv6"),
        ("10.0.0.1/24\n", 1, "host bits"),
        ("10.0.0.0/33", 1, "prefix length"),
        ("\n\n2001:db8::1/32", 3, "host bits"),
        ("10.1", 1, "no IPv4 or IPv6"),
        ("x" * 1000, 1, "xxx..."),
        ("# nothing\n", None, "holds no address"),
    ],
)
def test_refused_sets(tmp_path: Path, content: str, line: int | None, reason: str) -> None:
    file = tmp_path / "set"
    file.write_text(content)
    with pytest.raises(FilterSyntaxError, match=reason) as caught:
        compile(f"tcp and host in {file}")
    if line is not None:
        assert (caught.value.file, caught.value.line) == (str(file), line)
        assert str(caught.value).startswith(f"{file}:{line}:1: ")


def test_set_qualifiers(tmp_path: Path) -> None:
    file = tmp_path / "set"
    file.write_text("10.0.0.0/8\n")
    with pytest.raises(FilterSyntaxError, match="No such file"):
        compile("host in /nonexistent/file")
    with pytest.raises(FilterSyntaxError, match="'tcp' has no addresses"):
        compile(f"tcp host in {file}")
    with pytest.raises(FilterSyntaxError, match="hardware"):
        compile(f"addr1 host in {file}", linktype=105)
    # Behind labels only IP can be.
    assert matches(
        f"mpls and host in {file}", ether(0x8847, bytes.fromhex("000641ff") + ip4("10.1.1.1", "1.1.1.1"))
    )
    assert matches(f"not (src host in {file})", ether(0x800, ip4("11.1.1.1", "10.1.1.1")))
    assert matches(
        f"vlan and net in {file}", ether(0x8100, bytes.fromhex("00050800") + ip4("1.1.1.1", "10.1.1.1"))
    )


# --- tunnels ---------------------------------------------------------------------------------------


def test_scoped_tunnels() -> None:
    """What a tunnel moves ends with its parenthesis; without the option it goes on, as in tcpdump."""
    tagged = ether(0x8100, bytes.fromhex("00050800") + ip4("10.0.0.1", "10.0.0.2", 6, ports(1, 80)))
    plain = ether(0x800, ip4("10.0.0.1", "10.0.0.2", 6, ports(1, 80)))
    text = "(vlan 5 and tcp port 80) or tcp port 80"
    assert matches(text, tagged, scoped_tunnels=True)
    assert matches(text, plain, scoped_tunnels=True)
    assert not matches(text, plain)
    labelled = ether(0x8847, bytes.fromhex("000641ff") + ip4("10.0.0.1", "10.0.0.2", 6, ports(1, 80)))
    both = "(mpls 100 and tcp port 80) or (vlan and tcp port 80) or (pppoes and tcp) or tcp port 80"
    for packet in (tagged, plain, labelled):
        assert matches(both, packet, scoped_tunnels=True)
    inner = ether(0x800, ip4("9.9.9.9", "8.8.8.8", 17, ports(5, 53, 8)))
    wrapped = geneve(7, 0x6558, inner)
    text = "(geneve 7 and udp port 53) or (geneve 8 and tcp) or (src host 10.0.0.1 and tcp)"
    for packet, want in ((wrapped, True), (geneve(8, 0x6558, inner), False), (plain, True)):
        assert matches(text, packet, scoped_tunnels=True) is want
    # Nested, and no parentheses at all: the same code as without the option.
    assert compile("vlan and ip", scoped_tunnels=True).insns == compile("vlan and ip").insns


def test_scoped_tunnels_change_nothing_without_tunnels() -> None:
    number = seed(6)
    source = Expressions(number)
    compared = 0
    for _ in range(400):
        text = source.expression(2)
        if any(word in text for word in ("vlan", "mpls", "pppoes", "geneve", "lane")):
            continue
        for linktype in (1, 105):
            try:
                usual = compile(text, linktype=linktype, optimise=False).insns
            except FilterSyntaxError:
                continue
            assert compile(text, linktype=linktype, optimise=False, scoped_tunnels=True).insns == usual, (
                number,
                text,
            )
            compared += 1
    assert compared > 150


def geneve(vni: int, kind: int, inner: bytes, options: bytes = b"", port: int = 6081) -> bytes:
    head = bytes([len(options) // 4, 0]) + kind.to_bytes(2, "big") + vni.to_bytes(3, "big") + b"\0" + options
    return ether(0x800, ip4("10.0.0.1", "10.0.0.2", 17, ports(4000, port, 8) + head + inner))


def vxlan(vni: int, inner: bytes, flags: int = 8, six: bool = False) -> bytes:
    payload = ports(4000, 4789, 8) + bytes([flags, 0, 0, 0]) + vni.to_bytes(3, "big") + b"\0" + inner
    if six:
        return ether(0x86DD, ip6("fe80::1", "fe80::2", 17, payload))
    return ether(0x800, ip4("10.0.0.1", "10.0.0.2", 17, payload))


@pytest.mark.parametrize("six", [False, True])
def test_vxlan(six: bool) -> None:
    inner = ether(0x800, ip4("9.9.9.9", "8.8.8.8", 6, ports(5, 443)))
    frame = vxlan(42, inner, six=six)
    for text in (
        "vxlan",
        "vxlan 42",
        "vxlan (42) and tcp port 443",
        "vxlan and ether host 2:0:0:0:0:1",
        "vxlan and src host 9.9.9.9",
        "vxlan and ip[9] = 6 and tcp[2:2] = 443",
        "vxlan and not arp",
    ):
        assert matches(text, frame), text
    for text in (
        "vxlan 43",
        "vxlan and udp",
        "vxlan and src host 10.0.0.1",
        "vxlan and vlan",
        "vxlan and ip6",
    ):
        assert not matches(text, frame), text
    assert not matches("vxlan", vxlan(42, inner, flags=0, six=six))
    tagged = vxlan(42, ether(0x8100, bytes.fromhex("00070800") + inner[14:]), six=six)
    assert matches("vxlan 42 and vlan 7 and tcp port 443", tagged)
    with pytest.raises(FilterSyntaxError, match="16777215"):
        compile("vxlan 16777216")


@pytest.mark.parametrize("qos", [False, True])
def test_tunnels_over_wireless(qos: bool) -> None:
    """The outer header's length is computed, not the inner one's as in libpcap 1.10.3."""
    control = bytes.fromhex("8800" if qos else "0800")
    wlan = control + bytes(22) + bytes(2 if qos else 0) + bytes.fromhex("aaaa03000000")
    radiotap = bytes.fromhex("0000080000000000")
    inner = ether(0x800, ip4("9.9.9.9", "8.8.8.8", 6, ports(5, 443)))
    for header, linktype in ((b"", 105), (radiotap, 127)):
        for frame, word in ((geneve(7, 0x6558, inner), "geneve 7"), (vxlan(7, inner), "vxlan 7")):
            packet = header + wlan + frame[12:]
            assert matches(f"{word} and tcp port 443 and ether src 2:0:0:0:0:2", packet, linktype)
            assert not matches(f"{word} and udp", packet, linktype)
        session = bytes.fromhex("8864 11 00 0005 0030 0021") + ip4("9.9.9.9", "8.8.8.8", 6, ports(5, 443))
        assert matches("pppoes 5 and tcp port 443", header + wlan + session, linktype)
        assert not matches("pppoes 5 and ip6", header + wlan + session, linktype)


def test_a_tunnel_that_is_not_there_sets_nothing() -> None:
    """Scratch words are set on every way to them: Linux takes no other programs."""
    for text in ("vxlan or ip", "not vxlan and tcp port 80", "vlan 5 and vxlan 3 or udp"):
        for live in (False, True):
            for optimise in (False, True):
                check(compile(text, live=live, optimise=optimise).insns, "linux")
    for text in (
        "geneve or tcp port 80",
        "not geneve 5 and arp or geneve and ip",
        "geneve and tcp or vlan 7",
    ):
        check(compile(text, live=True).insns, "linux")
    assert matches(
        "geneve or tcp port 80", ether(0x800, ip4("1.1.1.1", "2.2.2.2", 6, ports(1, 80))), live=True
    )
    assert compile("geneve and ip", live=True).insns == compile("geneve and ip").insns
    assert matches("vxlan or tcp port 80", ether(0x800, ip4("1.1.1.1", "2.2.2.2", 6, ports(1, 80))))


def test_live_vlan_metadata() -> None:
    """The outer tag may be in the packet or beside it; offsets move only for the former."""
    program = compile("vlan 5 and tcp port 80", live=True)
    loads = {insn.k - (1 << 32) - SKF_AD_OFF for insn in program.insns if insn.code == 0x30 and insn.k >> 31}
    assert loads == {SKF_AD_VLAN_TAG_PRESENT, SKF_AD_VLAN_TAG}
    scoped = compile("(vlan 5 and tcp) or (vlan 6 and udp) or icmp", live=True, scoped_tunnels=True)
    tagged = ether(0x8100, bytes.fromhex("00060800") + ip4("1.1.1.1", "2.2.2.2", 17, bytes(8)))
    plain = ether(0x800, ip4("1.1.1.1", "2.2.2.2", 1, bytes(8)))
    # Metadata says "no tag beside the packet" when the load is made to give 0.
    insns = [ClassicInsn(0, 0, 0, 0) if i.code == 0x30 and i.k >> 31 else i for i in scoped.insns]
    assert libpcap.run(insns, tagged)
    assert libpcap.run(insns, plain)
    assert not libpcap.run(insns, ether(0x8100, bytes.fromhex("00050800") + ip4("1.1.1.1", "2.2.2.2", 17)))


# --- IPv6 extension headers --------------------------------------------------------------------------

TCP80 = ports(1024, 80)


def chain(*headers: tuple[int, bytes], last: int = 6, payload: bytes = TCP80) -> bytes:
    """IPv6 with extension headers: (type, the bytes behind the next-header field)."""
    kinds = [kind for kind, _ in headers] + [last]
    body = b"".join(
        bytes([following]) + rest for (_, rest), following in zip(headers, kinds[1:], strict=True)
    )
    return ether(0x86DD, ip6("fe80::1", "fe80::2", kinds[0], body + payload))


HOP = (0, bytes([0]) + bytes(6))
LONG = (60, bytes([2]) + bytes(22))
ROUTING = (43, bytes([1]) + bytes(14))
FIRST = (44, bytes([0, 0x00, 0x01]) + bytes(4))
LATER = (44, bytes([0, 0x05, 0x00]) + bytes(4))
AH = (51, bytes([4]) + bytes(22))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), True),
        ((HOP,), True),
        ((LONG,), True),
        ((HOP, ROUTING, LONG), True),
        ((FIRST,), True),
        ((LATER,), False),
        ((AH,), True),
        ((HOP, LONG, ROUTING, FIRST, AH, LONG), True),
        ((HOP, LATER), False),
        ((LONG,) * 8, True),
        ((LONG,) * 9, False),
    ],
)
def test_ports_behind_extension_headers(headers: tuple[tuple[int, bytes], ...], expected: bool) -> None:
    packet = chain(*headers)
    for text in (
        "tcp port 80",
        "port 80",
        "tcp dst port 80",
        "tcp portrange 79-81",
        "tcp src or dst portrange 80-80",
    ):
        assert matches(text, packet, ipv6_transport=True) is expected, text
    for text in ("udp port 80", "tcp port 81", "src port 80", "tcp src and dst port 80", "portrange 81-90"):
        assert not matches(text, packet, ipv6_transport=True), text
    if headers:
        assert not matches("tcp port 80", packet)


def test_protocols_behind_extension_headers() -> None:
    packet = chain(HOP, LONG, AH)
    for text in ("tcp", "ip6 proto 6", "ah", "ip6 proto 0", "ip6 proto 60", "proto 51", "ip6 and not udp"):
        assert matches(text, packet, ipv6_transport=True), text
    for text in ("udp", "icmp6", "ip6 proto 43", "esp", "ip6 proto 44"):
        assert not matches(text, packet, ipv6_transport=True), text
    assert matches("icmp6", chain(HOP, last=58, payload=bytes(8)), ipv6_transport=True)
    # A later fragment carries TCP, but shows no port.
    assert matches("tcp", chain(LATER), ipv6_transport=True)
    assert matches("ip6 proto 44", chain(HOP, LATER), ipv6_transport=True)
    # Over IPv4 nothing changes.
    assert matches("tcp port 80", ether(0x800, ip4("1.1.1.1", "2.2.2.2", 6, TCP80)), ipv6_transport=True)


def test_extension_headers_with_variable_offsets() -> None:
    wlan = (
        bytes.fromhex("8800") + bytes(22) + bytes(2) + bytes.fromhex("aaaa03000000") + chain(HOP, FIRST)[12:]
    )
    assert matches("tcp port 80", wlan, linktype=105, ipv6_transport=True)
    assert not matches("udp port 80", wlan, linktype=105, ipv6_transport=True)
    tagged = ether(0x8100, bytes.fromhex("0005") + chain(HOP)[12:])
    assert matches("vlan 5 and tcp port 80", tagged, ipv6_transport=True)


def test_a_thousand_hosts_in_moderate_size() -> None:
    """As generated: twelve tests a host, and nothing that grows faster."""
    text = " or ".join(f"host 10.1.{n >> 8}.{n & 255}" for n in range(1000))
    begin = time.perf_counter()
    program = compile(text, optimise=False)
    print(f"1,000 hosts: {(time.perf_counter() - begin) * 1e3:.0f} ms")
    jumps = sum(insn.code == 0x05 for insn in program.insns)
    assert len(program.insns) - jumps == 24 * 1000 + 2
