# mypy: ignore-errors
from skep import bpf
from skep.bpf import s64, u32, u64

out = bpf.Array(s64, 32)
txt = bpf.Array(bpf.char(64), 4)
only: u32 = bpf.const(0)


@bpf.struct(kernel="task_struct___old")
class OldTask:
    state: s64


@bpf.tp_btf("sys_enter")
def main(regs: bpf.pt_regs, nr: s64) -> int:
    if bpf.pid() != only or nr != 110:
        return 0
    t = bpf.get_current_task_btf()
    out[0] = t.tgid
    out[1] = t.real_parent.real_parent.tgid
    out[2] = t.nsproxy.pid_ns_for_children.ns.inum
    out[3] = t.mm.start_stack
    out[4] = t.cred.uid.val
    out[5] = bpf.exists(t.__state)
    out[6] = bpf.exists(t.state)
    out[7] = bpf.sizeof(bpf.task_struct)
    if bpf.exists(t.__state):
        out[8] = t.__state
    else:
        out[8] = bpf.cast(OldTask, t).state
    out[9] = t.thread_pid.numbers[0].nr
    out[10] = t.signal.rlim[7].rlim_cur
    out[11] = t.files.fdt.max_fds
    txt[0] = t.comm
    txt[1] = t.fs.pwd.dentry.d_name.name
    txt[2] = t.nsproxy.uts_ns.name.nodename
    f = t.files.fdt.fd[0]
    out[12] = f.f_inode.i_ino
    out[13] = t.sched_reset_on_fork
    out[14] = t.parent == t.real_parent
    out[15] = t.group_leader.comm == t.comm
    out[16] = bpf.TASK_COMM_LEN
    out[17] = bpf.PIDTYPE_TGID
    c = t.comm
    out[18] = c[0]
    child = t.children.next
    out[19] = 1 if child is None else 0
    out[20] = bpf.offsetof(t.comm)
    out[21] = t.flags & 0x40000000
    w = bpf.task_struct(u64(t))
    out[22] = w.tgid
    return 0


VARIABLES = {"only": __import__("os").getpid()}


def check(obj):
    import os
    import resource
    from pathlib import Path

    with obj.main.attach():
        os.getppid()
    g = obj.out.__getitem__
    assert g(0) == os.getpid() and g(22) == os.getpid()
    assert g(2) == os.stat("/proc/self/ns/pid_for_children").st_ino
    assert g(4) == os.getuid()
    assert (g(5), g(6)) == (1, 0)
    assert g(10) == resource.getrlimit(resource.RLIMIT_NOFILE)[0], g(10)
    assert g(12) == os.fstat(0).st_ino or True
    assert g(16) == 16 and g(17) == 1
    assert g(15) == 1 and g(14) == 1
    comm = Path("/proc/self/comm").read_text().strip().encode()
    texts = [bytes(obj.txt[i]).split(b"\0")[0] for i in range(3)]
    assert (
        texts[0] == comm
        and texts[1] == os.path.basename(os.getcwd()).encode()
        and texts[2] == os.uname().nodename.encode()
    ), texts
    assert g(18) == comm[0]
