# mypy: ignore-errors
"""User ring buffer: commands from user space; a find_vma callback."""

from skep import bpf
from skep.bpf import s64, u32, u64


@bpf.struct
class Cmd:
    op: u32
    arg: u64


@bpf.struct
class State:
    sum: u64
    n: u32


commands = bpf.UserRingBuf(Cmd, 4096)
out = bpf.Array(s64, 8)


@bpf.struct
class Vma:
    start: u64
    end: u64


def handle(cmd: Cmd, st: State) -> bool:
    st.sum += cmd.arg * cmd.op
    st.n += 1
    return cmd.op == 9


def seen(task: bpf.task_struct, vma: bpf.vm_area_struct, v: Vma) -> int:
    v.start = vma.vm_start
    v.end = vma.vm_end
    return 0


@bpf.syscall
def main(ctx: State) -> int:
    st = State()
    n = commands.drain(handle, st)
    out[0] = n
    out[1] = st.sum
    out[2] = st.n
    return 0


only: u32 = bpf.const(0)


@bpf.tp_btf("sys_enter")
def vma(regs: bpf.pt_regs, nr: s64) -> int:
    if bpf.pid() != only or nr != 110:
        return 0
    v = Vma()
    task = bpf.get_current_task_btf()
    rc = bpf.find_vma(task, regs.ip, seen, v)
    out[3] = rc
    out[4] = v.start <= regs.ip < v.end
    return 0


VARIABLES = {"only": __import__("os").getpid()}


def check(obj):
    import os

    with obj.vma.attach():
        os.getppid()
    assert obj.out[4] == 1, (obj.out[3], obj.out[4])
    from skep.kernel.userring import UserRingBuf

    with UserRingBuf(obj.commands) as ring:
        for op in (1, 2, 3):
            ring.write(__import__("struct").pack("<I4xQ", op, 10))
        ring.write(b"abc")
        obj.main.run(ctx=bytes(16))
    assert [obj.out[i] for i in range(3)] == [4, 60, 3], [obj.out[i] for i in range(3)]
