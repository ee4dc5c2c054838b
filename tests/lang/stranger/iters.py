# mypy: ignore-errors
from skep import bpf


@bpf.iter("task")
def ps(ctx: bpf.IterTask) -> int:
    task = ctx.task
    seq = ctx.meta.seq
    if task is None:
        bpf.seq_printf(seq, f"END {ctx.meta.seq_num}\n")
        return 0
    if ctx.meta.seq_num == 0:
        bpf.seq_printf(seq, "    tgid      gid\n")
    bpf.seq_printf(seq, f"{task.tgid:8} {task.pid:8} {task.comm}\n")
    return 0


@bpf.iter("bpf_map")
def maps(ctx: bpf.IterBpfMap) -> int:
    m = ctx.map
    if m is not None:
        bpf.seq_printf(ctx.meta.seq, f"{m.id} {m.max_entries} {m.name}\n")
    return 0


@bpf.iter("bpf_map_elem")
def elems(ctx: bpf.IterBpfMapElem) -> int:
    k, v = ctx.key, ctx.value
    if k is None or v is None:
        return 0
    return 0


@bpf.iter("tcp")
def tcp(ctx: bpf.IterTcp) -> int:
    sk = ctx.sk_common
    if sk is None:
        return 0
    t = bpf.skc_to_tcp_sock(sk)
    if t is not None:
        bpf.seq_printf(ctx.meta.seq, f"{t.inet_conn.icsk_inet.inet_sport} {t.snd_cwnd}\n")
    return 0


@bpf.iter("udp")
def udp(ctx: bpf.IterUdp) -> int:
    u = ctx.udp_sk
    if u is not None:
        bpf.seq_printf(ctx.meta.seq, f"{ctx.bucket} {u.inet.sk.__sk_common.skc_num}\n")
    return 0


@bpf.iter("netlink")
def nl(ctx: bpf.IterNetlink) -> int:
    s = ctx.sk
    if s is not None:
        bpf.seq_printf(ctx.meta.seq, f"{s.portid} {s.sk.sk_protocol}\n")
    return 0


@bpf.iter("task_vma")
def vmas(ctx: bpf.IterTaskVma) -> int:
    v = ctx.vma
    if v is None or ctx.task is None:
        return 0
    bpf.seq_printf(ctx.meta.seq, f"{v.vm_start:08x}-{v.vm_end:08x}\n")
    return 0


@bpf.iter("cgroup")
def cg(ctx: bpf.IterCgroup) -> int:
    c = ctx.cgroup
    if c is not None:
        bpf.seq_printf(ctx.meta.seq, f"{c.kn.id} {bpf.kernel_str(c.kn.name)}\n")
    return 0


def check(obj):
    pass
