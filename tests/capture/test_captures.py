"""Real captures: a copy through skep is byte for byte what ``tcpdump -r IN -w OUT`` writes."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import skep.capture as capture
from skep.errors import CaptureError
from tests.support.oracles import captures, tool


def tcpdump(path: Path, precision: int) -> tuple[bytes, str]:
    """Its copy of a capture, and what it said against it ("" for nothing)."""
    options = ["--time-stamp-precision=nano"] if precision == 9 else []
    run = subprocess.run([tool("tcpdump"), "-r", path, "-w", "-", *options], capture_output=True, check=False)
    return run.stdout, run.stderr.decode().splitlines()[-1] if run.returncode else ""


def copy(path: Path, target: Path, precision: int) -> tuple[bytes, str]:
    target.unlink(missing_ok=True)
    error = ""
    try:
        with (
            capture.open(path) as reader,
            capture.PcapWriter.like(target, reader, precision=precision) as writer,
        ):
            for packet in reader:
                writer.write(packet)
    except CaptureError as damage:
        error = str(damage)
    return target.read_bytes() if target.exists() else b"", error


@pytest.mark.oracle
@pytest.mark.parametrize("precision", [6, 9])
def test_copies(tmp_path: Path, precision: int) -> None:
    paths = sorted(path for path in captures().iterdir() if path.is_file())
    assert len(paths) > 100
    differ = []
    with ThreadPoolExecutor(2) as pool:
        for path, (expected, said) in zip(
            paths, pool.map(lambda path: tcpdump(path, precision), paths), strict=True
        ):
            made, error = copy(path, tmp_path / "copy.pcap", precision)
            if made != expected or bool(error) != bool(said):
                differ.append((path.name, error, said))
    assert not differ


@pytest.mark.oracle
def test_pcapng_copies_keep_every_byte(tmp_path: Path) -> None:
    """Writing back all items gives the same file, but for the section lengths."""
    paths = [path for path in captures().iterdir() if path.suffix == ".pcapng"]
    assert len(paths) > 10
    for path in paths:
        target = tmp_path / "copy.pcapng"
        with capture.open(path) as reader, capture.PcapngWriter(target) as writer:
            for item in reader.items():
                writer.write(item)
        original = path.read_bytes()
        assert target.read_bytes() == original[:16] + b"\xff" * 8 + original[24:], path
