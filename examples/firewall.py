"""Count packets per source address; drop those on the block list.

sudo python examples/firewall.py eth0 192.0.2.0/24 198.51.100.7/32
"""

import ipaddress
import sys
import time

import skep
from skep import bpf
from skep.bpf import be32, u32, u64
from skep.net import ETH_P_IP, ethhdr, iphdr

blocked = bpf.LpmTrie(bpf.lpm(be32), u32, max_entries=10_000)
packets = bpf.PerCpuHash(be32, u64, max_entries=65_536)


@bpf.xdp
def firewall(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()  # a cursor, an ordinary value
    eth = pkt.take(ethhdr)  # bounds-checked: None when the frame is too short
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None:
        return bpf.XDP_PASS
    packets[ip.saddr] += 1
    return bpf.XDP_DROP if ip.saddr in blocked else bpf.XDP_PASS


def main() -> None:
    with skep.load(firewall) as obj, obj.firewall.attach(sys.argv[1]):
        for text in sys.argv[2:]:
            net = ipaddress.IPv4Network(text)
            obj.blocked[net.prefixlen, int(net.network_address)] = 1
        try:
            while True:
                time.sleep(1)
                for address, counts in obj.packets.items():
                    print(f"{ipaddress.IPv4Address(address)!s:15} {sum(counts)}")
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
