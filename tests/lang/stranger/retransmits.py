"""tcpretrans: who retransmits, by tracepoint tcp:tcp_retransmit_skb."""

from skep import bpf
from skep.bpf import u16, u32, u64


class Retrans(bpf.Struct):
    ts: u64
    pid: u32
    state: u32
    family: u16
    sport: u16
    dport: u16
    saddr: bpf.Raw = bpf.raw(16)
    daddr: bpf.Raw = bpf.raw(16)


class Flow(bpf.Struct):
    saddr: u32
    daddr: u32
    ports: u32


events = bpf.RingBuf(Retrans, size=1 << 16)
counts = bpf.LruHash(Flow, u64, max_entries=1024)


@bpf.tracepoint("tcp:tcp_retransmit_skb")
def retransmit(ctx: bpf.TcpRetransmitSkb) -> int:
    with events.reserve() as e:
        e.ts = bpf.ktime()
        e.pid = bpf.pid()
        e.state = ctx.state
        e.family = ctx.family
        e.sport = ctx.sport
        e.dport = ctx.dport
        if ctx.family == bpf.AF_INET:
            e.saddr[0:4] = ctx.saddr
            e.daddr[0:4] = ctx.daddr
        else:
            e.saddr = ctx.saddr_v6
            e.daddr = ctx.daddr_v6
    return 0


@bpf.kprobe("tcp_retransmit_skb")
def by_kprobe(sk: bpf.sock) -> int:
    f = Flow(saddr=sk.__sk_common.skc_rcv_saddr, daddr=sk.__sk_common.skc_daddr)
    f.ports = (sk.__sk_common.skc_num << 16) | sk.__sk_common.skc_dport
    counts[f] += 1
    return 0
