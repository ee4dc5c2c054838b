"""SYN cookies (helpers that read headers), congestion control on the socket as it is."""

from typing import Any

from skep import bpf
from skep.bpf import u32
from skep.net import ETH_P_IP, IPPROTO_TCP, ethhdr, iphdr, tcphdr


@bpf.struct_ops("tcp_congestion_ops:ssthresh")
def ssthresh(sk: bpf.sock) -> int:
    tp = bpf.cast(bpf.tcp_sock, sk)
    return max(tp.snd_cwnd >> 1, 2)


@bpf.struct_ops("tcp_congestion_ops:cong_avoid")
def cong_avoid(sk: bpf.sock, ack: u32, acked: u32) -> None:
    tp = bpf.cast(bpf.tcp_sock, sk)
    if tp.is_cwnd_limited:
        tp.snd_cwnd = 7


@bpf.struct_ops("tcp_congestion_ops:undo_cwnd")
def undo_cwnd(sk: bpf.sock) -> int:
    tp = bpf.cast(bpf.tcp_sock, sk)
    return max(tp.snd_cwnd, tp.prior_cwnd)


cc = bpf.StructOps(
    "tcp_congestion_ops", ssthresh=ssthresh, cong_avoid=cong_avoid, undo_cwnd=undo_cwnd, name=b"skep_tried"
)


@bpf.xdp
def cookie(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None or ip.protocol != IPPROTO_TCP or ip.ihl != 5:
        return bpf.XDP_PASS
    tcp = pkt.take(tcphdr)
    if tcp is None or tcp.doff < 5:
        return bpf.XDP_PASS
    if tcp.ack and bpf.tcp_raw_check_syncookie_ipv4(ip, tcp) < 0:
        return bpf.XDP_DROP
    made = bpf.tcp_raw_gen_syncookie_ipv4(ip, tcp, size=20)
    if made < 0:
        return bpf.XDP_DROP
    ip.saddr, ip.daddr = ip.daddr, ip.saddr
    tcp.source, tcp.dest = tcp.dest, tcp.source
    tcp.ack_seq = tcp.seq + 1
    tcp.seq = u32(made)
    tcp.ack = 1
    return bpf.XDP_TX


def check(obj: Any) -> None:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    def frame(**tcp: Any) -> bytes:
        return bytes(
            Ether(dst="02:00:00:00:00:01") / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=5, dport=6, **tcp)
        )

    answer = obj.cookie.run(frame(flags="S", seq=99), data_out=2000)
    tcp = Ether(answer.data)[TCP]
    assert answer.retval == 3 and tcp.ack == 100 and tcp.flags == "SA", answer
    good = frame(flags="A", seq=100, ack=tcp.seq + 1 & 0xFFFF_FFFF)
    assert obj.cookie.run(good).retval == 3  # the kernel knows its cookie
    assert obj.cookie.run(frame(flags="A", seq=100, ack=tcp.seq + 12_345_678 & 0xFFFF_FFFF)).retval == 1
