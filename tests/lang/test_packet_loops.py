"""Loops within loops through packets: the verifier follows them, and they find what is in the packets."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import skep
from skep.kernel.object import Object
from skep.lang.compile import compile_programs
from skep.loading import programs_of
from skep.obj import read
from skep.verifier import Subject, check
from tests.lang import packet_loops
from tests.support.oracles import bpf

#: of the kernel's million; without forgetting two of the programs pass that
_MOST = 200_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packets") / "packets.bpf.o"
    path.write_bytes(compile_programs(programs_of(packet_loops)))
    return path


@pytest.fixture(scope="module")
def obj(built: Path) -> Iterator[Object]:
    bpf()
    with skep.load(str(built)) as loaded:
        yield loaded


def _ip(protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, bytes(4), bytes(4))
    return bytes(12) + b"\x08\x00" + head + payload


def _tcp(payload: bytes, options: bytes = b"") -> bytes:
    words = (20 + len(options)) // 4
    return struct.pack("!HHIIBBHHH", 1000, 443, 1, 1, words << 4, 16, 100, 0, 0) + options + payload


def _names(obj: Object) -> dict[str, int]:
    return {key.text.decode(): value for key, value in obj.hosts.items()}


@pytest.mark.live
def test_within_bounds(obj: Object) -> None:
    for name, program in obj.programs.items():
        assert 0 < int(program.info["verified_insns"]) < _MOST, name


def test_verifier(built: Path) -> None:
    spec = read(str(built))
    for name in ("ext_tcp", "dhcp", "sni"):
        assert check(Subject.from_object(spec, name), kernel="6.18").processed < _MOST


@pytest.mark.live
@pytest.mark.parametrize("headers", [0, 1, 3])
def test_options_behind_extension_headers(obj: Object, headers: int) -> None:
    # hop-by-hop options of 16 bytes each
    chain = b"".join(bytes([0 if i + 1 < headers else 6, 1]) + bytes(14) for i in range(headers))
    cases = [
        (b"\x01\x01\x03\x03\x07\x00\x02\x04\x05\xb4\x00\x00", 0),  # behind the end of the options
        (b"\x01\x01\x08\x0a" + bytes(8) + b"\x02\x04\x05\xb4", 1460),
        (b"\x02\x04\x02\x00", 512),
    ]
    for options, mss in cases:
        obj.seen[0] = 0
        segment = _tcp(b"", options)
        head = struct.pack("!IHBB", 6 << 28, len(chain) + len(segment), 0 if headers else 6, 64) + bytes(32)
        obj.ext_tcp.run(bytes(12) + b"\x86\xdd" + head + chain + segment)
        assert obj.seen[0] == mss


@pytest.mark.live
@pytest.mark.parametrize("name", ["example.org", "a.b.c.D", "localhost", "x" * 30 + "." + "y" * 20])
def test_names_of_questions(obj: Object, name: str) -> None:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = bytes(12) + labels + b"\0" + bytes(4)
    obj.dns.run(_ip(17, struct.pack("!HHHH", 5000, 53, 8 + len(question), 0) + question))
    assert name.lower() + "." in _names(obj)


@pytest.mark.live
def test_options_of_dhcp(obj: Object) -> None:
    for before in (b"", b"\x37\x04\x01\x03\x06\x0f", b"\x3d\x07\x01abcdef" * 5):
        obj.seen[1] = 0
        obj.dhcp.run(bytes(14 + 20 + 8 + 240) + before + b"\x35\x01\x03\xff" + bytes(20))
        assert obj.seen[1] == 3


@pytest.mark.live
@pytest.mark.parametrize(("host", "before"), [("example.org", 0), ("www.example.com", 3), ("h", 30)])
def test_name_of_a_server(obj: Object, host: str, before: int) -> None:
    extensions = b"".join(struct.pack("!HH", 10 + i, i) + bytes(i) for i in range(before))
    entry = struct.pack("!HBH", len(host) + 3, 0, len(host)) + host.encode() + b"\0"
    extensions += struct.pack("!HH", 0, len(entry)) + entry
    hello = b"\x03\x03" + bytes(32) + b"\x02ab" + struct.pack("!H", 4) + bytes(4) + b"\x01\0"
    hello += struct.pack("!H", len(extensions)) + extensions
    obj.sni.run(_ip(6, _tcp(bytes(9) + hello)))
    assert host in _names(obj)


@pytest.mark.live
@pytest.mark.parametrize("lines", [0, 5, 20])
def test_host_of_a_request(obj: Object, lines: int) -> None:
    text = (
        "GET / HTTP/1.1\r\n" + "".join(f"X-{i}: Ho\r\n" for i in range(lines)) + f"Host: h{lines}.org\r\n\r\n"
    )
    obj.http.run(_ip(6, _tcp(text.encode())))
    assert f"h{lines}.org" in _names(obj)
