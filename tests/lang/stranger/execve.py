# mypy: ignore-errors
"""execsnoop's argv walk with user pointers."""

from skep import bpf
from skep.bpf import u32, u64

ARGSIZE = 64
MAXARG = 8


@bpf.struct
class Exec:
    pid: u32
    args_count: u32
    argv: list[bytes] = bpf.array(bpf.char(ARGSIZE), MAXARG)


execs = bpf.Hash(u32, Exec)
empty: Exec = bpf.const(Exec())
out = bpf.RingBuf(Exec, size=1 << 20)
only: u32 = bpf.const(0)


@bpf.tracepoint("syscalls:sys_enter_execve")
def enter(ctx: bpf.SysEnterExecve) -> int:
    pid = bpf.pid()
    task = bpf.current_task()
    if only and task.real_parent.tgid != only:
        return 0
    if not execs.insert(pid, empty):
        return 0
    e = execs.get(pid)
    if not e:
        return 0
    e.pid = pid
    e.args_count = 0
    argv = ctx.argv
    for i in range(MAXARG):
        p = bpf.read_user(u64, argv + i * 8)
        if not p:
            break
        e.argv[i] = bpf.user_str(p)
        e.args_count += 1
    return 0


@bpf.tracepoint("syscalls:sys_exit_execve")
def leave(ctx: bpf.SysExitExecve) -> int:
    e = execs.get(bpf.pid())
    if e is None:
        return 0
    out.output(e)
    del execs[bpf.pid()]
    return 0


VARIABLES = {"only": __import__("os").getpid()}


def check(obj):
    import subprocess

    with obj.reader("out") as reader:
        obj.attach()
        subprocess.run(["/bin/echo", "one", "two words", "x" * 100], stdout=subprocess.DEVNULL)
        got = reader.read()
    assert len(got) == 1, got
    assert got[0].args_count == 4
    assert [bytes(a) for a in got[0].argv[:4]] == [b"/bin/echo", b"one", b"two words", b"x" * 63], got[0].argv
