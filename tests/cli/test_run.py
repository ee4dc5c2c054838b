"""`skep run`: what it prints, when it ends, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.cli.noun.objects import ids
from skep.cli.run.stream import parse
from skep.linux.kernel import LinuxKernel
from tests.cli.bpftool import compile_c
from tests.linux.links.rig import interface_is_up, wait
from tests.support.lock import trace_pipe
from tests.support.oracles import ROOT, absent, bpf, netns, tool

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def only_reader() -> Iterator[None]:
    """trace_pipe has one reader at a time, and `skep run` reads it for every program that prints."""
    with trace_pipe():
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    bpf()
    return str(compile_c("events", tmp_path_factory.mktemp("run")))


def skep_run(*words: str, prefix: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*(prefix or []), sys.executable, "-m", "skep", "run", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_records_are_typed(file: str) -> None:
    done = skep_run(file, "enter", "-j", "--set", "wanted={pid}", "--maps", "--", "/bin/echo", "hi")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line != "hi"]
    assert len(lines) == len(done.stdout.splitlines()) - 1
    found = [json.loads(line) for line in lines]
    events = [row["data"] for row in found if row.get("map") == "events" and "data" in row]
    samples = [row["data"] for row in found if row.get("map") == "samples" and "data" in row]
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert len(events) > 10
    assert events[-1]["comm"] == "echo"
    assert events[-1]["colour"] == "GREEN"
    assert events[-1]["raw"] == [1, 2, 3, 4]
    assert {event["pid"] for event in events} == {events[0]["pid"]}
    assert sorted(sample["number"] for sample in samples) == list(range(1, len(samples) + 1))
    assert samples[0] | {"number": 0} == {"number": 0, "low": 5, "high": 77}
    # (Rows without a map are what other programs of the machine print.)
    maps = {row["map"]: row for row in found if "map" in row and "data" not in row}
    assert maps["counts"]["entries"] == [{"key": events[0]["pid"], "value": len(events)}]
    assert maps[".bss"]["variables"]["seen"] == len(events)
    assert "events: " in done.stderr
    assert "samples: " in done.stderr
    assert " 0 lost" in done.stderr


def test_text(file: str) -> None:
    words = (file, "enter", "-q", "--set", "wanted={pid}", "--count", "3", "--maps", "--", "/bin/true")
    done = skep_run(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    # other lines are what other programs of the machine print
    lines = [
        line for line in done.stdout.splitlines() if line.startswith(("events: ", "samples: ", "counts: "))
    ]
    assert lines[0].startswith("events: pid=")
    assert (
        lines[0].endswith('number=1 colour="GREEN" comm="python" raw=[1, 2, 3, 4]') or "number=1" in lines[0]
    )
    assert sum(line.startswith(("events: ", "samples: ")) for line in lines) == 3
    assert "counts: 1 entry" in lines


def test_the_commands_status_is_ours(file: str) -> None:
    words = (file, "enter", "-q", "--count", "100000", "--")
    assert skep_run(*words, "/bin/sh", "-c", "exit 7").returncode == 7
    assert skep_run(*words, "/bin/sh", "-c", "kill -9 $$").returncode == 128 + 9
    done = skep_run(*words, "/nonexistent/command")
    assert done.returncode == 127
    assert "No such file" in done.stderr


def test_bpf_printk(file: str) -> None:
    """trace_pipe gives a line to one reader: others on the machine may take some, so try again."""
    for _ in range(50):
        done = skep_run(file, "printing", "-j", "--set", "wanted={pid}", "--", "/bin/true")
        assert done.returncode == 0, done.stderr
        if "tracing is off" in done.stderr:
            absent("tracing (tracing_on in tracefs, which a kernel that found a bug of its own switches off)")
        found = [row for row in rows(done) if row.get("printk", "").startswith("hello from ")]
        mine = [row for row in found if row["printk"] == f"hello from {row.get('pid')}"]
        if mine:
            assert mine[0]["cpu"] >= 0
            return
    pytest.fail("no line of ours in trace_pipe")


def test_a_line_of_trace_pipe() -> None:
    line = "a name-with-1-1234    [003] ...21  8812.345678: bpf_trace_printk: x: bpf_trace_printk: y"
    row = parse(line)
    assert row == {
        "printk": "x: bpf_trace_printk: y",
        "task": "a name-with-1",
        "pid": 1234,
        "cpu": 3,
        "time": "8812.345678",
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_detaches(file: str, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "skep", "run", file, "enter"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("enter: raw tracepoint")
            owned = _links_of(process.pid)
            assert len(owned) == 1
            process.send_signal(number)
            process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0
    wait(lambda: not owned & set(ids(LinuxKernel(), "link")))


def _links_of(pid: int) -> set[int]:
    found: set[int] = set()
    for fd in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in fd.read_text().splitlines():
            if line.startswith("link_id:"):
                found.add(int(line.split()[1]))
    return found


def test_duration(file: str) -> None:
    done = skep_run(file, "enter", "--duration", "0.2")
    assert done.returncode == 0
    assert "events: 0 records" in done.stderr


def test_xdp_drop_stops_a_ping(file: str) -> None:
    netns()
    ip, ping = tool("ip"), tool("ping")
    name = f"skep-run-{os.getpid()}"
    other = f"{name}-b"
    for each in (name, other):
        subprocess.run([ip, "netns", "add", each], check=True)
    try:
        make = ["link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", other]
        subprocess.run([ip, "-n", name, *make], check=True)
        for each, device, address in ((name, "v0", "10.77.0.1/24"), (other, "v1", "10.77.0.2/24")):
            subprocess.run([ip, "-n", each, "addr", "add", address, "dev", device], check=True)
            subprocess.run([ip, "-n", each, "link", "set", device, "up"], check=True)
        wait(lambda: all(interface_is_up(*each) for each in ((name, "v0"), (other, "v1"))))
        inside = [ip, "netns", "exec", name]
        send, once = ["-c", "1", "-W", "60", "10.77.0.2"], ["-c", "1", "-W", "1", "10.77.0.2"]
        assert subprocess.run([*inside, ping, *send], capture_output=True, check=False).returncode == 0
        done = skep_run(file, "drop", "-i", "v0", "--xdp-mode", "generic", "--", ping, *once, prefix=inside)
        assert done.returncode == 1, done.stderr
        assert "drop: " in done.stderr
        assert subprocess.run([*inside, ping, *send], capture_output=True, check=False).returncode == 0
    finally:
        for each in (name, other):
            subprocess.run([ip, "netns", "del", each], check=True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("drop",), "drop (xdp) needs --iface NAME"),
        (("block",), "block (cgroup_skb) needs --cgroup DIR"),
        (("nothing",), "no program 'nothing'"),
        (("drop", "-i", "nonexistent0"), "nonexistent0"),
        (("enter", "--set", "nothing=1"), "nothing"),
        (("enter", "--set", "wanted={pid}"), "no command"),
        (("enter", "--set", "wanted"), "NAME=VALUE"),
        (("enter", "--max-entries", "counts=x"), "no number"),
        (("enter", "--type", "nothing"), "no type 'nothing'"),
        (("enter", "--type", "x=event"), "no map 'x'"),
    ],
)
def test_what_fails_says_why(file: str, words: tuple[str, ...], complaint: str) -> None:
    done = skep_run(file, *words)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [(), ("x.o", "--"), ("x.o", "--nothing"), ("x.o", "--count", "x")])
def test_wrong_usage(words: tuple[str, ...]) -> None:
    done = skep_run(*words)
    assert done.returncode == 2
    assert done.stdout == ""


def test_sources_are_named(tmp_path: Path) -> None:
    for name in ("x.c", "x.bt", "x.s"):
        done = skep_run(str(tmp_path / name))
        assert done.returncode == 1
        assert "no object" in done.stderr
    done = skep_run(str(tmp_path / "x.py"))
    assert done.returncode == 1
    assert "no such file" in done.stderr


def test_records_of_a_named_type(file: str) -> None:
    words = (file, "enter", "-j", "--set", "wanted={pid}", "--count", "1", "--type", "events=sample")
    done = skep_run(*words, "--", "/bin/true")
    assert done.returncode == 0, done.stderr
    first = next(row for row in rows(done) if "map" in row)
    if first["map"] == "events":
        assert set(first["data"]) == {"number", "low", "high"}


def test_records_whose_types_are_local(tmp_path: Path) -> None:
    """Types that BTF does not have come from DWARF; a record may end before its struct does."""
    bpf()
    path = compile_c("local_types", tmp_path)
    call = "import os; os.getppid()"
    done = skep_run(str(path), "-j", "--no-printk", "--", sys.executable, "-c", call)
    assert done.returncode == 0, done.stderr
    found = {row["map"]: row["data"] for row in rows(done)}
    assert found["rings"]["number"] == 7 and found["rings"]["comm"].startswith("python")
    assert found["events"]["pid"] > 0
    assert {**found["events"], "pid": 0} == {"pid": 0, "negative": -5, "text": "short"}
    stripped = tmp_path / "stripped.o"
    subprocess.run([tool("llvm-strip-19", "llvm-strip"), "-g", path, "-o", stripped], check=True)
    done = skep_run(str(stripped), "-j", "--no-printk", "--", sys.executable, "-c", call)
    assert all(isinstance(row["data"], str) for row in rows(done)), "hex: what fits is a type of the kernel's"


def test_only_the_files_that_the_command_opens() -> None:
    """Becoming the command opens no file of Python's."""
    bpf()
    example = str(ROOT / "examples" / "opensnoop.py")
    done = skep_run(example, "-j", "-q", "--", "cat", "/dev/null")
    assert done.returncode == 0, done.stderr
    events = [row["data"] for row in rows(done) if row.get("map") == "events"]
    assert {event["comm"] for event in events} == {"cat"}
    assert "/dev/null" in [event["path"] for event in events]
