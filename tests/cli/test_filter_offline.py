"""`skep filter -r` against `tcpdump -r`: the same bytes out, from real captures and damaged ones."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep import capture, llvm
from skep.cli import main
from tests.support import pcapfiles, tcpdump
from tests.support.oracles import captures

EXPRESSIONS = [
    "",
    "tcp or udp",
    "ip host 10.0.0.1 or arp",
    "len > 100",
    "not ip",
    "icmp or icmp6 or ether[0] & 1 = 0",
    "port 53 or port 179",
    "ip6 or (ip and not tcp)",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "udp and greater 200",
    "net 192.168.0.0/16 or net 10",
    "ip[8] < 64",
    "src portrange 1-1024",
]


@pytest.fixture(autouse=True, scope="module")
def _compiler_at_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of this module's own, and LLVM in this process (a child for each filter would take long)."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SKEP_CACHE", str(tmp_path_factory.mktemp("cache")))
    if llvm.available():
        llvm.warm()
    yield
    patch.undo()


def all_captures() -> list[Path]:
    return sorted(path for path in captures().iterdir() if path.name != "README.md")


@pytest.mark.oracle
def test_every_capture_is_copied_as_tcpdump_copies_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two expressions for each capture, another two for another SKEP_SEED."""
    rng = random.Random(pcapfiles.SEED)
    print(f"SKEP_SEED={pcapfiles.SEED}")
    compared = 0
    for path in all_captures():
        for expression in rng.sample(EXPRESSIONS, 2):
            theirs, ours = tmp_path / "theirs", tmp_path / "ours"
            theirs.unlink(missing_ok=True)
            ours.unlink(missing_ok=True)
            answer = tcpdump.copy(path, theirs, expression)
            status = main(["filter", "-r", str(path), "-w", str(ours), expression])
            output = ours.read_bytes() if ours.exists() else None
            what = f"{path.name} {expression!r}: tcpdump says {answer.errors!r}"
            assert status == answer.status, what
            assert output == answer.output, what
            errors = capfd.readouterr().err.strip().splitlines()
            assert "Traceback" not in "".join(errors)
            if status:
                assert any(line.startswith("skep filter: ") for line in errors), what
            compared += 1
    assert compared > 300


@pytest.mark.oracle
@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("out_nano", [False, True])
def test_resolutions_and_byte_orders(tmp_path: Path, order: str, nano: bool, out_nano: bool) -> None:
    path = tmp_path / "in.pcap"
    packets = pcapfiles.records(400, units=10**9 if nano else 10**6)
    path.write_bytes(pcapfiles.capture(packets, order=order, nano=nano, snaplen=500))
    options = ["--time-stamp-precision=nano"] if out_nano else []
    answer = tcpdump.copy(path, tmp_path / "theirs", "tcp or arp", *options)
    assert main(["filter", *options, "-r", str(path), "-w", str(tmp_path / "ours"), "tcp or arp"]) == 0
    assert (tmp_path / "ours").read_bytes() == answer.output


@pytest.mark.oracle
def test_damage_anywhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Files cut and overwritten anywhere: tcpdump's status, tcpdump's output, one line on standard error."""
    rng = random.Random(pcapfiles.SEED)
    whole = pcapfiles.capture(pcapfiles.records(40))
    path, theirs, ours = tmp_path / "in", tmp_path / "theirs", tmp_path / "ours"
    for round_ in range(120):
        data = bytearray(whole)
        if round_ % 2:
            del data[rng.randrange(len(data)) :]
        else:
            at = rng.randrange(24, len(data) - 4)
            data[at : at + 4] = rng.choice(
                (rng.randbytes(4), b"\xff\xff\xff\xff", bytes(4), struct.pack("<I", 70000))
            )
        path.write_bytes(data)
        theirs.unlink(missing_ok=True)
        ours.unlink(missing_ok=True)
        answer = tcpdump.copy(path, theirs, "tcp")
        status = main(["filter", "-r", str(path), "-w", str(ours), "tcp"])
        errors = capfd.readouterr().err
        assert status == answer.status, (round_, answer.errors, errors)
        assert (ours.read_bytes() if ours.exists() else None) == answer.output, (round_, answer.errors)
        if status:
            assert errors.splitlines()[-1].startswith(f"skep filter: {path}"), errors
            assert " at byte " in errors or len(data) < 24


@pytest.mark.oracle
@pytest.mark.parametrize("packing", ["plain", "gzip"])
def test_standard_input_and_output(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(3000), order=">"))
    answer = tcpdump.copy(path, tmp_path / "theirs", "udp")
    data = path.read_bytes()
    if packing == "gzip":
        import gzip

        data = gzip.compress(data)
    command = [sys.executable, "-m", "skep", "filter", "-r", "-", "-w", "-", "udp"]
    piped = subprocess.run(command, input=data, capture_output=True)
    assert (piped.returncode, piped.stdout) == (0, answer.output), piped.stderr
    path.write_bytes(data)
    with open(path, "rb") as file:
        redirected = subprocess.run(command, stdin=file, capture_output=True)
    assert (redirected.returncode, redirected.stdout) == (0, answer.output), redirected.stderr


def test_a_pipe_in_odd_pieces(tmp_path: Path) -> None:
    """Records straddle reads, and some are larger than the pipe's buffer."""
    rng = random.Random(pcapfiles.SEED)
    packets = pcapfiles.records(300)
    packets[100:100] = [(1_700_000_001, 5, rng.randbytes(262_144), 262_144) for _ in range(9)]
    data = pcapfiles.capture(packets, order=">")
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "skep",
        "filter",
        "-r",
        "-",
        "-w",
        str(out),
        "less 300 or greater 200000",
    ]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    at = 0
    while at < len(data):
        step = rng.choice((1, 7, 100, 5000, 70_000, 400_000))
        child.stdin.write(data[at : at + step])
        child.stdin.flush()
        at += step
    _, err = child.communicate(timeout=60)
    kept = [packet for packet in packets if packet[3] <= 300 or packet[3] >= 200_000]
    order = "<" if sys.byteorder == "little" else ">"
    assert child.returncode == 0, err
    assert out.read_bytes() == pcapfiles.capture(kept, order=order)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("how", [[], ["--pcapng"], ["-C", "1"]], ids=["pcap", "pcapng", "several"])
def test_a_signal_ends_a_run_with_a_whole_file(
    how: list[str], unbuffered: bool, number: signal.Signals, tmp_path: Path
) -> None:
    """What was taken from the pipe is in the file by the end; with -U, before the end."""
    packets = pcapfiles.records(40)
    out = tmp_path / "out"
    words = ["-r", "-", "-w", str(out), "--print", "-l", *how, *(["-U"] if unbuffered else [])]
    child = subprocess.Popen(
        [sys.executable, "-m", "skep", "filter", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(pcapfiles.capture(packets))
    child.stdin.flush()
    for _ in packets:
        assert child.stdout.readline()
    wanted = [(data, wirelen) for _, _, data, wirelen in packets]
    if unbuffered:
        with capture.open(out) as reader:
            assert [packet[:2] for packet in reader] == wanted
    child.send_signal(number)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert b"Traceback" not in err
    with capture.open(out) as reader:
        assert [packet[:2] for packet in reader] == wanted


def test_a_pipe_cut_short(tmp_path: Path) -> None:
    packets = pcapfiles.records(500)
    data = pcapfiles.capture(packets)
    command = [sys.executable, "-m", "skep", "filter", "-r", "-", "--count"]
    done = subprocess.run(command, input=data[:-1], capture_output=True, text=False)
    assert (done.returncode, done.stdout) == (1, b"499 packets\n")
    last = done.stderr.decode().splitlines()[-1]
    start = len(data) - 16 - len(packets[-1][2])
    assert last.startswith(f"skep filter: <stdin> at byte {start}: the file ends inside a packet"), last


@pytest.mark.oracle
def test_counts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(2000)))
    for expression in EXPRESSIONS:
        assert main(["filter", "-r", str(path), "--count", "--stats", expression]) == 0
        shown = capfd.readouterr()
        wanted = tcpdump.count(path, expression)
        assert shown.out == f"{wanted} packet{'' if wanted == 1 else 's'}\n"
        assert f"2000 packets read, {wanted} matched" in shown.err


@pytest.mark.oracle
@pytest.mark.parametrize("limit", [1, 17, 100000])
def test_limit(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(2000)))
    answer = tcpdump.copy(path, tmp_path / "theirs", "tcp", "-c", str(limit))
    assert main(["filter", "-c", str(limit), "-r", str(path), "-w", str(tmp_path / "ours"), "tcp"]) == 0
    assert (tmp_path / "ours").read_bytes() == answer.output


def test_several_inputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = pcapfiles.records(300, seed=1), pcapfiles.records(200, seed=2)
    (tmp_path / "a").write_bytes(pcapfiles.capture(first))
    (tmp_path / "b").write_bytes(pcapfiles.capture(second, order=">"))
    out = tmp_path / "out"
    args = ["filter", "-r", str(tmp_path / "a"), "-r", str(tmp_path / "b"), "--count", "-w", str(out)]
    assert main(args) == 0
    assert capfd.readouterr().out == "500 packets\n"
    assert out.read_bytes() == pcapfiles.capture(
        [*first, *second], order="<" if sys.byteorder == "little" else ">"
    )
    listing = tmp_path / "list"
    listing.write_text(f"{tmp_path / 'a'}\n{tmp_path / 'b'}\n")
    assert main(["filter", "-V", str(listing), "--count", "-c", "350"]) == 0
    assert capfd.readouterr().out == "350 packets\n"


def test_the_next_input_is_read_after_a_damaged_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = pcapfiles.capture(pcapfiles.records(50))
    (tmp_path / "bad").write_bytes(good[:-1])
    (tmp_path / "good").write_bytes(good)
    assert main(["filter", "-r", str(tmp_path / "bad"), "-r", str(tmp_path / "good"), "--count"]) == 1
    assert capfd.readouterr().out == "99 packets\n"


def test_link_types_do_not_mix_in_pcap(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    packets = pcapfiles.records(20)
    (tmp_path / "a").write_bytes(pcapfiles.capture(packets))
    (tmp_path / "b").write_bytes(pcapfiles.capture(packets, link=113))
    args = ["filter", "-r", str(tmp_path / "a"), "-r", str(tmp_path / "b")]
    assert main([*args, "-w", str(tmp_path / "out")]) == 1
    assert "--pcapng" in capfd.readouterr().err
    with capture.open(tmp_path / "out") as reader:
        assert len(list(reader)) == 20
    assert main([*args, "--pcapng", "-w", str(tmp_path / "out.pcapng")]) == 0
    with capture.open(tmp_path / "out.pcapng") as reader:
        assert [packet.linktype for packet in reader] == [1] * 20 + [113] * 20


def test_pcapng_keeps_comments_and_interfaces(tmp_path: Path) -> None:
    path, out = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    packets = pcapfiles.records(60)
    with capture.PcapngWriter(path) as writer:
        ether = writer.interface(1, name="eth0", snaplen=65535)
        raw = writer.interface(12, name="tun0")
        for number, (sec, fraction, data, wirelen) in enumerate(packets):
            link, interface = (1, ether) if number % 2 else (12, raw)
            packet = capture.Packet(
                data if number % 2 else data[14:], wirelen, sec * 10**9 + fraction * 1000 + 7, link
            )
            writer.write(packet, interface=interface, comments=[f"packet {number}"])
    assert main(["filter", "-r", str(path), "--pcapng", "-w", str(out), "tcp"]) == 0
    with capture.open(path) as reader:
        given = list(reader)
    with capture.open(out) as reader:
        kept = list(reader)
        assert [interface.name for interface in reader.interfaces] == ["eth0", "tun0"]
    from skep import Filter

    ethernet, ip = Filter("tcp"), Filter("tcp", linktype=12)
    wanted = [p for p in given if (ethernet if p.linktype == 1 else ip).matches(p.data, p.wirelen)]
    assert {packet.linktype for packet in wanted} == {1, 12}
    assert [(p.data, p.time_ns, p.comments) for p in kept] == [
        (p.data, p.time_ns, p.comments) for p in wanted
    ]


def test_an_input_is_never_overwritten(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.pcap"
    data = pcapfiles.capture(pcapfiles.records(10))
    path.write_bytes(data)
    (tmp_path / "link").symlink_to(path)
    for target in (path, tmp_path / "link"):
        for more in ([], ["--pcapng"]):
            assert main(["filter", "-r", str(path), *more, "-w", str(target)]) == 1
            assert path.read_bytes() == data
    assert "is an input" in capfd.readouterr().err


def test_nothing_is_written_when_the_expression_is_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(10)))
    assert main(["filter", "-r", str(path), "-w", str(tmp_path / "out"), "tcp port 80 and ("]) == 1
    assert not (tmp_path / "out").exists()
    shown = capfd.readouterr().err
    assert "column" in shown and "^" in shown and "Traceback" not in shown


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    """The file size limit stands in for the disk."""
    path, out = tmp_path / "in.pcap", tmp_path / "out.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(4000)))
    script = (
        "import resource, signal, sys; from skep.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "filter", "-r", str(path), "-w", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SKEP_CACHE": ""})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"skep filter: {out}: File too large"
    with capture.open(out) as reader:
        count = len(list(reader))
    assert count > 50 and out.read_bytes() == path.read_bytes()[: out.stat().st_size]


def test_printed_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(200)))
    assert main(["filter", "-r", str(path), "-tt", "-#", "-c", "5", "tcp"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.split()[0] == str(number) for number, line in enumerate(lines, 1))
    assert all(line.split()[1].startswith("1700000") for line in lines)
    assert sum(" tcp " in line for line in lines) > 2


def test_where_no_native_code_can_be_had_the_interpreter_does_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(500)))
    assert main(["filter", "-r", str(path), "-w", str(tmp_path / "native"), "tcp port 80"]) == 0
    capfd.readouterr()
    monkeypatch.setenv("SKEP_CACHE", "")
    monkeypatch.setattr("skep.tap.prepare.own_code", lambda: False)
    monkeypatch.setattr("skep.llvm.host.llvmlite_home", lambda: None)
    monkeypatch.delitem(sys.modules, "llvmlite.binding", raising=False)
    assert main(["filter", "-r", str(path), "-w", str(tmp_path / "slow"), "tcp port 80"]) == 0
    shown = capfd.readouterr().err
    assert "interpreting" in shown and "pip install" in shown
    assert (tmp_path / "slow").read_bytes() == (tmp_path / "native").read_bytes()


def test_random_bytes_never_give_a_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(pcapfiles.SEED)
    path = tmp_path / "in"
    magics = [
        b"\xd4\xc3\xb2\xa1",
        b"\xa1\xb2\xc3\xd4",
        b"\x0a\x0d\x0d\x0a",
        b"\x1f\x8b\x08\x00",
        b"",
        b"\x4d\x3c\xb2\xa1",
    ]
    for _ in range(150):
        path.write_bytes(rng.choice(magics) + rng.randbytes(rng.randint(0, 300)))
        assert main(["filter", "-r", str(path), "--count", "tcp"]) in (0, 1)
        assert "Traceback" not in capfd.readouterr().err


def test_missing_and_strange_inputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in (tmp_path / "none", tmp_path, "/dev/null"):
        assert main(["filter", "-r", str(name), "--count"]) == 1
        shown = capfd.readouterr()
        assert shown.out == "" and len(shown.err.splitlines()) == 1 and str(name) in shown.err


def test_reader_that_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(5000)))
    command = f"{sys.executable} -m skep filter -r {path} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_an_empty_expression_file_with_comments(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    expression = tmp_path / "expression"
    expression.write_text("# what the web speaks\ntcp port 80 # plain\n  or tcp port 443\n")
    assert main(["filter", "-d", "-F", str(expression)]) == 0
    from_file = capfd.readouterr().out
    assert main(["filter", "-d", "tcp port 80 or tcp port 443"]) == 0
    assert capfd.readouterr().out == from_file


@pytest.mark.parametrize(
    "how", [["--count"], ["-w", "out"], ["--pcapng", "-w", "out"], ["-C", "1", "-w", "out"]]
)
@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
def test_an_expression_from_a_pipe_is_read_once(file: str, how: list[str], tmp_path: Path) -> None:
    """Read again, a pipe would give an expression that every packet matches."""
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(200)))
    done = subprocess.run(
        [sys.executable, "-m", "skep", "filter", "-r", str(path), "-F", file, *how, "--count"],
        input="udp # and nothing else\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    wanted = int(tcpdump.count(path, "udp"))
    assert 0 < wanted < 200
    assert done.stdout == f"{wanted} packets\n"
    if "out" in how:
        with capture.open(tmp_path / "out") as reader:
            assert sum(1 for _ in reader) == wanted
