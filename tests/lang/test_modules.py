"""Mistakes outside of programs: decorators, maps, licenses, and what a module's names may be."""

# ruff: noqa: E501 (programs and messages stay whole)
from __future__ import annotations

import re
from pathlib import Path

import pytest

from skep.cli.python import imported
from skep.errors import CompileError, SkepError
from skep.lang.compile import to_ir
from skep.loading import programs_of
from tests.lang.support import HEADER, module

END = "\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n"
TRACE = '\n@bpf.tp_btf("sched_switch")\ndef main() -> int:\n    BODY\n    return 0\n'

#: (source, what the compiler says, the line it says it of)
WRONG = [
    ("@bpf.xpd\ndef main(ctx: bpf.Xdp) -> int:\n    return 2", "no hook is called bpf.xpd (did you mean bpf.xdp?)", 3),
    ('@bpf.tracepoint("sys_enter_openat")\ndef main(ctx) -> int:\n    return 0',
     '@bpf.tracepoint(\'sys_enter_openat\'): a tracepoint belongs to a system (write "syscalls:sys_enter_openat"', 3),
    ("@bpf.xdp\nclass Main:\n    pass", "@bpf.xdp decorates a function, and this is class Main (write a function", 3),
    ("@bpf.xdp\n@bpf.tc\ndef main(ctx) -> int:\n    return 2",
     "@bpf.xdp decorates a function, and this is a program of 'tc' already (write", 3),
    ("class A:\n    x: u32\nm = bpf.Hash(u32, A)" + END,
     "map m: its value: A is no type that has a size in memory (write @bpf.struct above class A", 5),
    ("m = bpf.RingBuf(u32, max_entries=4096)" + END, "RingBuf: a ring has bytes (write size=4096)", 3),
    ("x: u32 = bpf.const(-1)" + END, "-1 does not fit u32, which holds 0 to 4294967295 (write 0xffffffff, or", 3),
    ('x: u32 = bpf.var("a")' + END, "x: 'a' is no integer (give a number)", 3),
    ("x = bpf.var(0)\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    global x\n    x += 1\n    return 2",
     "global x: its type is not said (give it one, x: u64 = ...)", 3),
    ('@bpf.tp_btf("sched_switchh")\ndef main(preempt, prev) -> int:\n    return 0',
     "the kernel has no tracepoint 'sched_switchh' (did you mean 'sched_switch'?)", 4),
    ('@bpf.lsm("file_openn")\ndef main(file) -> int:\n    return 0',
     "the kernel has no LSM hook 'file_openn' (did you mean 'file_open'?)", 4),
    ("m = bpf.Hash(u32, u64, max_entries=-1)" + END, "Hash: max_entries=-1 is no count of elements", 3),
    ("m = bpf.Hash(u32)" + END, "TypeError while it was imported", 3),
    ("m = bpf.Hash(u32, 'u64')" + END, "map m: its value: 'u64' is no type that has a size in memory", 3),
    ("x: u32 = bpf.var(1 << 40)" + END, "x: 1099511627776 does not fit u32", 3),
    ("license = 5" + END, "license is 5, no text", 3),
    ('license = "MIT"' + TRACE.replace("BODY", 'bpf.printk("x")'),
     "bpf_trace_printk is for programs under a GPL-compatible license, and this one's is 'MIT'", 6),
    ('license = "Apache-2.0"' + TRACE.replace("BODY", "bpf.current_task()"),
     "bpf_get_current_task is for programs under a GPL-compatible license", 6),
    ("@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    m = bpf.Hash(u32, u64)\n    return 2",
     "a Hash is declared at module level, not in a program", 5),
    ("@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    print(f'{ctx.rx_queue_index}')\n    return 2",
     "print() does not exist inside a program", 5),
    ("maps = [bpf.Hash(u32, u64)]\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    maps[0][1] = 2\n    return 2",
     "maps is a Python list, which programs cannot see", 6),
    ("maps = bpf.ArrayOfMaps(bpf.Array(u16, 2), 2, initial=[bpf.Array(u64, 2)])" + END,
     "map maps: initial[0] is of another kind, key or value than the inner maps", 3),
    ("m = bpf.Hash(u32, u64, name='bad name')" + END, "Hash: name='bad name' is not of ASCII letters, digits and _", 3),
    ("m = bpf.Hash(u32, u64, name=5)" + END, "Hash: name=5 is not of ASCII letters", 3),
    ("m = bpf.Hash(u32, u64, flags='x')" + END, "Hash: flags='x' is no number", 3),
    ("m = bpf.HashOfMaps(u32, u64)" + END, "HashOfMaps: u64 is no map", 3),
    ("m = bpf.ProgArray(2, initial={0: 5})" + END, "map m: initial[0] is 5, and its slots hold programs", 3),
    ("m = bpf.ArrayOfMaps(bpf.Array(u64, 2), 2, initial=[bpf.Array(u64, 2)] * 3)" + END,
     "map m: initial[2] is beyond its 2 slots", 3),
    ("größe = bpf.Hash(u32, u64)" + END, "'größe': kernels take names of ASCII letters, digits and _ only", 3),
    (END.replace("main", "größe"), "'größe': kernels take names of ASCII letters", 5),
    ("m" * 200 + " = bpf.Hash(u32, u64)" + END, "...: kernels take names of 127 bytes", 3),
    ("@bpf.struct\nclass A:\n    größe: u32\nm = bpf.Hash(u32, A)" + END, "'größe' names a type or field", 6),
    ("x: u8 = bpf.var(256)" + END, "x: 256 does not fit u8, which holds 0 to 255", 3),
    ("@bpf.struct\nclass A:\n    x: u32\nv: A = bpf.var(5)" + END, "v: 5 is no A", 6),
    ("x: list[u32] = bpf.var(5)" + END, "list is no type that has a size in memory (say how many", 3),
    ("@bpf.xdp\ndef main(ctx: bpf.Xdp) -> str:\n    return 2", "a program returns a number, no str", 4),
    ("def f(a, /, b):\n    return a\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return f(a=1, b=2)",
     "f() takes 'a' by position only (f(a))", 7),
    ("class P:\n    x: u32\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    p = P()\n    return 2",
     "class P cannot be called in a program (make it a struct: @bpf.struct above class P)", 7),
    ("S = frozenset((1, 2))\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 1 in S",
     "S is a Python frozenset, which programs cannot see (a constant table is a tuple", 6),
    ("import os\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return os.getpid()",
     "getpid() cannot be called in a program (bpf.pid())", 6),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says", "line"), WRONG, ids=[says[:40] for _, says, _ in WRONG])
def test_refused(text: str, says: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(HEADER + text + "\n")
    with pytest.raises(CompileError, match=re.escape(says)) as caught:
        to_ir(programs_of(imported(str(path))))
    assert caught.value.line == line and caught.value.file == str(path) and caught.value.hint


def test_licenses_that_are_compatible(tmp_path: Path) -> None:
    for text in ("GPL", "GPL v2", "Dual MIT/GPL", "Dual BSD/GPL"):
        source = f"license = {text!r}" + TRACE.replace("BODY", 'bpf.printk("x")')
        assert text in to_ir([module(tmp_path, HEADER + source).main])
    source = "license = 'MIT'" + TRACE.replace("BODY", "return bpf.pid() & 1")
    assert "MIT" in to_ir([module(tmp_path, HEADER + source).main])


def test_a_tuple_of_maps(tmp_path: Path) -> None:
    text = "maps = (bpf.Hash(u32, u64), bpf.Hash(u32, u32))\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n"
    made = module(tmp_path, HEADER + text + "    maps[0][1] = 2\n    maps[1][1] = 3\n    return 2\n")
    ir = to_ir([made.main])
    assert "@maps_0 =" in ir and "@maps_1 =" in ir


def test_match_gives_names(tmp_path: Path) -> None:
    text = """
@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    match ctx.rx_queue_index:
        case 1 | 2:
            return 1
        case n if n > 40:
            return n & 1
        case other:
            return other & 3
"""
    assert "define i32 @main" in to_ir([module(tmp_path, HEADER + text).main])


def test_what_a_timer_calls_gives_zero(tmp_path: Path) -> None:
    text = """
@bpf.struct
class Entry:
    timer: bpf.Timer

entries = bpf.Array(Entry, 1)

def tick(map, key, entry: Entry) -> int:
    return VALUE

@bpf.tc
def main(ctx: bpf.SkBuff) -> int:
    entry = entries[0]
    return bpf.timer_set_callback(entry.timer, tick) & 1
"""
    assert "@tick" in to_ir([module(tmp_path, HEADER + text.replace("VALUE", "0")).main])
    with pytest.raises(CompileError, match="calls gives 0 back") as caught:
        to_ir([module(tmp_path, HEADER + text.replace("VALUE", "1")).main])
    assert caught.value.line == 11


@pytest.mark.parametrize(
    ("params", "call", "says"),
    [
        ("map, key: u32, value: u64, s: Sum", "numbers.for_each(each, s)", "'value' is be16 here, not u64"),
        ("map, key: u64, value: be16, s: Sum", "numbers.for_each(each, s)", "'key' is u32 here, not u64"),
        ("map, key: u32, value: be16, s: Sum", "numbers.for_each(each)", "nothing is given along for 's'"),
        ("i: u32, s: Sum", "bpf.loop(5, each, Other())", "'s' is Other here, not Sum"),
        ("i: u32, s: Sum", "bpf.loop(5, each)", "nothing is given along for 's'"),
    ],
)
def test_what_callbacks_are_given(params: str, call: str, says: str, tmp_path: Path) -> None:
    text = f"""
@bpf.struct
class Sum:
    total: u64

@bpf.struct
class Other:
    small: u8

numbers = bpf.Hash(u32, be16)

def each({params}) -> bool:
    s.total += 1
    return False

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    s = Sum()
    return {call} & 1
"""
    with pytest.raises(CompileError, match=re.escape(says)) as caught:
        to_ir([module(tmp_path, HEADER + text).main])
    assert caught.value.line == 14 and caught.value.hint


def test_a_helper_is_no_decorator() -> None:
    from skep import bpf

    with pytest.raises(SkepError, match="runs inside a BPF program only"):
        bpf.ktime_get_ns()
