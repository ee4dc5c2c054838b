"""Programs of the kinds people write every day: compiled, loaded, and run where that is cheap.

Each module of `tests.lang.stranger` holds programs; its ``VARIABLES`` are set before loading and its
``check(obj)`` compares what the programs computed with the truth.
"""

# ruff: noqa: E501 (programs and messages stay whole)
from __future__ import annotations

import errno
import importlib
import textwrap
from pathlib import Path

import pytest

import skep
from skep import bpf as language
from skep.errors import CompileError, KernelError, SkepError
from skep.lang.compile import compile_programs, to_ir
from skep.loading import programs_of
from tests.lang.support import HEADER, module
from tests.lang.test_contexts import LOCKED
from tests.support.oracles import bpf

FOLDER = Path(__file__).parent / "stranger"
NAMES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


@pytest.mark.live
@pytest.mark.parametrize("name", NAMES)
def test_loads_and_is_right(name: str, tmp_path: Path) -> None:
    bpf()
    made = importlib.import_module(f"tests.lang.stranger.{name}")
    programs = programs_of(made)
    path = tmp_path / f"{name}.bpf.o"
    path.write_bytes(compile_programs(programs))
    locked = [p.__name__ for p in programs if p.section.partition("/")[0].removesuffix(".s") in LOCKED]
    for one in locked:
        try:
            skep.load(str(path), programs=[one]).close()
        except KernelError as error:
            assert error.errno == errno.EPERM, error
    free = [p.__name__ for p in programs if p.__name__ not in locked]
    if free:
        with skep.load(str(path), programs=free, variables=getattr(made, "VARIABLES", {})) as obj:
            if hasattr(made, "check"):
                made.check(obj)


def test_maps_that_cannot_hold_a_lock(tmp_path: Path) -> None:
    text = f"""{HEADER}
@bpf.struct
class Bucket:
    lock: bpf.SpinLock
    tokens: u64

buckets = bpf.LruHash(u32, Bucket)

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    return bpf.XDP_PASS
"""
    with pytest.raises(CompileError, match="cannot be in the value of a map of type lru_hash") as caught:
        compile_programs([module(tmp_path, text).main])
    assert text.splitlines()[caught.value.line - 1].startswith("buckets = ")


def test_a_program_has_one_target(tmp_path: Path) -> None:
    text = (
        '@bpf.tracepoint("syscalls:sys_enter_sync", "syscalls:sys_enter_fsync")\ndef f() -> int: return 0\n'
    )
    with pytest.raises(SkepError, match="takes one target"):
        module(tmp_path, HEADER + text)


WRONG = [
    ("lsm('file_open')", "file: bpf.file", "return 1", "return 1", "returns -4095 to 0"),
    ("lsm('file_open')", "file: bpf.file, ret: int", "return ret - 1", "return ret - 1", "returns -4095 to 0"),
    ("lsm('vm_enough_memory')", "mm: bpf.mm_struct, pages: s64", "return pages", "return pages", "returns -4095 to 0"),
    ("lsm('inode_xattr_skipcap')", "name: bytes", "return -1", "return -1", "returns 0 to 1"),
    ("lsm_cgroup('socket_create')", "a: s32", "return 2", "return 2", "returns 0 to 1"),
    ("lsm_cgroup('sk_free_security')", "", "return 0", "return 0", "returns 1"),
    ("tc", "ctx: bpf.SkBuff", "x = owned.get(ctx.sk)\nreturn 0", "owned.get(ctx.sk)", "may be None here"),
    ("tc", "ctx: bpf.SkBuff", "x = owned.get(ctx)\nreturn 0", "owned.get(ctx)", "the owner is a struct sock"),
    ("xdp", "ctx: bpf.Xdp", "x = owned.get(1)\nreturn 0", "owned.get(1)", "xdp programs cannot call bpf_sk_storage_get"),
    ("tp_btf('sched_process_fork')", "a: bpf.task_struct", "x = of_tasks.get(bpf.current_task())\nreturn 0",
     "of_tasks.get(bpf.current_task())", "the owner is a struct task_struct that the verifier follows"),
    ("fentry('vfs_read')", "f: bpf.file", "return 1", "return 1", "returns 0"),
    ("iter('task')", "ctx: bpf.IterTask", "return 2", "return 2", "returns 0 to 1"),
    ("cgroup_recvmsg4", "ctx: bpf.SockAddr", "return 0", "return 0", "returns 1"),
    ("xdp", "ctx: bpf.Xdp", "t = 0\nfor i in range(1000):\n    for j in range(1000):\n        t += j",
     "range(1000)", "this loop may turn 1,000,000 times, with those around it"),
    ("tp_btf('sched_process_fork')", "a: bpf.task_struct, b: bpf.task_struct",
     "t = a\nwhile t.pid != 1:\n    t = t.real_parent\nreturn 0", "t.pid != 1", "nothing bounds this loop"),
    ("tp_btf('sched_process_fork')", "a: bpf.task_struct, b: bpf.task_struct", "a.tgid = 5\nreturn 0",
     "a.tgid", "cannot change a struct task_struct"),
    ("tc", "ctx: bpf.SkBuff", "e = locks[0]\nwith e.lock:\n    e.n = bpf.ktime_get_ns()\nreturn 0",
     "bpf.ktime_get_ns()", "cannot while they hold a lock"),
    ("tc", "ctx: bpf.SkBuff", "e = locks[0]\nwith e.lock:\n    table[1] = 2\nreturn 0",
     "table[1]", "cannot while they hold a lock"),
    ("cgroup_connect4", "ctx: bpf.SockAddr", "return 5", "return 5", "returns 0 to 1"),
    ("cgroup_sock_create", "ctx: bpf.Sock", "return ctx.family", "return ctx.family", "returns 0 to 1"),
    ("xdp", "ctx: bpf.Xdp", "return stacks.id() & 1", "stacks.id()",
     "xdp programs cannot call bpf_get_stackid"),
    ("tc", "ctx: bpf.SkBuff", "return devices.redirect(1)", "devices.redirect(1)",
     "cannot call bpf_redirect_map"),
    ("uprobe", "name: bytes", "b = bpf.char(8)\nbpf.copy_from_user(b, name)\nreturn 0",
     "bpf.copy_from_user(b, name)", "may sleep, and this program may not"),
    ("sk_lookup", "ctx: bpf.SkLookup", "sk = sockets.get(0)\nbpf.sk_assign(sk)\nreturn 1", "sk",
     "sk may be None here"),
    ("tc", "ctx: bpf.SkBuff", "bpf.skb_store_bytes(30, ctx.mark)\nreturn 0",
     "bpf.skb_store_bytes(30, ctx.mark)", "neither a size nor a byte order"),
    ("tp_btf('sched_process_fork')", "a: bpf.task_struct, b: bpf.task_struct",
     "b = bpf.char(16)\nbpf.probe_read_kernel(b, 16, a.comm)\nreturn 0",
     "bpf.probe_read_kernel(b, 16, a.comm)", "too many arguments"),
    ("tc", "ctx: bpf.SkBuff", "sockets[1] = 5\nreturn 0", "sockets[1]", "holds sockets, not an integer"),
    ("cgroup_skb", "ctx: bpf.SkBuff", "m = ctx.metadata()\nreturn 1", "ctx.metadata", "has no metadata"),
]  # fmt: skip
DECLARED = """
owned = bpf.SkStorage(u64)
of_tasks = bpf.TaskStorage(u64)

@bpf.struct
class Locked:
    lock: bpf.SpinLock
    n: u64

locks = bpf.Array(Locked, 1)
table = bpf.Hash(u32, u64)
stacks = bpf.StackTrace(64)
devices = bpf.DevMap(4)
sockets = bpf.SockMap(4)
"""


@pytest.mark.parametrize(("hook", "params", "body", "at", "says"), WRONG, ids=[w[2][:40] for w in WRONG])
def test_refused_at_the_span(hook: str, params: str, body: str, at: str, says: str, tmp_path: Path) -> None:
    """What a verifier would refuse, or never finish, is refused by the compiler."""
    text = f"{HEADER}{DECLARED}\n@bpf.{hook}\ndef main({params}) -> int:\n{textwrap.indent(body, '    ')}\n"
    with pytest.raises(CompileError) as caught:
        to_ir([module(tmp_path, text).main])
    error = caught.value
    assert error.source is not None and error.column is not None and error.end_column is not None
    assert error.source.splitlines()[error.line - 1][error.column : error.end_column] == at
    assert says in error.reason


def test_the_key_of_a_trie_has_a_length() -> None:
    with pytest.raises(SkepError, match=r"the key is bpf\.lpm\(be32\)"):
        language.LpmTrie(language.be32, language.u32)


STALE = [
    "u = t\nif t.n < 8:\n    u.n = 100\n    t.xs[t.n] = 4",
    "if t.n < 8:\n    t = rows[1]\n    t.xs[t.n] = 4",
    "if t.n < 8:\n    rows[0] = Row(n=9)\n    t.xs[t.n] = 4",
    "if t.n < 8:\n    for i in range(4):\n        t.xs[t.n] = 4\n        t.n += 1",
    "if t.n < 8:\n    bpf.ktime()\n    t.xs[t.n] = 4",
    "if t.n < 8:\n    t.both.whole = 500\n    t.both.parts.n = 500\n    t.xs[t.n] = 4",
    "p = t.both.parts\nif p.n < 8:\n    t.both.whole = 500\n    t.xs[p.n] = 4",
]


@pytest.mark.parametrize("body", STALE)
def test_a_member_that_may_have_changed_is_tested_again(body: str, tmp_path: Path) -> None:
    text = f"""{HEADER}
@bpf.struct
class Parts:
    low: u16
    n: u32

@bpf.union
class Both:
    whole: u64
    parts: Parts

@bpf.struct
class Row:
    n: u32
    both: Both
    xs: list[u8] = bpf.array(u8, 8)

rows = bpf.Array(Row, 2)

@bpf.tc
def main(ctx: bpf.SkBuff) -> int:
    t = rows[0]
{textwrap.indent(body, "    ")}
    return 0
"""
    with pytest.raises(CompileError, match="the index may be 4294967295"):
        to_ir([module(tmp_path, text).main])
