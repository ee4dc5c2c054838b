"""Helpers, kfuncs and the friendly functions: passed as the kernel wants them, refused where it has none."""

from __future__ import annotations

import ast
import os
import threading
import time
from pathlib import Path

import pytest

import skep
from skep.bpf.programs import Program, hook_names
from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.lang.contexts_fields import NAMES
from skep.lang.helpers_call import prototype
from skep.uapi.helpers import helpers as all_helpers
from skep.uapi.tracepoints import syscall_names
from tests.lang import helpers
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

PROGRAMS = {name: p for name, p in vars(helpers).items() if isinstance(p, Program)}


@pytest.mark.live
def test_all_load(tmp_path: Path) -> None:
    """Contexts put in, buffers with lengths, structs and numbers that come back, kfuncs: all accepted."""
    bpf()
    path = tmp_path / "helpers.bpf.o"
    path.write_bytes(compile_programs(list(PROGRAMS.values())))
    with skep.load(str(path)) as obj:
        assert set(PROGRAMS) <= set(obj.programs)


SAY = """
@bpf.struct
class Said:
    pid: u32
    tid: u32
    uid: u32
    gid: u32
    cpu: u32
    before: u64
    cgroup: u64
    a: u32
    b: u32
    text: bytes = bpf.char(32)
    comm: bytes = bpf.char(16)
    wide: bytes = bpf.char(24)
    is_me: bool
    number: s64
    status: s64

said = bpf.Array(Said, 1)

@bpf.syscall
def say() -> int:
    s = said[0]
    s.pid, s.tid, s.uid, s.gid, s.cpu = bpf.pid(), bpf.tid(), bpf.uid(), bpf.gid(), bpf.cpu()
    s.before = bpf.ktime()
    s.cgroup = bpf.cgroup_id()
    s.a, s.b = bpf.random(), bpf.random()
    s.comm = bpf.comm()
    s.wide = bpf.comm()
    s.is_me = bpf.comm() == b"skep-say"
    n = bpf.snprintf(s.text, f"{s.pid} is {s.comm}")
    s.status, s.number = bpf.strtol(s.text, 10)
    return n
"""


@pytest.mark.live
def test_say(tmp_path: Path) -> None:
    """What functions say of the task that calls, from a thread of this process."""
    bpf()
    program = module(tmp_path, HEADER + SAY)
    told = {}

    def run() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("skep-say")
        told["tid"] = threading.get_native_id()
        told["start"] = time.monotonic_ns()
        told["length"] = obj.say.run().retval
        told["end"] = time.monotonic_ns()

    with skep.load(program.say) as obj:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        got = obj.said[0]
    assert (got.pid, got.tid, got.uid, got.gid) == (os.getpid(), told["tid"], os.getuid(), os.getgid())
    assert got.cpu in os.sched_getaffinity(0)
    assert told["start"] <= got.before <= told["end"]
    assert got.cgroup > 0 and got.a != got.b
    assert got.comm == got.wide == b"skep-say" and got.is_me
    text = f"{os.getpid()} is skep-say".encode()
    assert got.text == text and told["length"] == len(text) + 1
    assert got.number == os.getpid() and got.status == len(str(os.getpid()))


@pytest.mark.live
def test_kfuncs(tmp_path: Path) -> None:
    """A kfunc's result must be tested, is typed, and is given back."""
    bpf()
    program = module(
        tmp_path,
        HEADER
        + """
found = bpf.Array(u64, 2)
wanted: u32 = bpf.const(0)

@bpf.syscall
def find() -> int:
    t = bpf.bpf_task_from_pid(wanted)
    if t is None:
        return 1
    found[0] = t.tgid
    found[1] = t.real_parent.tgid
    bpf.task_release(t)
    return 0
""",
    )
    with skep.load(program.find, variables={"wanted": os.getpid()}) as obj:
        assert obj.find.run().retval == 0
        assert [obj.found[0], obj.found[1]] == [os.getpid(), os.getppid()]
    with skep.load(program.find, variables={"wanted": 2**22}) as obj:
        assert obj.find.run().retval == 1


REFUSED = [
    ("xdp", "ctx: bpf.Xdp", "bpf.override_return(ctx, 9)", "xdp programs cannot call bpf_override_return"),
    ("xdp", "ctx: bpf.Xdp", "bpf.skb_pull_data(9)", "Linux 4.9 and later: sched_cls"),
    ("socket_filter", "ctx: bpf.SkBuff", "bpf.redirect(1)", "Linux 4.4 and later: sched_cls"),
    ("tc", "ctx: bpf.SkBuff", "bpf.bind(t.raw)", "cgroup_sock_addr programs can"),
    ("tc", "ctx: bpf.SkBuff", "bpf.skb_load_bytes(0)", "'to' is missing: a buffer"),
    ("tc", "ctx: bpf.SkBuff", "bpf.skb_load_bytes(0, t.raw, size=65)", "the buffer has 64 bytes"),
    ("tc", "ctx: bpf.SkBuff", "bpf.skb_load_bytes(0, b'x')", "a constant cannot be"),
    ("tc", "ctx: bpf.SkBuff", "bpf.skb_load_bytes(0, t.raw, 4, 5)", "too many arguments"),
    ("tc", "ctx: bpf.SkBuff", "bpf.skb_load_bytes(0, t.raw, length=4)", "no argument is called 'length'"),
    ("tc", "ctx: bpf.SkBuff", "bpf.ktime_get_ns(1)", "too many arguments"),
    ("tc", "ctx: bpf.SkBuff", "bpf.sk_release(5)", "'sock' is a pointer"),
    ("tc", "ctx: bpf.SkBuff", "bpf.sk_storage_delete(1, 2)", "'map' is a map"),
    ("tc", "ctx: bpf.SkBuff", "bpf.pid(1)", "takes 0 arguments"),
    ("tc", "ctx: bpf.SkBuff", "bpf.ntohs(ctx.protocol)", "host numbers here"),
    ("tc", "ctx: bpf.SkBuff", "bpf.tcp_socket()", "bpf has no 'tcp_socket'"),
    ("tc", "ctx: bpf.SkBuff", "bpf.bpf_fib_lookup(famly=2)", "did you mean 'family'"),
    ("raw_tp", "ctx", "bpf.task_storage_delete(store, bpf.current_task())", "that the verifier follows"),
    ("raw_tp", "ctx", "bpf.get_current_comm()", "bpf.comm() gives"),
    ("syscall", "", "bpf.bpf_task_release(bpf.bpf_task_from_pid(1))", "may be None"),
    ("syscall", "", "bpf.bpf_task_release(bpf.current_task())", "that the verifier follows"),
    ("syscall", "", "bpf.bpf_task_from_pid()", "'pid' is missing"),
    (
        "socket_filter",
        "ctx: bpf.SkBuff",
        "bpf.bpf_task_from_pid(1)",
        "socket_filter programs cannot call bpf_task_from_pid",
    ),
    ("socket_filter", "ctx: bpf.SkBuff", "bpf.bpf_task_from_pid(1)", "tracing (Linux 6.2)"),
    ("xdp", "ctx: bpf.Xdp", "bpf.bpf_copy_from_user_str(t.raw, 8)", "may sleep, and this program may not"),
    ("raw_tp", "ctx", "bpf.snprintf(t.raw[0], f'x')", "no buffer for text"),
]


@pytest.mark.parametrize(("hook", "parameter", "call", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refused(tmp_path: Path, hook: str, parameter: str, call: str, reason: str) -> None:
    source = f"""
@bpf.struct
class T:
    raw: bytes = bpf.raw(64)

ts = bpf.Array(T, 1)
store = bpf.TaskStorage(u64)

@bpf.{hook}
def f({parameter}) -> int:
    t = ts[0]
    {call}
    return 0
"""
    made = module(tmp_path, HEADER + source)
    with pytest.raises(CompileError) as caught:
        to_ir([made.f])
    assert reason in str(caught.value), caught.value
    assert caught.value.pointer()


def test_every_prototype_is_read() -> None:
    for number, helper in all_helpers().items():
        found = prototype(number)
        written = helper.prototype.partition("(")[2].rstrip(")")
        assert len(found.params) == (0 if written == "void" else len(written.replace(", ...", "").split(",")))


def stub(name: str) -> set[str]:
    """Names that a stub defines."""
    path = Path(skep.__file__).parent / "bpf" / f"{name}.pyi"
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return found


def test_stubs_are_complete() -> None:
    """Editors know every helper, hook, context, system call and declaration."""
    said = stub("__init__")
    printed = {"loop", "seq_printf", "snprintf", "tail_call", "trace_printk", "this_cpu_ptr", "per_cpu_ptr"}
    assert {h.name for h in all_helpers().values()} - printed <= stub("_helpers")
    assert set(hook_names()) <= stub("_hooks")
    assert set(NAMES) <= stub("_contexts")
    events = stub("_events")
    for call in syscall_names():
        camel = "".join(word.capitalize() for word in call.split("_"))
        assert {f"SysEnter{camel}", f"SysExit{camel}"} <= events
    from skep import bpf as package
    from skep.lang import builtins, helpers_print, helpers_read, helpers_say

    language = {*builtins._LANGUAGE, *helpers_print.SPECIAL, *helpers_read.SPECIAL, *helpers_read.FUNCTIONS}
    language -= {"htons", "ntohs", "htonl", "ntohl"}  # refused
    missing = (language | set(helpers_say.FUNCTIONS) | set(package.__all__)) - said
    assert not missing - stub("_maps"), missing
    assert set(package._MAPS.split()) <= stub("_maps")
