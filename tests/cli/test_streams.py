"""Output files, and standard streams that are closed or are the capture that is being read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.oracles import ROOT, tool

CAPTURE = ROOT / "examples" / "two-hosts.pcap"


def skep(shell: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command line in which $SKEP is the command; it must leave no traceback."""
    env = {**os.environ, "SKEP": f"{sys.executable} -m skep", "SKEP_CACHE": str(cwd / "cache")}
    env.pop("PYTHONUNBUFFERED", None)  # users have it seldom: what is printed waits for a flush
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *args],
        cwd=cwd,
        env=env,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=300,
    )
    assert "Traceback" not in done.stderr + done.stdout, shell
    return done


@pytest.mark.parametrize(
    "command",
    [
        '$SKEP filter -r "$1" --count tcp >&-',
        '$SKEP filter -r "$1" tcp >&-',
        '$SKEP filter -r "$1" -w - tcp >&-',
        "$SKEP filter -d tcp >&-",
        "printf 'exit' | $SKEP asm >&-",
        "printf 95000000 00000000 | $SKEP disasm --hex >&-",
        "$SKEP filter -r - --count <&-",
    ],
)
def test_a_closed_stream_is_a_failure_in_one_line(command: str, tmp_path: Path) -> None:
    done = skep(command, str(CAPTURE), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("skep")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ('$SKEP filter -r "$1" > /dev/full', "standard output: No space left on device"),
        ("$SKEP filter -d tcp > /dev/full", "standard output: No space left on device"),
        ("$SKEP filter -r ''", "'': No such file or directory"),
        ("$SKEP filter -r \"$1\" -w ''", "'': No such file or directory"),
    ],
)
def test_a_failure_names_what_it_is_about(command: str, said: str, tmp_path: Path) -> None:
    done = skep(command, str(CAPTURE), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"skep filter: {said}"


def test_messages_do_not_get_into_the_output(tmp_path: Path) -> None:
    with_messages = skep('$SKEP filter -r "$1" -w - tcp | cksum', str(CAPTURE), cwd=tmp_path)
    without = skep('$SKEP filter -r "$1" -w - tcp 2>&- | cksum', str(CAPTURE), cwd=tmp_path)
    assert with_messages.stderr
    assert without.stdout == with_messages.stdout


def test_no_output_file_becomes_standard_output(tmp_path: Path) -> None:
    skep('$SKEP filter -r "$1" -w whole.pcap tcp', str(CAPTURE), cwd=tmp_path)
    skep('$SKEP filter -r "$1" -w out.pcap --count tcp <&- >&-', str(CAPTURE), cwd=tmp_path)
    assert (tmp_path / "out.pcap").read_bytes() == (tmp_path / "whole.pcap").read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        "$SKEP filter -r - -w in.pcap < in.pcap",
        "$SKEP filter -r - --pcapng -w in.pcap < in.pcap",
        "$SKEP filter -r in.pcap -w - >> in.pcap",
        "$SKEP filter -r - -w - < in.pcap >> in.pcap",
        "$SKEP filter -r other.pcap -r link.pcap -w in.pcap",
    ],
)
def test_an_input_is_not_written_to(command: str, tmp_path: Path) -> None:
    capture = tmp_path / "in.pcap"
    capture.write_bytes(CAPTURE.read_bytes())
    (tmp_path / "other.pcap").write_bytes(CAPTURE.read_bytes())
    (tmp_path / "link.pcap").symlink_to("in.pcap")
    done = skep(command, cwd=tmp_path)
    assert done.returncode == 1
    assert "input" in done.stderr.splitlines()[-1]
    assert capture.read_bytes() == CAPTURE.read_bytes()


@pytest.mark.parametrize(
    ("make", "beginning"),
    [
        ("$SKEP filter --graph {} tcp", "<"),
        ("echo 'r0 = 1; exit' | sed 's/; /\\n/' | $SKEP asm --format hex -o {}", "b7"),
    ],
)
def test_whole_files(make: str, beginning: str, tmp_path: Path) -> None:
    """Devices and pipes stay what they are, links are followed, errors name the file asked for."""
    done = skep(make.format("new"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "new").read_text()
    assert text.startswith(beginning)

    (tmp_path / "link").symlink_to("aim")
    (tmp_path / "aim").write_text("old")
    (tmp_path / "aim").chmod(0o640)
    assert skep(make.format("link"), cwd=tmp_path).returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "aim").read_text() == text
    assert (tmp_path / "aim").stat().st_mode & 0o777 == 0o640

    os.mkfifo(tmp_path / "pipe")
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    assert skep(make.format("pipe"), cwd=tmp_path).returncode == 0
    reader.join(120)
    assert (tmp_path / "pipe").is_fifo()
    assert received == [text]

    failed = skep(make.format("no/where"), cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.strip().endswith("no/where: No such file or directory")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == [
        "aim", "link", "new", "pipe",
    ]  # fmt: skip


def test_ip_broadcast_as_tcpdump_compiles_it(tmp_path: Path) -> None:
    # tcpdump opens its first interface to learn of its netmask, where it may: not a real one
    apart = ["unshare", "-n"] if os.geteuid() == 0 else []
    for options in ("-d", "-O -d", f"-d -r {CAPTURE}"):
        theirs = subprocess.run(
            [*apart, tool("tcpdump"), *options.split(), "ip broadcast"],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert "0xffffffff" in theirs.stdout
        assert skep(f"$SKEP filter {options} 'ip broadcast'", cwd=tmp_path).stdout == theirs.stdout


@pytest.mark.parametrize("source", ["-r cut.gz", "-r - < cut.gz", "-r cut.pcap", "-r - < cut.pcap"])
def test_damage_is_told_with_the_name_that_was_given(source: str, tmp_path: Path) -> None:
    import gzip

    (tmp_path / "cut.gz").write_bytes(gzip.compress(CAPTURE.read_bytes())[:3000])
    (tmp_path / "cut.pcap").write_bytes(CAPTURE.read_bytes()[:3000])
    done = skep(f"$SKEP filter --count {source}", cwd=tmp_path)
    assert done.returncode == 1 and int(done.stdout.split()[0]) > 5
    name = source.split()[1] if "<" not in source else "<stdin>"
    assert f"skep filter: {name} at byte " in done.stderr
