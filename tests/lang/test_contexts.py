"""Every hook: its contexts compile, load on the running kernel, and say what was there."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

import skep
from skep.bpf.programs import Program, hook, hook_names
from skep.errors import CompileError, KernelError, NotSupported
from skep.lang.compile import compile_programs, to_ir
from skep.obj import read
from tests.lang import contexts, hooks
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

PROGRAMS = {name: p for name, p in vars(contexts).items() if isinstance(p, Program)}
#: hooks whose programs need another program, or a struct, to be made for
ELSEWHERE = {"freplace", "fsession", "struct_ops"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One object with all of them."""
    path = tmp_path_factory.mktemp("contexts") / "contexts.bpf.o"
    path.write_bytes(compile_programs(list(PROGRAMS.values())))
    return str(path)


def test_every_hook_has_a_program() -> None:
    sections = {p.section.removesuffix(".s").partition("/")[0] for p in PROGRAMS.values()}
    for p in PROGRAMS.values():
        sections |= {p.section, p.hook.removesuffix(".s")}
    missing = []
    for name in set(hook_names()) - ELSEWHERE:
        made = hook(name)
        assert made is not None
        if made.section not in sections:
            missing.append(name)
    assert not missing


#: refused by this machine's kernel: fired in other kernels, see tests/kernels
LOCKED = {"fentry", "fexit", "fmod_ret", "lsm", "lsm_cgroup", "lirc_mode2"}


@pytest.mark.live
def test_all_load(built: str) -> None:
    bpf()
    names = [n for n, p in PROGRAMS.items() if p.section.partition("/")[0].removesuffix(".s") not in LOCKED]
    assert len(names) > 70
    with skep.load(built, programs=names) as obj:
        assert all(obj.programs[name].id for name in names)


@pytest.mark.live
@pytest.mark.parametrize("name", [n for n, p in PROGRAMS.items() if p.section.partition("/")[0] in LOCKED])
def test_loads_or_is_locked(built: str, name: str) -> None:
    bpf()
    try:
        skep.load(built, programs=[name]).close()
    except NotSupported as error:
        assert name == "on_lirc_mode2", error
    except KernelError as error:
        assert error.errno == errno.EPERM, error


def test_sections_are_libbpfs(built: str) -> None:
    """Types and attach types come from section names that libbpf knows."""
    spec = read(built)
    for name, program in PROGRAMS.items():
        assert spec.programs[name].section == program.section
    compile_programs([p for p in vars(hooks).values() if isinstance(p, Program)])


@pytest.mark.live
def test_open_by_name(tmp_path: Path) -> None:
    """A tracepoint's arguments, from this process's own system call."""
    bpf()
    program = module(
        tmp_path,
        HEADER
        + """
@bpf.struct
class Seen:
    hits: u64
    flags: s64
    ret: s64
    path: bytes = bpf.char(256)

seen = bpf.Array(Seen, 1)
only: u32 = bpf.const(0)

@bpf.tracepoint("syscalls:sys_enter_openat")
def opened(ctx: bpf.SysEnterOpenat) -> int:
    if bpf.pid() == only and ctx.filename == b"/tmp/skep-names":
        s = seen[0]
        s.hits += 1
        s.flags = ctx.flags
        s.path = ctx.filename
    return 0

@bpf.tracepoint("syscalls:sys_exit_openat")
def done(ret: s64) -> int:
    if bpf.pid() == only and ret < 0:
        seen[0].ret = ret
    return 0
""",
    )
    with skep.load([program.opened, program.done], variables={"only": os.getpid()}) as obj:
        try:
            links = obj.attach()
        except KernelError:
            pytest.skip("tracefs is not mounted here")
        assert links
        with pytest.raises(FileNotFoundError):
            os.open("/tmp/skep-names", os.O_RDONLY | os.O_CLOEXEC)
        got = obj.seen[0]
    assert got.hits == 1 and got.path == b"/tmp/skep-names"
    assert got.flags & 0xFFFFFFFF == os.O_RDONLY | os.O_CLOEXEC
    assert got.ret == -errno.ENOENT


@pytest.mark.live
def test_skb_fields(tmp_path: Path) -> None:
    """Network order, cb words and marks, as BPF_PROG_TEST_RUN gives and returns them."""
    bpf()
    program = module(
        tmp_path,
        HEADER
        + """
got = bpf.Array(u64, 8)

@bpf.tc
def look(skb: bpf.SkBuff) -> int:
    got[0] = skb.len
    got[1] = skb.protocol
    got[2] = skb.mark
    got[3] = skb.cb[3]
    got[4] = len(skb.packet())
    got[5] = skb.ifindex
    skb.mark = 77
    skb.cb[4] = 5
    return 0
""",
    )
    with skep.load(program) as obj:
        context = bytearray(192)
        context[8:12] = (42).to_bytes(4, "little")
        context[48 + 12 : 48 + 16] = (9).to_bytes(4, "little")
        packet = bytes(12) + b"\x08\x00" + bytes(50)
        result = obj.look.run(packet, ctx=bytes(context))
        values = [obj.got[i] for i in range(6)]
    assert values[:5] == [64, 0x800, 42, 9, 64] and values[5] >= 1
    assert result.ctx[8:12] == (77).to_bytes(4, "little")
    assert result.ctx[48 + 16 : 48 + 20] == (5).to_bytes(4, "little")


@pytest.mark.live
def test_socket_option(tmp_path: Path) -> None:
    """A syscall program's context is the caller's struct, written back."""
    bpf()
    program = module(
        tmp_path,
        HEADER
        + """
@bpf.struct
class Args:
    a: u32
    b: u32
    total: u64

@bpf.syscall
def add(args: Args) -> int:
    args.total = args.a + args.b
    return 3
""",
    )
    with skep.load(program) as obj:
        result = obj.add.run(ctx=(7).to_bytes(4, "little") + (2**32 - 1).to_bytes(4, "little") + bytes(8))
    assert result.retval == 3 and int.from_bytes(result.ctx[8:16], "little") == 2**32 + 6


def test_without_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without BTF: packets, sockets, system calls compile; kernel types say what is missing."""
    from skep.btf.read import Btf
    from skep.errors import BtfError

    def none() -> Btf:
        raise BtfError("there is none")

    monkeypatch.setattr(Btf, "kernel", none)
    for name in ("on_xdp", "on_tc", "on_sys_enter_openat", "on_connect4", "on_uprobe", "on_socket_filter"):
        assert f"@{name}(" in to_ir([PROGRAMS[name]])
    with pytest.raises(CompileError, match="kernel's types"):
        to_ir([PROGRAMS["on_tp_btf"]])


CONGESTION = """
count: u64 = bpf.var(0)
acks: u64 = bpf.var(0)

@bpf.struct_ops("tcp_congestion_ops:init")
def init(sk: bpf.sock) -> int:
    global count
    count += 1
    return 0

@bpf.struct_ops("tcp_congestion_ops:ssthresh")
def ssthresh(sk: bpf.sock) -> int:
    return 2

@bpf.struct_ops("tcp_congestion_ops:cong_avoid")
def avoid(sk: bpf.sock, ack: u32, acked: u32) -> int:
    global acks
    acks += acked
    return 0

@bpf.struct_ops("tcp_congestion_ops:undo_cwnd")
def undo(sk: bpf.sock) -> int:
    return bpf.cast(bpf.tcp_sock, sk).snd_cwnd

cc = bpf.StructOps("tcp_congestion_ops", init=init, ssthresh=ssthresh, cong_avoid=avoid, undo_cwnd=undo,
                   name=b"skep_test")
"""


@pytest.mark.live
def test_struct_ops(tmp_path: Path) -> None:
    """A congestion control of four programs, chosen by a socket of this process."""
    bpf()
    program = module(tmp_path, HEADER + CONGESTION)
    with skep.load(program) as obj:
        server = socket.create_server(("127.0.0.1", 0))
        with obj.attach_struct_ops("cc"), server, socket.socket() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"skep_test")
            client.connect(server.getsockname())
            with server.accept()[0] as peer:
                for _ in range(4):
                    client.send(b"skep" * 500)
                    peer.recv(1 << 16)
        assert obj.bss.count == 1 and obj.bss.acks >= 1
    for wrong, reason in (
        ("ssthresh=init, nothing=1", "no member 'nothing'"),
        ("name=init", "is no function"),
        ("name=b'a name longer than it may be'", "room for 15 bytes"),
        ("flags=-1", "does not fit"),
    ):
        source = (
            CONGESTION[: CONGESTION.index("cc =")] + f"cc = bpf.StructOps('tcp_congestion_ops', {wrong})\n"
        )
        with pytest.raises(CompileError, match=reason):
            made = module(tmp_path, HEADER + source)
            to_ir([made.init])


REFUSED = [
    ("@bpf.xdp\ndef f(ctx: bpf.SkBuff) -> int:\n    return 1", "ctx is no bpf.SkBuff here"),
    ("@bpf.xdp\ndef f(ctx: bpf.Xdp, n: u32) -> int:\n    return 1", "one parameter, its context"),
    ("@bpf.xdp\ndef f(ctx: bpf.Xdp) -> int:\n    return ctx.length", "has no field 'length'"),
    ("@bpf.xdp\ndef f(ctx: bpf.Xdp) -> int:\n    return ctx.data", "ctx.packet()"),
    ("@bpf.xdp\ndef f(ctx: bpf.Xdp) -> int:\n    ctx.ingress_ifindex = 1\n    return 1", "cannot be set"),
    (
        "@bpf.cgroup_skb_egress\ndef f(s: bpf.SkBuff) -> int:\n    s.tc_index = 1\n    return 1",
        "cannot be set",
    ),
    ("@bpf.cgroup_sock_create\ndef f(ctx: bpf.Sock) -> int:\n    ctx.packet()\n    return 1", "no packet"),
    ("@bpf.tc\ndef f(ctx: bpf.SkBuff) -> int:\n    return ctx.cb[5]", "from 0 to 4"),
    ("@bpf.tc\ndef f(ctx: bpf.SkBuff) -> int:\n    return ctx.sk.family", "may be None"),
    ("@bpf.tc\ndef f(ctx: bpf.SkBuff) -> int:\n    return ctx.packet().take(u32).value", "may be None"),
    ("@bpf.tc\ndef f(ctx: bpf.SkBuff) -> int:\n    ctx.packet().take(4)\n    return 0", "takes a type"),
    ("@bpf.tc\ndef f(ctx: bpf.SkBuff) -> int:\n    ctx.packet().skip(-1)\n    return 0", "backwards"),
    ("@bpf.tc\ndef f(ctx: bpf.SkBuff) -> int:\n    return ctx.packet().size", "a packet has no 'size'"),
    (
        "@bpf.tc\ndef f(ctx: bpf.SkBuff) -> int:\n    p = ctx.packet()\n    n = p.take(u32)\n"
        "    if n is None:\n        return 0\n    bpf.skb_pull_data(100)\n    return n.value",
        "the packet may have moved",
    ),
    (
        "@bpf.tc\ndef f(ctx: bpf.SkBuff) -> int:\n    p = ctx.packet()\n    bpf.skb_pull_data(100)\n"
        "    n = p.take(u32)\n    return 0 if n is None else n.value",
        "the packet may have moved",
    ),
    ("@bpf.cgroup_getsockopt\ndef f(ctx: bpf.SockOpt) -> int:\n    return len(ctx.packet())", "ctx.value()"),
    ('@bpf.tracepoint("syscalls:sys_enter_openatt")\ndef f(ctx) -> int:\n    return 0', "'openat"),
    (
        '@bpf.tracepoint("syscalls:sys_enter_openat")\ndef f(ctx) -> int:\n    return ctx.path',
        "no argument 'path'",
    ),
    (
        '@bpf.tracepoint("sched:sched_sleep")\ndef f(ctx) -> int:\n    return 0',
        "no tracepoint sched:sched_sleep",
    ),
    ('@bpf.tracepoint("sched:sched_switch")\ndef f(ctx) -> int:\n    return ctx.pid', "has no field 'pid'"),
    (
        '@bpf.tracepoint("sched:sched_switch")\ndef f(ctx: bpf.SysEnterOpenat) -> int:\n    return 0',
        "write: ctx: bpf.SchedSwitch",
    ),
    ('@bpf.tp_btf("sched_sleep")\ndef f(a) -> int:\n    return 0', "no tracepoint 'sched_sleep'"),
    (
        '@bpf.tp_btf("sched_process_fork")\ndef f(a, b, c) -> int:\n    return 0',
        "has 2 arguments, 3 are taken",
    ),
    ('@bpf.tp_btf("sched_process_fork")\ndef f(a: bpf.file) -> int:\n    return 0', "not a struct file *"),
    ('@bpf.tp_btf("sched_process_fork")\ndef f(a: u32) -> int:\n    return 0', "a is a struct task_struct *"),
    ('@bpf.fentry("vfs_opened")\ndef f(a) -> int:\n    return 0', "no function 'vfs_opened'"),
    ('@bpf.lsm("file_opened")\ndef f(a) -> int:\n    return 0', "no LSM hook 'file_opened'"),
    ('@bpf.iter("tasks")\ndef f(ctx) -> int:\n    return 0', "no iterator 'tasks'"),
    ('@bpf.iter("task")\ndef f(ctx) -> int:\n    return ctx.task.pid', "may be None"),
    ('@bpf.kretprobe("vfs_open")\ndef f(ret: s32, file: u64) -> int:\n    return 0', "one value"),
    ('@bpf.kprobe("vfs_open")\ndef f(a, b, c) -> int:\n    return 0', "has 2 arguments"),
    ("@bpf.kprobe\ndef f(ctx: bpf.PtRegs) -> int:\n    return ctx.eax", "no register 'eax'"),
    ("@bpf.syscall\ndef f(ctx: u32) -> int:\n    return 0", "a struct of yours"),
]


@pytest.mark.parametrize(("source", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refused(tmp_path: Path, source: str, reason: str) -> None:
    made = module(tmp_path, HEADER + source + "\n")
    with pytest.raises(CompileError) as caught:
        to_ir([made.f])
    assert reason in str(caught.value), caught.value
    assert caught.value.pointer()
