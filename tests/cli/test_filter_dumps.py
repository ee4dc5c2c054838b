"""-x, -X, -A below a packet's line, and output in several files: what tcpdump prints and writes."""

from __future__ import annotations

import getpass
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import pcapfiles
from tests.support.oracles import captures, tool

_LINE = re.compile(rb"^\d\d:\d\d:\d\d\.\d{6} .*$", re.MULTILINE)


def skep(*args: str | Path, cwd: Path | None = None, status: int = 0) -> bytes:
    done = subprocess.run([sys.executable, "-m", "skep", "filter", *args], capture_output=True, cwd=cwd)
    assert done.returncode == status, done.stderr
    return done.stdout


def tcpdump(*args: str | Path, cwd: Path | None = None) -> bytes:
    # It would write as a user of its own, who may not.
    who = ["-Z", getpass.getuser()]
    done = subprocess.run([tool("tcpdump"), *who, "-n", *args], capture_output=True, cwd=cwd, check=True)
    return done.stdout


@pytest.mark.oracle
@pytest.mark.parametrize("how", ["-x", "-xx", "-X", "-XX", "-A", "-AA"])
def test_dumps_are_tcpdumps(how: str, tmp_path: Path) -> None:
    made = tmp_path / "made.pcap"
    made.write_bytes(pcapfiles.capture(pcapfiles.records(300)))
    paths = [
        captures() / name
        for name in ("RADIUS.pcap", "802.1ad_QinQ.pcap", "LINKTYPE_RAW_ipv4.pcap", "LINKTYPE_IPV6.pcap")
    ]
    for path in (made, *paths):
        theirs, ours = tcpdump(how, "-r", path, "tcp or udp"), skep(how, "-r", path, "tcp or udp")
        if how.startswith("-A"):
            # tcpdump's dissectors add lines of their own: the bytes of every packet must be there.
            ours_only = [text for text in _LINE.split(ours)[1:] if text.strip()]
            for text in ours_only:
                assert text in theirs
        else:
            lines = [[line for line in text.splitlines() if line[:3] == b"\t0x"] for text in (theirs, ours)]
            assert lines[0] == lines[1]
            assert len(lines[1]) > 3 or not ours


@pytest.mark.oracle
@pytest.mark.parametrize(
    "options",
    ["-C 1", "-C 1 -W 1", "-C 1 -W 3", "-C 1 -W 12", "-C 1 -c 500", "-C 2 --time-stamp-precision=nano"],
)
def test_output_by_size_is_tcpdumps(options: str, tmp_path: Path) -> None:
    source = tmp_path / "in.pcap"
    source.write_bytes(pcapfiles.capture(pcapfiles.records(20_000)))
    written = []
    for name, run in (("ours", skep), ("theirs", tcpdump)):
        folder = tmp_path / name
        folder.mkdir()
        run("-r", source, "-w", "out", *options.split(), "ip", cwd=folder)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0].keys() == written[1].keys()
    assert written[0] == written[1]
    assert sum(map(len, written[0].values())) > 10_000


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-r", "in", "-w", "o", "-W", "3"], "-W bounds the number of files"),
        (["-r", "in", "-C", "1"], "give -w FILE"),
        (["-r", "in", "-C", "1", "-w", "-"], "standard output is one file"),
        (["-r", "in", "-C", "1", "-w", "o", "--pcapng"], "leave out --pcapng"),
        (["-C", "1", "tcp"], "needs packets"),
        (["-X", "tcp"], "-X needs packets"),
        (["-E", "x", "tcp"], "-E decrypts ESP"),
        (["-z", "gzip", "-r", "in"], "-z runs a command"),
        (["-C", "x", "-r", "in"], "takes a number from 1"),
    ],
)
def test_wrong_uses_are_told_in_one_line(args: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(pcapfiles.capture(pcapfiles.records(5)))
    done = subprocess.run(
        [sys.executable, "-m", "skep", "filter", *args], capture_output=True, text=True, cwd=tmp_path
    )
    line = [text for text in done.stderr.splitlines() if not text.startswith("reading from")]
    assert done.returncode == 2 and len(line) == 1 and words in line[0]
    assert not (tmp_path / "o").exists()


@pytest.mark.oracle
@pytest.mark.parametrize("style", ["-t", "-tt", "-ttt", "-tttt", "-ttttt", "-ttt --nano", "-ttttt --nano"])
def test_times_are_tcpdumps(style: str) -> None:
    """The time in front of each line, also of packets that go back in time."""
    for name in ("802.1ad_QinQ.pcap", "RADIUS.pcap", "tcp-handshake-nano.pcap"):
        path = captures() / name
        if not path.exists():
            continue
        told = []
        for text in (tcpdump(*style.split(), "-r", path), skep(*style.split(), "-r", path)):
            lines = [line for line in text.splitlines() if not line.startswith(b"\t")]
            told.append([re.match(rb"[-0-9:. ]*", line) for line in lines])
        theirs, ours = ([match[0] for match in matches if match] for matches in told)
        assert ours == theirs, name
        assert len(ours) > 1


@pytest.mark.parametrize("how", [[], ["--pcapng"], ["-C", "1"]])
def test_print_shows_what_is_written(how: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(pcapfiles.capture(pcapfiles.records(50)))
    expected = skep("-r", "in", "tcp or udp", cwd=tmp_path)
    assert skep("-r", "in", "-w", "out", *how, "--print", "tcp or udp", cwd=tmp_path) == expected
    assert expected.count(b"\n") > 5
    assert skep("-r", "out", cwd=tmp_path) == expected


def test_impossible_lengths_are_told(tmp_path: Path) -> None:
    """As tcpdump tells them, and without the bytes."""
    path = tmp_path / "in"
    packets = ((b"", 60), (bytes(60), 0), (bytes(60), 40), (bytes(60), 300_000), (bytes(20), 60))
    path.write_bytes(pcapfiles.capture([(1, 0, data, wirelen) for data, wirelen in packets]))
    theirs, ours = (run("-X", "-#", "-r", path).splitlines() for run in (tcpdump, skep))
    wrong = [line for line in theirs if b"Invalid" in line]
    assert [line for line in ours if b"Invalid" in line] == wrong
    assert len(wrong) == 4
    assert [line for line in ours if line.startswith(b"    5")]


def test_pcapng_is_printed_with_its_own_times_and_link_types(tmp_path: Path) -> None:
    """Seconds beyond 32 bits, and two link types in one file, which no pcap record could carry."""
    from skep.capture import PcapngWriter
    from skep.capture.packet import Packet

    ip = bytes.fromhex("4500001c000100004011000001020304050607080035003500080000")
    late = 4_323_283_200 * 10**9 + 123_456_789  # 1 January 2107
    path = tmp_path / "in.pcapng"
    with PcapngWriter(str(path)) as writer:
        numbers = [writer.interface(linktype, snaplen=1000) for linktype in (1, 12)]
        frames = (bytes(12) + b"\x08\x00" + ip, ip)
        for number, linktype, data in zip(numbers, (1, 12), frames, strict=True):
            writer.write(Packet(data, len(data), late, linktype), interface=number)
    line = b"4323283200.123456 IP 1.2.3.4.53 > 5.6.7.8.53: UDP, length 0"
    assert skep("-tt", "-r", path, "udp port 53").splitlines() == [line, line]
    assert skep("-tt", "--nano", "-c", "1", "-r", path).startswith(b"4323283200.123456789 ")
    assert skep("-r", path, "-#", "ip host 9.9.9.9") == b""
    first = skep("-tt", "-r", path, "-r", path, "-c", "3")
    assert first.splitlines() == [line] * 3
