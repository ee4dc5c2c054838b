"""One program that jumps to another for each protocol: tail calls through a program array.

sudo python examples/dispatch.py eth0 [SECONDS]
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import u64
from skep.net import ETH_P_IP, ethhdr, icmphdr, iphdr, tcphdr

ICMP, TCP = 1, 6

echoes: u64 = bpf.var(0)
opened: u64 = bpf.var(0)
others: u64 = bpf.var(0)


@bpf.xdp
def icmp(ctx: bpf.Xdp) -> int:
    global echoes
    pkt = ctx.packet()
    if pkt.take(ethhdr) is None or pkt.take(iphdr) is None:
        return bpf.XDP_PASS
    header = pkt.take(icmphdr)
    if header is not None and header.type == 8:
        echoes += 1
    return bpf.XDP_PASS


@bpf.xdp
def tcp(ctx: bpf.Xdp) -> int:
    global opened
    pkt = ctx.packet()
    if pkt.take(ethhdr) is None or pkt.take(iphdr) is None:
        return bpf.XDP_PASS
    header = pkt.take(tcphdr)
    if header is not None and header.syn and not header.ack:
        opened += 1
    return bpf.XDP_PASS


handlers = bpf.ProgArray(256, initial={ICMP: icmp, TCP: tcp})


@bpf.xdp
def dispatch(ctx: bpf.Xdp) -> int:
    global others
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None:
        return bpf.XDP_PASS
    handlers.tail_call(ctx, ip.protocol)  # comes back only when the slot is empty
    others += 1
    return bpf.XDP_PASS


def main() -> None:
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    with skep.load([dispatch, icmp, tcp]) as obj, obj.dispatch.attach(sys.argv[1]):
        time.sleep(seconds)
        print(f"pings {obj.bss.echoes}, connections {obj.bss.opened}, others {obj.bss.others}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
