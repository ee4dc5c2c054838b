"""Iterators: tcp sockets, files of a task, vmas, maps, map elements, netlink, ksyms, cgroups."""

from skep import bpf
from skep.bpf import u32, u64

own: u32 = bpf.const(0)
table = bpf.Hash(u32, u64, max_entries=16)
total: u64 = bpf.var(0)


@bpf.iter("tcp")
def tcp(ctx: bpf.IterTcp) -> int:
    sk = ctx.sk_common
    if sk is None:
        return 0
    seq = ctx.meta.seq
    if ctx.meta.seq_num == 0:
        bpf.seq_printf(seq, "  sl  local remote st\n")
    if sk.skc_family == bpf.AF_INET:
        tp = bpf.skc_to_tcp_sock(sk)
        if tp is not None:
            bpf.seq_printf(
                seq,
                f"{ctx.meta.seq_num:4}: {sk.skc_rcv_saddr:08x}:{sk.skc_num:04X} {sk.skc_daddr:08x} "
                f"{sk.skc_state:02x} {tp.snd_cwnd}\n",
            )
    return 0


@bpf.iter("task_file")
def files(ctx: bpf.IterTaskFile) -> int:
    task, file = ctx.task, ctx.file
    if task is None or file is None:
        return 0
    if task.tgid != own:
        return 0
    bpf.seq_printf(ctx.meta.seq, f"{task.tgid:8} {ctx.fd:4} {file.f_inode.i_ino}\n")
    return 0


@bpf.iter("task_vma")
def vmas(ctx: bpf.IterTaskVma) -> int:
    if not ctx.task or not ctx.vma:
        return 0
    if ctx.task.tgid != own:
        return 0
    vma = ctx.vma
    r = "r" if vma.vm_flags & 1 else "-"
    bpf.seq_printf(ctx.meta.seq, f"{vma.vm_start:x}-{vma.vm_end:x} {r}\n")
    return 0


@bpf.iter("bpf_map_elem")
def elems(ctx: bpf.IterBpfMapElem) -> int:
    key = ctx.key
    value = ctx.value
    if key is None or value is None:
        return 0
    return 0


@bpf.iter("bpf_map")
def maps(ctx: bpf.IterBpfMap) -> int:
    m = ctx.map
    if not m:
        return 0
    bpf.seq_printf(ctx.meta.seq, f"{m.id} {m.name:16} {m.max_entries}\n")
    return 0


@bpf.iter("ksym")
def ksyms(ctx: bpf.IterKsym) -> int:
    k = ctx.ksym
    if k is None:
        return 0
    if k.name == "bpf_prog_run":
        bpf.seq_printf(ctx.meta.seq, f"{k.name} {k.value:x}\n")
    return 0


@bpf.iter("cgroup")
def cgroups(ctx: bpf.IterCgroup) -> int:
    g = ctx.cgroup
    if g is None:
        return 0
    bpf.seq_printf(ctx.meta.seq, f"{g.kn.id}\n")
    return 0


@bpf.syscall
def walk() -> int:
    global total
    total = 0
    with bpf.rcu_read_lock():
        for t in bpf.iter_task(None, bpf.BPF_TASK_ITER_ALL_PROCS):
            if t.tgid == own:
                total += 1
    return 0
