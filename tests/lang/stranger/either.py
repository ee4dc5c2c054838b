"""Fields of contexts chosen between are read at constant offsets; arrays that are set before loading."""

from skep import bpf
from skep.bpf import u32, u64

VARIABLES = {"flag": True, "ports": [5, 64, 7, 0, 0, 0, 0, 0]}
out: u64 = bpf.var(0)
flag: bool = bpf.const(False)
ports: list[u32] = bpf.const(bpf.array(u32, 8))


@bpf.tc
def skb_fields(skb: bpf.SkBuff) -> int:
    global out
    v = skb.mark if flag else skb.priority
    if skb.ifindex == v:
        return 2
    if flag:
        w = skb.len
    else:
        w = skb.hash
    for i, port in enumerate(ports):
        if port == w:
            out = i
            return 7
    return 1


@bpf.tracepoint("sched:sched_switch")
def record(ctx: bpf.SchedSwitch) -> int:
    global out
    out = ctx.prev_pid if flag else ctx.next_pid
    if flag:
        w = ctx.prev_prio
    else:
        bpf.ktime()
        w = ctx.next_prio
    out += w
    return 0


@bpf.tracepoint("sock:inet_sock_set_state")
def again(ctx: bpf.InetSockSetState) -> int:
    global out
    if ctx.newstate < bpf.TCP_FIN_WAIT1:
        out = bpf.ktime()  # a call between the reads of one field
    if ctx.newstate == bpf.TCP_SYN_SENT or ctx.newstate == bpf.TCP_LAST_ACK:
        out = 1
    return 0


@bpf.tracepoint("syscalls:sys_enter_openat")
def words(ctx: bpf.SysEnterOpenat) -> int:
    global out
    out = ctx.flags if flag else ctx.mode
    return 0


@bpf.xdp
def queue(ctx: bpf.Xdp) -> int:
    v = ctx.rx_queue_index if flag else ctx.ingress_ifindex
    return 1 if v == 3 else 2


@bpf.sockops
def several(ctx: bpf.SockOps) -> int:
    global out
    if ctx.op == bpf.BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
        out = ctx.local_port
    elif ctx.op == bpf.BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
        out = ctx.srtt_us
    elif ctx.op == bpf.BPF_SOCK_OPS_RTT_CB:
        out = ctx.snd_cwnd
    return 1


@bpf.cgroup_connect6
def addresses(ctx: bpf.SockAddr) -> int:
    if flag:
        ctx.user_port = 80
    else:
        ctx.user_ip6 = b"\0" * 15 + b"\1"
    return 1


def check(obj) -> None:  # type: ignore[no-untyped-def]  # its maps are the program's
    assert obj.skb_fields.run(bytes(64)).retval == 7
    assert obj.bss.out == 1
