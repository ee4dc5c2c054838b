# mypy: ignore-errors
"""tcpconnect: kprobes on tcp_v4_connect, sockets' addresses from sock_common's anonymous unions."""

from enum import IntEnum

from skep import bpf
from skep.bpf import be16, be32, s32, u16, u32, u64


class Family(IntEnum):
    INET = 2
    INET6 = 10


@bpf.struct
class Flow:
    saddr: be32
    daddr: be32
    dport: be16


@bpf.struct
class Event:
    daddr6: bytes = bpf.raw(16)
    saddr: u32
    daddr: u32
    pid: u32
    af: Family
    dport: be16
    comm: bytes = bpf.char(16)


socks = bpf.Hash(u32, u64)
flows = bpf.Hash(Flow, u64)
events = bpf.RingBuf(Event, size=65536)
filter_ports: list[u16] = bpf.const(bpf.array(u16, 8))
n_ports: u32 = bpf.const(0)


def port_ok(port):
    if n_ports == 0:
        return True
    for i in range(8):
        if i >= n_ports:
            break
        if filter_ports[i] == port:
            return True
    return False


@bpf.kprobe("tcp_v4_connect")
def enter_v4(sk: bpf.sock) -> int:
    socks[bpf.tid()] = u64(sk)
    return 0


@bpf.kretprobe("tcp_v4_connect")
def exit_v4(ret: s32) -> int:
    tid = bpf.tid()
    skp = socks.get(tid)
    if skp is None:
        return 0
    if ret == 0:
        sk = bpf.sock(skp)
        dport = sk.__sk_common.skc_dport
        if port_ok(dport):
            flows[Flow(sk.__sk_common.skc_rcv_saddr, sk.__sk_common.skc_daddr, dport)] += 1
            with events.reserve() as e:
                e.af = Family.INET
                e.saddr = sk.__sk_common.skc_rcv_saddr
                e.daddr = sk.__sk_common.skc_daddr
                e.dport = dport
                e.pid = bpf.pid()
                e.comm = bpf.comm()
    del socks[tid]
    return 0


@bpf.kprobe("tcp_v6_connect")
def enter_v6(sk: bpf.sock) -> int:
    with events.reserve() as e:
        e.af = Family.INET6
        e.daddr6 = sk.__sk_common.skc_v6_daddr.in6_u.u6_addr8
    return 0
