"""Programs are compiled once: what makes another object, what a second start loads, what can go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skep.bpf.key import of_programs
from skep.errors import CompileError, MissingDependency
from skep.loading import build, programs_of
from tests.lang.support import HEADER, module
from tests.test_surface import HEAVY

SOURCE = """
import skep_test_constants as k
LIMIT = {limit}

@bpf.struct
class Value:
    n: {kind}
    name: bytes = bpf.char({size})

table = bpf.Hash(u32, Value, max_entries={entries})
start: u64 = bpf.var({start})

def helper(x: u64) -> u64:
    return x + {add}

def factory(n):
    @bpf.xdp
    def main(ctx: bpf.Xdp) -> int:
        return helper(LIMIT) + k.NUMBER + n
    return main

main = factory({inner})
"""
GIVEN = {"limit": 1, "kind": "u32", "size": 8, "entries": 16, "start": 0, "add": 1, "inner": 5}


def keys(folder: Path, name: str, number: int = 3, cpu: str = "v3", **changed: object) -> list[bytes]:
    other = folder / "skep_test_constants.py"
    other.write_text(f"NUMBER = {number}\n")
    sys.path.insert(0, str(folder))
    try:
        sys.modules.pop("skep_test_constants", None)
        made = module(folder, HEADER + SOURCE.format(**{**GIVEN, **changed}), name)
        return of_programs(programs_of(made), cpu)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("skep_test_constants", None)


@pytest.mark.parametrize(
    "change",
    [*({name: 9} for name in GIVEN if name != "kind"), {"kind": "u64"}, {"number": 4}, {"cpu": "v2"}],
    ids=str,
)
def test_what_changes_the_key(tmp_path: Path, change: dict[str, object]) -> None:
    same = keys(tmp_path, "one")
    assert keys(tmp_path, "one") == same
    assert keys(tmp_path, "one", **change) != same  # type: ignore[arg-type]


def test_values_made_by_the_module_change_the_key(tmp_path: Path) -> None:
    """The file is the same, what it computes is not."""
    text = (
        HEADER + "import os\nLIMIT = int(os.environ['SKEP_TEST_LIMIT'])\ntable = bpf.Hash(u32, u32, LIMIT)\n"
    )
    text += "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n"
    found = []
    for limit in ("1", "2", "2"):
        os.environ["SKEP_TEST_LIMIT"] = limit
        found.append(of_programs(programs_of(module(tmp_path, text))))
    assert found[0] != found[1] == found[2]


def test_the_second_start_loads_no_compiler(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\nimport prog\nfrom skep.loading import build\n"
        "assert build(prog.main).startswith(b'\\x7fELF')\nprint(' '.join(sys.modules))"
    )
    seen = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env={**os.environ, "SKEP_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=True,
        )
        seen.append(set(done.stdout.split()))
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True
    )
    assert "skep.lang.walk" in seen[0]
    new = seen[1] - set(bare.stdout.split())
    assert not {name for name in new if name.startswith(("skep.lang", "skep.btf", "llvmlite"))}
    assert not new & {*HEAVY, "typing", "re", "subprocess"}


def test_a_damaged_entry_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKEP_CACHE", str(tmp_path / "cache"))
    made = module(tmp_path, HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n")
    first = build(made)
    (entry,) = (tmp_path / "cache").iterdir()
    data = entry.read_bytes()
    entry.write_bytes(data[:-9] + b"\0" * 9)
    assert build(made) == first
    assert entry.read_bytes() == data


def test_what_is_no_program(tmp_path: Path) -> None:
    made = module(tmp_path, HEADER + "def plain(x):\n    return x\n")
    for wrong in (made, made.plain, [], [made.plain], 5):
        with pytest.raises(CompileError, match="holds no BPF program"):
            build(wrong)  # type: ignore[arg-type]


def test_without_llvmlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.llvm.host.llvmlite_home", lambda: None)
    made = module(tmp_path, HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 1\n")
    with pytest.raises(MissingDependency, match=r"skep\[llvm\]"):
        build(made, cache=False)


def test_where_the_source_lies_makes_no_difference(tmp_path: Path) -> None:
    """Line information names the file, not its folder: the same bytes from every place, twice."""
    text = HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return ctx.rx_queue_index & 1\n"
    made = []
    for folder, name in (("a", "prog"), ("b", "prog"), ("b", "prog"), ("b", "other")):
        (tmp_path / folder).mkdir(exist_ok=True)
        made.append(build(module(tmp_path / folder, text, name), cache=False))
    assert made[0] == made[1] == made[2] != made[3]
    assert b"other.py" in made[3] and b"prog.py" not in made[3] and str(tmp_path).encode() not in made[0]


def test_a_file_of_another_name_is_another_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKEP_CACHE", str(tmp_path / "cache"))
    text = HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n"
    build(module(tmp_path, text, "one"))
    assert b"two.py" in build(module(tmp_path, text, "two"))


@pytest.mark.parametrize("cache", ["file", "/proc/self/nothing", "shared"])
def test_a_cache_that_cannot_be_used(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)  # anybody could put something there
    monkeypatch.setenv("SKEP_CACHE", str(tmp_path / cache))
    made = module(tmp_path, HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n")
    assert build(made) == build(made, cache=False)
    assert not list((tmp_path / "shared").iterdir())


def test_several_processes_at_once(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\nimport prog\nfrom skep.loading import build\n"
        "sys.stdout.buffer.write(build(prog))"
    )
    env = {**os.environ, "SKEP_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-c", script, str(tmp_path)]
    running = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE) for _ in range(3)]
    made = [process.communicate(timeout=120)[0] for process in running]
    assert made[0].startswith(b"\x7fELF") and len(set(made)) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1
