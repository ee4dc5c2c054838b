"""BPF-to-BPF calls: functions that stay functions, verified and compiled once.

The program answers: is the packet's IPv4 header checksum right?

    sudo python examples/subprograms.py eth0 [SECONDS]
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import u32, u64
from skep.net import ETH_P_IP, ethhdr, iphdr

right: u64 = bpf.var(0)
wrong: u64 = bpf.var(0)


@bpf.subprog
def folded(total: u64) -> u32:
    """The ones' complement sum of 16-bit words, from their plain sum."""
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return u32(total)


@bpf.subprog
def word(high: u32, low: u32) -> u32:
    return u32((high << 8) | low)


@bpf.xdp
def verify(ctx: bpf.Xdp) -> int:
    global right, wrong
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None or ip.ihl != 5:
        return bpf.XDP_PASS
    total = word(ip.version << 4 | ip.ihl, ip.tos) + ip.tot_len + ip.id + ip.frag_off
    total += word(ip.ttl, ip.protocol) + ip.check
    total += (ip.saddr >> 16) + (ip.saddr & 0xFFFF) + (ip.daddr >> 16) + (ip.daddr & 0xFFFF)
    if folded(total) == 0xFFFF:
        right += 1
    else:
        wrong += 1
    return bpf.XDP_PASS


def main() -> None:
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    with skep.load(verify) as obj, obj.verify.attach(sys.argv[1]):
        time.sleep(seconds)
        print(f"right {obj.bss.right}, wrong {obj.bss.wrong}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
