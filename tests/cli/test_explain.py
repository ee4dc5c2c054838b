"""`skep explain` as a user meets it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.explain import logs
from tests.support import oracles

SOURCE = Path(logs.HERE) / "c" / "refused.bpf.c"


def skep(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skep", "explain", *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> str:
    clang = oracles.tool("clang-19", "clang")
    out = tmp_path_factory.mktemp("explain") / "refused.o"
    words = ["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wno-everything"]
    subprocess.run([clang, *words, "-c", str(SOURCE), "-o", str(out)], check=True)
    return str(out)


def test_from_standard_input() -> None:
    done = skep("-", text=logs.read("6.18")["no_null_check"])
    assert done.returncode == 0
    assert "[unchecked-null]" in done.stdout
    assert "if (!v) return" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_object_gives_columns(refused: str, tmp_path: Path) -> None:
    """A log of 5.10 has no line numbers; the program that fits it is found by its instructions."""
    log = tmp_path / "log"
    log.write_text(logs.read("5.10")["no_null_check"])
    done = skep(str(log), refused)
    assert done.returncode == 0, done.stderr
    assert "refused.bpf.c:86:13" in done.stdout


def test_a_program_that_does_not_fit(refused: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("0: (18) r1 = 0x0\n2: (dc) r1 = be16 r1\n77: (95) exit\nR0 !read_ok\n")
    done = skep(str(log), refused)
    assert done.returncode == 1
    assert "no program fits the log" in done.stderr
    done = skep(str(log), refused, "--program", "nobody")
    assert done.returncode == 1
    assert "no program 'nobody'" in done.stderr


def test_json(refused: str) -> None:
    done = skep("-j", "-", refused, "-p", "bound_off_by_one", text=logs.read("6.18")["bound_off_by_one"])
    told = json.loads(done.stdout)
    assert told["family"] == "unbounded-index"
    assert told["source"]["line"] == 108
    assert told["register"] == "r0"
    assert told["story"]
    assert told["path"][-1]["insn"] == 11


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("hello\n", "no verifier log"),
        ("\0\1\2", "no text"),
        ("0: (95) exit\nprocessed 1 insns (limit 1000000)\n", "no refusal"),
    ],
)
def test_what_is_no_log(text: str, says: str) -> None:
    done = skep("-", text=text)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("order", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_other_encodings(order: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    mark = "\ufeff" if order == "utf-16-be" else ""
    log.write_bytes((mark + logs.read("6.18")["no_null_check"].replace("\n", "\r\n")).encode(order))
    done = skep(str(log))
    assert done.returncode == 0, done.stderr
    assert "[unchecked-null]" in done.stdout


def test_a_buffer_written_down_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(logs.read("6.18")["no_null_check"].encode().ljust(1 << 16, b"\0"))
    done = skep(str(log))
    assert done.returncode == 0, done.stderr
    assert "[unchecked-null]" in done.stdout


def test_the_end_of_a_huge_log(tmp_path: Path) -> None:
    """However much stands before it, in a file or a stream."""
    log = tmp_path / "log"
    with log.open("w") as file:
        for _ in range(40):
            file.write("#" * (1 << 20) + "\n")
        file.write(logs.read("6.18")["no_null_check"])
    for done in (skep(str(log)), skep("-", text=log.read_text())):
        assert done.returncode == 0, done.stderr
        assert "[unchecked-null]" in done.stdout


def test_what_is_something_else(refused: str, tmp_path: Path) -> None:
    done = skep(refused)
    assert done.returncode == 1
    assert "`skep check`" in done.stderr
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(logs.read("6.18")["no_null_check"].encode()))
    done = skep(str(packed))
    assert done.returncode == 1
    assert "compressed" in done.stderr


def test_numbers_without_end() -> None:
    """More digits than Python makes numbers of, wherever a number stands."""
    many = "7" * 5000
    for text in (
        f"{many}: (95) exit\nR0 !read_ok\n",
        f"0: (95) exit\nR0 !read_ok\nprocessed {many} insns\n",
        f"from {many} to 3: R0={many}\n0: R1=pkt(off={many},r=-{many})\n"
        f"0: (71) r0 = *(u8 *)(r1 +{many})\ninvalid access to packet, off={many} size={many}, R1(id=0)\n",
    ):
        done = skep("-", text=text)
        assert done.returncode in (0, 1)
        assert "Traceback" not in done.stderr


def test_usage() -> None:
    assert skep().returncode == 2
    assert skep("/nonexistent/log").returncode == 1
