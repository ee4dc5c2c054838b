"""Count packets and bytes by protocol at the lowest place of the network stack.

sudo python examples/packets.py eth0 [SECONDS]
"""

import socket
import sys
import time

import skep
from skep import bpf
from skep.bpf import u32, u64
from skep.net import ETH_P_IP, ETH_P_IPV6, ethhdr, iphdr, ipv6hdr


@bpf.struct
class Traffic:
    packets: u64
    bytes: u64


traffic = bpf.PerCpuArray(Traffic, max_entries=256)


@bpf.xdp
def count(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.XDP_PASS
    protocol: u32 = 255  # reserved: what is not IP
    if eth.proto == ETH_P_IP:
        ip = pkt.take(iphdr)
        if ip is not None:
            protocol = ip.protocol
    elif eth.proto == ETH_P_IPV6:
        ip6 = pkt.take(ipv6hdr)
        if ip6 is not None:
            protocol = ip6.nexthdr
    row = traffic.lookup(protocol)
    if row is not None:
        row.packets += 1
        row.bytes += len(pkt)
    return bpf.XDP_PASS


def main() -> None:
    iface = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    names = {getattr(socket, name): name[8:] for name in dir(socket) if name.startswith("IPPROTO_")}
    with skep.load(count) as obj, obj.count.attach(iface):
        time.sleep(seconds)
        for protocol in range(256):
            per_cpu = obj.traffic[protocol]
            packets, size = sum(row.packets for row in per_cpu), sum(row.bytes for row in per_cpu)
            if packets:
                print(f"{names.get(protocol, 'other'):10} {packets:10} packets {size:14} bytes")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
