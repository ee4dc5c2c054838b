"""tcpconnlat: time between connect() and the SYN/ACK."""

from skep import bpf
from skep.bpf import u16, u32, u64


class Start(bpf.Struct):
    ts: u64
    tgid: u32
    comm: bpf.Text = bpf.char(16)


class Event(bpf.Struct):
    delta_us: u64
    tgid: u32
    af: u16
    lport: u16
    dport: u16
    daddr_v4: u32
    daddr_v6: bpf.Raw = bpf.raw(16)
    comm: bpf.Text = bpf.char(16)


targ_min_us: u64 = bpf.const(0)
targ_tgid: u32 = bpf.const(0)
start = bpf.Hash(bpf.sock, Start, max_entries=4096)
events = bpf.PerfEventArray(Event)


def trace_connect(sk: bpf.sock) -> int:
    tgid = bpf.pid()
    if targ_tgid and targ_tgid != tgid:
        return 0
    start[sk] = Start(ts=bpf.ktime(), tgid=tgid, comm=bpf.comm())
    return 0


@bpf.fentry("tcp_v4_connect")
def tcp_v4_connect(sk: bpf.sock) -> int:
    return trace_connect(sk)


@bpf.kprobe("tcp_v6_connect")
def tcp_v6_connect(sk: bpf.sock) -> int:
    return trace_connect(sk)


@bpf.kprobe("tcp_rcv_state_process")
def tcp_rcv_state_process(ctx: bpf.PtRegs, sk: bpf.sock) -> int:
    if ctx.arg0 == 0 or sk.__sk_common.skc_state != bpf.TCP_SYN_SENT:
        return 0
    piece = start.get(sk)
    if piece is None:
        return 0
    delta = bpf.ktime() - piece.ts
    if delta < 0:
        del start[sk]
        return 0
    event = Event()
    event.delta_us = delta // 1000
    if targ_min_us and event.delta_us < targ_min_us:
        del start[sk]
        return 0
    event.comm = piece.comm
    event.tgid = piece.tgid
    event.lport = sk.__sk_common.skc_num
    event.dport = sk.__sk_common.skc_dport
    event.af = sk.__sk_common.skc_family
    if event.af == bpf.AF_INET:
        event.daddr_v4 = sk.__sk_common.skc_daddr
    else:
        event.daddr_v6 = sk.__sk_common.skc_v6_daddr.in6_u.u6_addr8
    events.output(event)
    del start[sk]
    return 0
