"""Names come from the files given, and mean what libpcap makes of the same ones in /etc."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.errors import FilterSyntaxError
from skep.filter import Names, compile
from skep.filter.addresses import aton, decnet, ipv4, ipv6, mac
from skep.filter.names import Port
from tests.support import libpcap
from tests.support.directed import compare

HOSTS = """
# comment
127.0.0.1   localhost
::1         localhost ip6-localhost   # both
10.0.0.5    Alpha alpha.example a
10.0.0.6    alpha
2001:db8::5 alpha beta
fe80::1%eth0 gamma
999.1.1.1   broken
10.0.0.7
"""
SERVICES = """
http   80/tcp  www   # WorldWideWeb
domain 53/tcp
domain 53/udp
syslog 514/udp
shell  514/tcp cmd
odd    7000/tcp
odd    7001/udp
sctponly 9/sctp
junk   x/tcp
"""
PROTOCOLS = "ip 0 IP\ntcp 6 TCP\nospf 89 OSPFIGP\nbad x\n"
NETWORKS = "default 0.0.0.0\nloopback 127.0.0.0\noffice 10.1 work\n"
ETHERS = "00:11:22:33:44:55 alpha\n0:a:b:c:d:e beta # short\nnonsense gamma\n"


@pytest.fixture
def names(tmp_path: Path) -> Names:
    files = {
        "hosts": HOSTS,
        "services": SERVICES,
        "protocols": PROTOCOLS,
        "networks": NETWORKS,
        "ethers": ETHERS,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return Names(**{name: tmp_path / name for name in files})


def same(names: Names, text: str, equivalent: str, linktype: int = 1) -> None:
    """With names and without: the same code."""
    mine = compile(text, names=names, linktype=linktype, optimise=False).insns
    assert [tuple(insn) for insn in mine] == libpcap.compile(equivalent, linktype, optimize=False).insns


def test_hosts(names: Names) -> None:
    assert names.host("localhost") == [(6, 1), (4, 0x7F000001)]
    assert names.host("ALPHA") == [(6, 0x20010DB8 << 96 | 5), (4, 0x0A000005), (4, 0x0A000006)]
    assert names.host("alpha.example") == [(4, 0x0A000005)]
    assert names.host("gamma") == [(6, 0xFE80 << 112 | 1)]
    assert names.host("broken") == names.host("nosuch") == []
    assert names.host("10.1") == [(4, 0x0A000001)]
    assert names.host("fe80::2") == [(6, 0xFE80 << 112 | 2)]


def test_host_expressions(names: Names) -> None:
    same(names, "host a", "host 10.0.0.5")
    same(names, "host alpha", "host 2001:db8::5 or host 10.0.0.5 or host 10.0.0.6")
    same(names, "ip src host alpha", "ip src host 10.0.0.5 or ip src host 10.0.0.6")
    same(names, "ip6 host alpha", "ip6 host 2001:db8::5")
    same(names, "arp host a and not a", "arp host 10.0.0.5 and not arp host 10.0.0.5")
    # Where no type field tells ARP, only IP is meant.
    same(names, "host a", "ip host 10.0.0.5", linktype=12)
    with pytest.raises(FilterSyntaxError, match="no address of ip6"):
        compile("ip6 host a", names=names)


def test_services(names: Names) -> None:
    assert names.port("http") == names.port("www") == Port(80, 6)
    assert names.port("domain") == Port(53, None)
    assert names.port("syslog") == Port(514, 17)
    assert names.port("odd") == Port(7000, 6)
    assert names.port("8080") == Port(8080, None)
    assert [names.port(name) for name in ("sctponly", "junk", "HTTP")] == [None] * 3
    same(names, "port domain", "port 53")
    same(names, "port www", "tcp port 80")
    same(names, "udp port syslog or domain", "udp port 514 or udp port 53")
    same(names, "portrange domain-http", "portrange 53-80")
    same(names, "portrange www-cmd", "tcp portrange 80-514")
    for text in ("udp port http", "sctp port http", "tcp portrange syslog-syslog"):
        with pytest.raises(FilterSyntaxError, match=r" is (tcp|udp)"):
            compile(text, names=names)


def test_protocols(names: Names) -> None:
    assert names.protocol("ospf") == names.protocol("OSPFIGP") == 89
    assert [names.protocol(name) for name in ("bad", "Ospf")] == [None, None]
    same(names, "ip proto ospf", "ip proto 89")
    same(names, "proto \\tcp", "proto 6")


def test_networks(names: Names) -> None:
    assert names.network("office") == names.network("WORK") == 0x0A010000
    assert names.network("loopback") == 0x7F000000
    with pytest.raises(FilterSyntaxError, match="network 'default'"):
        compile("net default", names=names)
    # libpcap 1.10.3 with glibc compares all 32 bits.
    same(names, "net loopback", "net 127.0.0.0/32")


def test_ethers(names: Names) -> None:
    assert names.station("alpha") == bytes.fromhex("001122334455")
    assert names.station("beta") == bytes.fromhex("000a0b0c0d0e")
    assert names.station("Alpha") == names.station("alpha")
    assert names.station("gamma") is None
    same(names, "ether host alpha", "ether host 00:11:22:33:44:55")
    same(names, "wlan src beta", "wlan src 0:a:b:c:d:e", linktype=105)


def test_gateway(names: Names) -> None:
    """libpcap 1.10 leaves the word out when it is built with IPv6; 1.11 means this by it."""
    station, own = "ether host 00:11:22:33:44:55", "(host 10.0.0.5 or host 10.0.0.6)"
    for over in ("ip", "arp", "rarp", "(ip or arp or rarp)"):
        plain = libpcap.compile(f"{station} and {over} and not {own}", optimize=False).insns
        assert plain is not None
        text = "gateway alpha" if "(" in over else f"{over} gateway alpha"
        assert compare(plain, compile(text, names=names).insns, 1) is None, text
    with pytest.raises(FilterSyntaxError, match="behind 'mpls'"):
        compile("mpls and gateway alpha", names=names)
    with pytest.raises(FilterSyntaxError, match="station 'localhost'"):
        compile("gateway localhost", names=names)
    with pytest.raises(FilterSyntaxError, match="no IPv4 address"):
        compile("gateway beta", names=names)


def test_absent_files_have_no_names() -> None:
    nothing = Names(hosts="/nonexistent", services="/", protocols="/nonexistent", networks="/dev/null")
    assert nothing.host("localhost") == []
    assert (nothing.port("http"), nothing.protocol("tcp"), nothing.network("loopback")) == (None, None, None)


def test_the_systems_names_are_libpcaps() -> None:
    system = Names()
    for name in ("http", "https", "domain", "ssh", "ntp", "smtp", "snmp", "syslog", "tftp", "www"):
        if system.port(name):
            same(system, f"port {name}", f"port {name}")
    for name in ("ospf", "gre", "ipip", "eigrp"):
        if system.protocol(name):
            same(system, f"ip proto {name}", f"ip proto {name}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("::", 0),
        ("::1", 1),
        ("1::", 1 << 112),
        ("1:2:3:4:5:6:7:8", 0x00010002000300040005000600070008),
        ("::ffff:1.2.3.4", 0xFFFF01020304),
        ("1:2:3:4:5:6:1.2.3.4", 0x00010002000300040005000601020304),
        ("1:2:3:4:5:6:7::", 0x00010002000300040005000600070000),
        ("1::2::3", None),
        (":1", None),
        ("1:", None),
        ("1:2:3:4:5:6:7", None),
        ("1:2:3:4:5:6:7:8:9", None),
        ("::1.2.3", None),
        ("::01.2.3.4", None),
        ("::1.2.3.256", None),
        ("12345::", None),
        (":::", None),
    ],
)
def test_ipv6(text: str, value: int | None) -> None:
    assert ipv6(text) == value


def test_other_addresses() -> None:
    assert ipv4("10.1") == (0x0A01, 16)
    assert ipv4("010.0255") == (0x0AFF, 16)
    assert [ipv4(text) for text in ("10.256", "0x1.2", "1.", "1..2")] == [None] * 4
    assert (
        mac("0:1:2:a:b:ff")
        == mac("00-01-02-0A-0B-FF")
        == mac("000102.0a0bff")
        == bytes((0, 1, 2, 10, 11, 255))
    )
    assert aton("127.1") == 0x7F000001
    assert aton("0x7f.1") == aton("0177.0.0.1") == aton("2130706433") == 0x7F000001
    assert [aton(text) for text in ("1.2.3.4.5", "256.1", "08", "a.b", "", "1.")] == [None] * 6
    assert decnet("1.2") == 1 << 10 | 2
    assert decnet("x.2") is None
