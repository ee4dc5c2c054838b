"""`skep build` and `skep check` as a user meets them."""

# ruff: noqa: E501 (inputs and what is said of them stay whole)
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skep.obj import read
from tests.support import oracles

EXAMPLES = oracles.ROOT / "examples"
GOOD = """
from skep import bpf
from skep.bpf import u32, u64

seen = bpf.Hash(u32, u64, max_entries=64)

@bpf.xdp
def count(ctx: bpf.Xdp) -> int:
    seen[ctx.rx_queue_index] += 1
    return bpf.XDP_PASS

@bpf.xdp
def drop(ctx: bpf.Xdp) -> int:
    return bpf.XDP_DROP
"""


def skep(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skep", *words], capture_output=True, text=True, timeout=120, cwd=cwd
    )


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "counters.py"
    path.write_text(GOOD)
    return str(path)


def test_an_object_in_the_current_folder(good: str, tmp_path: Path) -> None:
    done = skep("build", good, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    spec = read(tmp_path / "counters.bpf.o")
    assert list(spec.programs) == ["count", "drop"]
    assert "seen" in spec.maps
    assert spec.license == "GPL"


def test_only_some_programs(good: str, tmp_path: Path) -> None:
    out = str(tmp_path / "x.o")
    assert skep("build", good, "drop", "-o", out, "--license", "MIT").returncode == 0
    spec = read(out)
    assert list(spec.programs) == ["drop"]
    assert spec.license == "MIT"


def test_what_programs_became(tmp_path: Path) -> None:
    """-v says which kind of program a tracepoint's is, and why."""
    path = tmp_path / "points.py"
    path.write_text("""
from skep import bpf

@bpf.tracepoint("sched:sched_switch")
def nothing() -> int:
    return 0

@bpf.tracepoint("syscalls:sys_enter_openat")
def call() -> int:
    return 0

@bpf.xdp
def drop(ctx: bpf.Xdp) -> int:
    return bpf.XDP_DROP
""")
    done = skep("build", str(path), "-v", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("nothing: raw_tp/sched_switch (a raw tracepoint")
    assert lines[1].startswith("call: tracepoint/syscalls/sys_enter_openat (its record")
    assert lines[2] == "drop: xdp"
    sections = {p.name: p.section for p in read(tmp_path / "points.bpf.o").programs.values()}
    assert sections["nothing"] == "raw_tp/sched_switch"


def test_what_else_can_be_written(good: str) -> None:
    ir = skep("build", good, "--emit", "ir").stdout
    assert "define" in ir
    assert "@count(" in ir
    assert "count:" in skep("build", good, "--emit", "asm").stdout
    assert "typedef" in skep("build", str(EXAMPLES / "opensnoop.py"), "--emit", "c-types").stdout
    assert "struct Opened {" in skep("build", str(EXAMPLES / "opensnoop.py"), "--emit", "c-types").stdout


@pytest.mark.parametrize("cpu", ["v1", "v2", "v3", "v4"])
def test_instruction_sets(good: str, cpu: str, tmp_path: Path) -> None:
    out = str(tmp_path / "x.o")
    assert skep("build", good, "-o", out, "--cpu", cpu).returncode == 0
    classes = {row.opcode & 7 for f in read(out).functions.values() for row in f.insns}
    assert (6 in classes or 4 in classes) or cpu in ("v1", "v2")  # 32-bit instructions from v3 on


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = (", "was never closed"),
        ("import nothing_of_this_name", "ModuleNotFoundError while it was imported"),
        ("x = 1", "no BPF program in this file"),
        ("raise SystemExit(3)", "ends Python while it is imported"),
        ("from skep import bpf\n@bpf.xdp\ndef p(ctx: bpf.Xdp) -> int:\n    return 1.5\n", "p.py:4:12"),
        ("from skep import bpf\n@bpf.nosuch\ndef p(): pass\n", "nosuch"),
    ],
)
def test_a_program_that_cannot_be_built(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text(text)
    done = skep("build", str(path), "-o", str(tmp_path / "p.o"))
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "p.o").exists()


PROGRAM = "from skep import bpf\n@bpf.xdp\ndef p(ctx: bpf.Xdp) -> int:\n    return nothing\n"


@pytest.mark.parametrize(
    ("data", "says", "line"),
    [
        (b"# caf\xe9\n" + PROGRAM.encode(), "p.py:1:6: byte 0xe9 is no UTF-8", "# caf\ufffd"),
        (PROGRAM.replace("nothing", "0\0").encode(), "p.py:4:13: source code string cannot contain null bytes", ""),
        (PROGRAM.replace("\n", "\r").encode(), "p.py:4:12: 'nothing' is not defined", "    return nothing"),
        (PROGRAM.replace("\n", "\r\n").encode(), "p.py:4:12: 'nothing' is not defined", "    return nothing"),
        (b"\xef\xbb\xbf" + PROGRAM.encode(), "p.py:4:12: 'nothing' is not defined", "    return nothing"),
        (b"# -*- coding: latin-1 -*-\n# \xe9\n" + PROGRAM.encode(), "p.py:6:12: 'nothing'", "    return nothing"),
        (PROGRAM.replace("    return", "\treturn").encode(), "p.py:4:9: 'nothing' is not", " return nothing"),
        (PROGRAM.replace("    return", "    x = 1\n\treturn").encode(), "p.py:5:1: inconsistent use of tabs", ""),
        (b"class E(BaseException):\n    pass\nraise E('a\\nb')\n", "p.py:3:1: E while it was imported: a b", ""),
        (b"import os\nos.nosuch()\n", "p.py:2:1: AttributeError while it was imported", "os.nosuch()"),
        (b"import beside\n", "p.py:1:1: ZeroDivisionError while it was imported: division by zero (beside.py:2)",
         "import beside"),
        (b"import p\np.x\n", "p.py:2:1: AttributeError while it was imported", ""),
        (b"x = " + b"(" * 1000 + b")" * 1000, "too many nested parentheses", ""),
        (b"x = 1" + b" + 1" * 20_000, "", ""),
        (b"", "no BPF program in this file", ""),
    ],
)  # fmt: skip
def test_files_that_are_wrong(data: bytes, says: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_bytes(data)
    (tmp_path / "beside.py").write_text("x = 0\n1 / x\n")
    done = skep("build", str(path), "-o", str(tmp_path / "p.o"))
    assert done.returncode == 1
    assert says in done.stderr and "Traceback" not in done.stderr
    first, *rest = done.stderr.splitlines()
    assert first.endswith(")")  # what to write instead
    if line:
        assert rest[0] == line
    if rest:
        assert set(rest[1]) <= {" ", "^"} and "^" in rest[1]
    assert not (tmp_path / "p.o").exists()


def test_what_is_no_file(good: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    for name, says in (
        ("pipe.py", "is no regular file"),
        ("folder.py", "is a folder"),
        ("none.py", "no such file"),
        ("x.txt", "no Python file"),
    ):
        done = skep("build", str(tmp_path / name))
        assert done.returncode == 1 and done.stderr.endswith("\n") and says in done.stderr, name


def test_where_the_object_goes(good: str, tmp_path: Path) -> None:
    """A source is not written over; what cannot be written says so, and leaves nothing behind."""
    other = tmp_path / "link"
    other.symlink_to(good)
    for out, says in (
        (good, "a source file is not written over"),
        (str(other), "a source file is not written over"),
        (str(tmp_path / "other.py"), "a source file is not written over"),
        (str(tmp_path / "none" / "x.o"), "No such file or directory"),
        (str(tmp_path), "Is a directory"),
        ("/dev/full", "No space left on device"),
    ):
        before = sorted(tmp_path.iterdir())
        done = skep("build", good, "-o", out)
        assert done.returncode == 1 and says in done.stderr, (out, done.stderr)
        assert sorted(tmp_path.iterdir()) == before and Path(good).read_text() == GOOD


def test_usage(tmp_path: Path) -> None:
    assert skep("build").returncode == 2
    assert skep("build", "x.py", "--cpu", "v9").returncode == 2
    assert skep("build", str(tmp_path / "x.c")).returncode == 1
    assert "no such file" in skep("build", str(tmp_path / "x.py")).stderr
    assert skep("check").returncode == 2
    assert skep("check", "x.o", "--kernel", "six").returncode == 2


def test_check_accepts(good: str) -> None:
    done = skep("check", good)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["count", "ok"], ["drop", "ok"]]
    rows = json.loads(skep("check", good, "-j").stdout)
    assert [row["accepted"] for row in rows] == [True, True]
    assert rows[1]["processed"] == 2


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> str:
    clang = oracles.tool("clang-19", "clang")
    out = tmp_path_factory.mktemp("check") / "refused.o"
    source = oracles.ROOT / "tests" / "explain" / "c" / "refused.bpf.c"
    words = ["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wno-everything"]
    subprocess.run([clang, *words, "-c", str(source), "-o", str(out)], check=True)
    return str(out)


def test_check_explains(refused: str) -> None:
    """What a kernel's log would be explained as, without a kernel."""
    done = skep("check", refused, "-p", "stale_packet", "-p", "no_null_check")
    assert done.returncode == 1
    assert "R6 invalid mem access 'scalar'" in done.stdout
    assert "[lost-pointer]" in done.stdout
    assert "refused.bpf.c:67:12" in done.stdout
    assert "bpf_skb_pull_data made this packet pointer invalid" in done.stdout
    assert "[unchecked-null]" in done.stdout


def test_check_agrees_with_the_families(refused: str) -> None:
    """Every program of the file: refused for the family of mistakes that a kernel's log is read as."""
    from tests.explain import logs

    names = [name for name in logs.read("6.18") if name in logs.FAMILIES]
    words = [word for name in names for word in ("-p", name)]
    rows = json.loads(skep("check", "-j", refused, *words).stdout)
    told = {row["program"]: row.get("explanation", {}).get("family") for row in rows}
    assert told == {name: logs.family("6.18", name) for name in names}


def test_older_kernels(good: str) -> None:
    done = skep("check", str(EXAMPLES / "opensnoop.py"), "--kernel", "5.4")
    assert done.returncode == 1
    assert "5.8" in done.stdout  # ring buffers
    done = skep("check", good, "-p", "drop", "--kernel", "all")
    assert done.returncode == 0
    assert "loads on Linux" in done.stdout


def test_several_files(good: str, refused: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.o"
    bad.write_bytes(b"\x7fELF" + os.urandom(50))
    done = skep("check", good, str(bad))
    assert done.returncode == 1
    assert "count" in done.stdout
    assert "bad.o" in done.stderr
    assert "Traceback" not in done.stderr
