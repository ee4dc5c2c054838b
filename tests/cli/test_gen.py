"""`skep gen`: generated modules work and are typed; the smallest BTF equals bpftool's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.bpftool import Pair, compile_c
from tests.support.oracles import ROOT, bpf, tool


@pytest.fixture
def pair(capsys: pytest.CaptureFixture[str]) -> Pair:
    return Pair(capsys)


def test_a_skeleton_runs(pair: Pair, tmp_path: Path) -> None:
    bpf()
    status, text, err = pair.ours("gen", "skeleton", str(compile_c("nouns", tmp_path)))
    assert (status, err) == (0, "")
    (tmp_path / "nouns_skel.py").write_text(text)
    script = """
import nouns_skel
with nouns_skel.Nouns.load(variables={"counter": 8}) as bpf:
    assert bpf.data.counter == 8
    assert bpf.rodata.bpf_metadata_version == 3
    assert bpf.programs.xdp_with_a_long_name.run(bytes(64)).retval == 2
    assert bpf.data.counter == 9 and bpf.bss.sum > 0
    assert sum(bpf.maps.each_cpu[0]) == 9
    print(bpf.programs.sock.name, bpf.maps.jumps.max_entries)
"""
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.stdout, done.stderr) == ("sock 4\n", "")


@pytest.mark.parametrize("name", ["nouns", "events"])
def test_a_skeleton_is_typed(pair: Pair, tmp_path: Path, name: str) -> None:
    pytest.importorskip("mypy")
    _, text, _ = pair.ours("gen", "skeleton", str(compile_c(name, tmp_path)), "name", f"my_{name}")
    module = tmp_path / "skeleton.py"
    use = {
        "nouns": "def f(b: MyNouns, k: key) -> int:\n    return b.maps.typed[k].pair[0].a + b.data.counter\n",
        "events": "def f(b: MyEvents) -> int:\n    return b.maps.counts[1] + b.bss.seen\n",
    }
    module.write_text(text + "\n\n" + use[name])
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(module)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "src", check=False)
    assert done.returncode == 0, done.stdout


_PRELUDE = """
#include <linux/bpf.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
static void *(*lookup)(void *map, const void *key) = (void *)1;
"""
_LIBRARY = """
struct limit { __u32 most; __u16 ports[4]; };
struct {
	__uint(type, 2);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct limit);
} limits SEC(".maps");
__u64 asked = 0;
static __u64 secret = 7;
struct limit standard = { .most = 5, .ports = {1, 2, 3, 4} };
int allowed(__u32 key)
{
	struct limit *l = lookup(&limits, &key);
	asked++;
	secret += asked;
	return l ? l->most > standard.most : secret == 1;
}
char LICENSE[] SEC("license") = "GPL";
"""
_WHOLE = """
extern int allowed(__u32 key);
__u64 runs = 100;
SEC("tc") int entry(struct __sk_buff *skb) { runs++; return allowed(1); }
char LICENSE[] SEC("license") = "GPL";
"""


def _compiled(folder: Path, name: str, text: str) -> str:
    source, out = folder / f"{name}.c", folder / f"{name}.o"
    source.write_text(_PRELUDE + text)
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    words = ["-target", "bpf", "-g", "-O2", include, "-c", str(source), "-o", str(out)]
    subprocess.run([tool("clang-19", "clang"), *words], check=True)
    return str(out)


def test_a_subskeleton_is_a_part_of_a_whole(pair: Pair, tmp_path: Path) -> None:
    """A library's maps and variables, typed, in the object that it was linked into."""
    bpf()
    library, whole = _compiled(tmp_path, "library", _LIBRARY), _compiled(tmp_path, "whole", _WHOLE)
    assert pair.ours("gen", "object", str(tmp_path / "linked.o"), whole, library)[0] == 0
    status, text, err = pair.ours("gen", "subskeleton", library, "name", "limiter")
    assert (status, err) == (0, "")
    assert "secret" not in text and "OBJECT" not in text
    (tmp_path / "part.py").write_text(text)
    script = """
import skep, part
with skep.load("linked.o") as whole:
    limiter = part.Limiter(whole)
    limiter.data.standard = {"most": 9, "ports": [4, 3, 2, 1]}
    limiter.maps.limits[1] = {"most": 10}
    assert whole.entry.run(bytes(64)).retval == 1
    limiter.maps.limits[1] = {"most": 9}
    assert whole.entry.run(bytes(64)).retval == 0
    print(limiter.bss.asked, limiter.data.standard.ports, whole.data.runs)
with skep.load("whole_alone.o") as other:
    try:
        part.Limiter(other)
    except skep.SkepError as error:
        print(error)
"""
    _compiled(
        tmp_path,
        "whole_alone",
        _WHOLE.replace("allowed(1)", "1").replace("extern int allowed(__u32 key);", ""),
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        [
            "2 [4, 3, 2, 1] 102",
            "object whole_alone has no map limits, no variable asked, no variable standard",
        ],
    )
    pytest.importorskip("mypy")
    use = "def f(p: Limiter) -> int:\n    return p.bss.asked + p.maps.limits[0].ports[1]\n"
    (tmp_path / "used.py").write_text(text + "\n\n" + use)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, str(tmp_path / "used.py")], capture_output=True, text=True, cwd=ROOT / "src", check=False
    )
    assert done.returncode == 0, done.stdout


def test_gen_object_links(pair: Pair, tmp_path: Path) -> None:
    source = compile_c("nouns", tmp_path)
    out = tmp_path / "linked.o"
    assert pair.ours("gen", "object", str(out), str(source))[0] == 0
    assert out.read_bytes()[:4] == b"\x7fELF"
    status, _, err = pair.ours("gen", "object", str(tmp_path / "none.o"), "/nonexistent.o")
    assert status == 1
    assert err.count("\n") == 1
    assert not (tmp_path / "none.o").exists()


def test_min_core_btf(pair: Pair, tmp_path: Path) -> None:
    folder = ROOT / "tests" / "obj" / "c"
    source, out = folder / "relocated.c", tmp_path / "relocated.o"
    words = [tool("clang-19", "clang"), "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I{folder}"]
    include = "-I/usr/include/x86_64-linux-gnu"
    subprocess.run([*words, include, "-c", str(source), "-o", str(out)], check=True, capture_output=True)
    ours, theirs = str(tmp_path / "ours.btf"), str(tmp_path / "theirs.btf")
    vmlinux = "/sys/kernel/btf/vmlinux"
    assert pair.ours("gen", "min_core_btf", vmlinux, ours, str(out))[0] == 0
    assert pair.theirs("gen", "min_core_btf", vmlinux, theirs, str(out))[0] == 0
    dumped = pair.theirs("btf", "dump", "file", theirs)[1]
    assert pair.theirs("btf", "dump", "file", ours)[1] == dumped
    assert dumped.count("\n") > 100
