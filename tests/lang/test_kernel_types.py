"""Kernel types: what programs read of the running kernel is what /proc says, relocated and not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.btf import Btf
from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.lang.kernel_types import KArray, KInt, KPtr, KStruct, Types
from skep.obj import read
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

LOOK = """
@bpf.struct
class Seen:
    tgid: u32
    parent: u32
    uid: u32
    threads: u32
    prio: s32
    nice_fork: u32
    start: u64
    allowed: u64
    state: u32
    same: bool
    other: bool
    first: u8
    comm: bytes = bpf.char(16)
    exe: bytes = bpf.char(64)
    host: bytes = bpf.char(65)
    level: u32
    inner: u32

seen = bpf.Array(Seen, 2)

def note(s: Seen, t: bpf.task_struct) -> None:
    s.tgid = t.tgid
    s.parent = t.real_parent.tgid
    s.uid = t.cred.uid.val
    s.threads = t.signal.nr_threads
    s.prio = t.static_prio
    s.nice_fork = t.sched_reset_on_fork
    s.start = t.start_boottime
    s.allowed = t.cpus_mask.bits[0]
    s.comm = t.comm
    s.same = t.comm == b"skep-kernel"
    s.other = t.comm == b"skep-kerne"
    s.first = t.comm[0]
    s.exe = t.mm.exe_file.f_path.dentry.d_name.name
    s.host = t.nsproxy.uts_ns.name.nodename
    pid = t.thread_pid
    s.level = pid.level
    i = u32(s.level) & 0
    s.inner = pid.numbers[i].nr

@bpf.syscall
def look() -> int:
    note(seen[0], bpf.get_current_task_btf())
    note(seen[1], bpf.current_task())
    return 0
"""


@pytest.mark.live
def test_task(tmp_path: Path) -> None:
    """Both ways of reading, typed and probed, see this very task."""
    bpf()
    program = module(tmp_path, HEADER + LOOK)
    old = Path("/proc/self/comm").read_text().strip()
    Path("/proc/self/comm").write_text("skep-kernel")
    try:
        with skep.load(program.look) as obj:
            obj.look.run()
            rows = [obj.seen[0], obj.seen[1]]
    finally:
        Path("/proc/self/comm").write_text(old)
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    for got in rows:
        assert got.tgid == os.getpid() and got.parent == os.getppid() and got.uid == os.getuid()
        assert got.threads == len(os.listdir("/proc/self/task"))
        assert got.prio == 120 + int(stat[16]) and got.nice_fork == 0
        assert got.start * ticks // 1_000_000_000 == int(stat[19])
        assert got.allowed == sum(1 << cpu for cpu in os.sched_getaffinity(0))
        assert got.comm == b"skep-kernel" and got.same and not got.other and got.first == ord("s")
        assert got.exe == os.path.basename(os.readlink("/proc/self/exe")).encode()
        assert got.host == os.uname().nodename.encode()
        assert got.inner == int(Path("/proc/self/status").read_text().split("NSpid:\t")[1].split()[0])


ASK = """
@bpf.struct(kernel="task_struct___old")
class old_task:
    state: s64
    tgid: s32

@bpf.struct(kernel="task_struct")
class bare:
    comm: bytes = bpf.char(16)
    tgid: s32

@bpf.struct
class Asked:
    size: u64
    offset: u64
    width: u64
    has: bool
    lacks: bool
    lacks_too: bool
    type: bool
    no_type: bool
    either: s64
    tgid: s32
    declared: s32
    value: u64
    nice: s64

asked = bpf.Array(Asked, 1)

@bpf.struct(kernel="skep_is_no_struct")
class nothing:
    a: u32

@bpf.syscall
def ask() -> int:
    t = bpf.get_current_task_btf()
    a = asked[0]
    a.size = bpf.sizeof(bpf.task_struct)
    a.offset = bpf.offsetof(t.comm)
    a.width = bpf.sizeof(t.comm)
    a.has = bpf.exists(t.comm)
    a.lacks = bpf.exists(t.no_such_member)
    a.lacks_too = bpf.exists(bpf.cast(old_task, t).state)
    a.type = bpf.exists(bpf.task_struct)
    a.no_type = bpf.exists(nothing)
    if bpf.exists(bpf.cast(old_task, t).state):
        a.either = bpf.cast(old_task, t).state
    else:
        a.either = -1
    a.tgid = bpf.cast(old_task, t).tgid
    a.declared = bpf.cast(bare, t).tgid
    a.value = bpf.PIDTYPE_TGID
    return 0
"""


@pytest.mark.live
def test_questions(tmp_path: Path) -> None:
    """exists, sizeof, offsetof, enumerators, flavours, structs that the program declares itself."""
    bpf()
    program = module(tmp_path, HEADER + ASK)
    btf = Btf.kernel()
    task = btf.require("task_struct", 4)
    with skep.load(program.ask) as obj:
        obj.ask.run()
        got: Any = obj.asked[0]
    assert got.size == btf.size_of(task)
    assert got.offset == btf.member(task, "comm")[1] // 8 and got.width == 16
    assert got.has and got.type
    assert not (got.lacks or got.lacks_too or got.no_type)
    assert got.either == -1
    assert got.tgid == got.declared == os.getpid()
    assert got.value == btf.enum_values("pid_type")["PIDTYPE_TGID"]


def test_relocations(tmp_path: Path) -> None:
    """Every access is a relocation, against structs whose members ascend."""
    program = module(tmp_path, HEADER + LOOK + ASK)
    path = tmp_path / "look.bpf.o"
    path.write_bytes(compile_programs([program.look, program.ask]))
    spec = read(str(path))
    btf, ext = spec.btf, None
    assert btf is not None and ext is None
    for value in btf:
        if value.kind_name in ("STRUCT",) and value.name:
            offsets = [m.offset for m in value.members]  # type: ignore[attr-defined]
            assert offsets == sorted(offsets), value.name
    names = {value.name for value in btf}
    assert {"task_struct", "task_struct___old", "cred", "skep_is_no_struct"} <= names


BIT_FIELDS = """
@bpf.struct
class Bits:
    ihl: u32
    version: u32
    doff: u32
    syn: u32
    ack: u32
    ihl2: u32
    doff2: u32
    dest: u32
    daddr: u32

bits = bpf.Array(Bits, 1)
iph = bpf.Array(raw20, 1)
tcph = bpf.Array(raw20, 1)

@bpf.syscall
def look() -> int:
    ip = bpf.iphdr(iph[0])
    tcp = bpf.tcphdr(tcph[0])
    b = bits[0]
    b.ihl = ip.ihl
    b.version = ip.version
    b.doff = tcp.doff
    b.syn = tcp.syn
    b.ack = tcp.ack
    b.dest = tcp.dest
    b.daddr = ip.daddr
    return 0
"""


@pytest.mark.live
def test_bit_fields(tmp_path: Path) -> None:
    """Bit fields and network order in the kernel's own iphdr and tcphdr."""
    bpf()
    source = HEADER + BIT_FIELDS.replace("raw20", "bpf.raw(20)")
    program = module(tmp_path, source)
    with skep.load(program.look) as obj:
        obj.iph.raw[bytes(4)] = bytes([0x46]) + bytes(15) + bytes([10, 1, 2, 3])
        obj.tcph.raw[bytes(4)] = b"\x00\x01\x1f\x90" + bytes(8) + bytes([0xA0, 0x12]) + bytes(6)
        obj.look.run()
        got = obj.bits[0]
    assert (got.ihl, got.version, got.doff, got.syn, got.ack) == (6, 4, 10, 1, 1)
    assert got.dest == 8080 and got.daddr == 0x0A010203


@pytest.mark.live
def test_user_memory(tmp_path: Path) -> None:
    """Addresses of this process, read as texts, numbers and structs; zeros where nothing is."""
    bpf()
    import ctypes

    program = module(
        tmp_path,
        HEADER
        + """
@bpf.struct
class Pair:
    a: u32
    b: be16

@bpf.struct
class Args:
    text: u64
    number: u64
    nowhere: u64
    sum: u64
    swapped: u64
    zero: u64
    length: u64

@bpf.struct
class Out:
    text: bytes = bpf.char(8)

out = bpf.Array(Out, 2)

@bpf.syscall
def look(args: Args) -> int:
    out[0].text = bpf.user_str(args.text)
    pair = bpf.read_user(Pair, args.number)
    args.sum = pair.a + bpf.read_user(u32, args.number)
    args.swapped = pair.b
    args.zero = bpf.read_user(u64, args.nowhere)
    out[1].text = bpf.user_str(args.nowhere)
    return bpf.user_str(args.text) == b"a longer text"
""",
    )
    text = ctypes.create_string_buffer(b"a longer text")
    number = ctypes.create_string_buffer((40).to_bytes(4, "little") + b"\x12\x34\0\0")
    words = [ctypes.addressof(text), ctypes.addressof(number), 8, 0, 0, 9, 0]
    with skep.load(program.look) as obj:
        context = b"".join(w.to_bytes(8, "little") for w in words)
        result = obj.look.run(ctx=context)
        texts = obj.out[0].text, obj.out[1].text
    answer = [int.from_bytes(result.ctx[i : i + 8], "little") for i in range(0, 56, 8)]
    assert answer[3:6] == [80, 0x1234, 0]
    assert texts == (b"a longe", b"") and result.retval == 1


def test_types_of_the_kernel() -> None:
    """The model: anonymous members looked through, bit fields, arrays, network order, functions."""
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        pytest.skip("the kernel has no BTF")
    types = Types(Btf.kernel())
    task = types.by_name("task_struct")
    assert isinstance(task, KStruct) and task.local == "task_struct"
    comm = task.field("comm")
    assert comm is not None and isinstance(comm.type, KArray) and comm.type.count == 16
    parent = task.field("real_parent")
    assert parent is not None and isinstance(parent.type, KPtr) and parent.type.to is task
    old = types.by_name("task_struct___v1")
    assert isinstance(old, KStruct) and old.local == "task_struct___v1" and old.field("comm") is not None
    common = types.by_name("sock_common")
    assert isinstance(common, KStruct)
    port = common.field("skc_dport")
    assert port is not None and isinstance(port.type, KInt) and port.type.big
    found = types.function("vfs_open")
    assert found is not None and [name for name, _ in found[0]] == ["path", "file"]
    assert types.by_name("no_such_type_anywhere") is None and types.function("no_such_function") is None
    assert types.enumerator("NO_SUCH_ENUMERATOR") is None
    assert types.enumerator("BPF_MAP_TYPE_HASH") == ("bpf_map_type", 1, 4, False)


REFUSED = [
    ("t.comn", "did you mean 'comm'"),
    ("t.comm[16]", "has no element 16"),
    ("t.pid.x", "no field 'x'"),
    ("t.tgid()", "cannot be called"),
    ("t.cred.uid", "no integer"),
    ("bpf.cast(u32, t)", "a type of the kernel's"),
    ("bpf.exists(4)", "a field of a kernel's type"),
    ("bpf.offsetof(t)", "a field of a kernel's type"),
    ("bpf.no_such_type(4)", "bpf has no 'no_such_type'"),
    ("bpf.NO_SUCH_NUMBER", "bpf has no 'NO_SUCH_NUMBER'"),
    ("t < t", "== and != only"),
    ("t.comm + 1", "no integer"),
]


@pytest.mark.parametrize(("expression", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refused(tmp_path: Path, expression: str, reason: str) -> None:
    source = f"""
@bpf.tp_btf("sched_process_fork")
def f(t: bpf.task_struct) -> int:
    return {expression}
"""
    made = module(tmp_path, HEADER + source)
    with pytest.raises(CompileError) as caught:
        to_ir([made.f])
    assert reason in str(caught.value), caught.value
    assert "{" not in (pointer := caught.value.pointer()) and pointer
