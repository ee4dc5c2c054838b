"""A layer 4 load balancer: connections to a service's address are sent on to one of its servers, in IPIP.

sudo python examples/balancer.py INTERFACE SELF SERVICE:PORT SERVER=MAC ...
(a server: ip link add ipip0 type ipip external, the service's address on lo)
"""

import ipaddress
import sys
import time
import zlib

import skep
from skep import bpf
from skep.bpf import be16, be32, u32, u64
from skep.net import ETH_P_IP, IPPROTO_IPIP, IPPROTO_TCP, IPPROTO_UDP, ethhdr, iphdr, tcphdr, udphdr

SLOTS = 4093  # prime, and many more than servers: see spread()


@bpf.struct
class Service:
    address: be32
    port: be16
    protocol: be16


@bpf.struct
class Server:
    address: be32
    mac: bpf.Raw = bpf.raw(6)


@bpf.struct
class Flow:
    source: be32
    address: be32
    source_port: be16
    port: be16


own_address: be32 = bpf.const(0)
services = bpf.Hash(Service, u32, max_entries=64)
#: which server has a slot; a server that comes or goes moves few flows
slots = bpf.Array(u32, SLOTS)
servers = bpf.Array(Server, 256)
#: flows stay where they are while the slots change
flows = bpf.LruHash(Flow, u32, max_entries=65_536)
sent = bpf.PerCpuArray(u64, 256)


def mixed(flow: Flow) -> int:
    """A hash of a flow (the finaliser of MurmurHash3)."""
    h = u64((flow.source << 32) | flow.address) ^ u64(
        ((flow.source_port << 16) | flow.port) * 0x9E3779B97F4A7C15
    )
    h ^= h >> 33
    h = u64(h * 0xFF51AFD7ED558CCD)
    h ^= h >> 33
    return h


def checksum(header: iphdr) -> int:
    """The Internet checksum of a header whose checksum field is zero."""
    total = bpf.csum_diff(None, header, 0)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return bpf.bswap16(~total & 0xFFFF)


@bpf.xdp
def balance(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.take(iphdr)
    if ip is None or ip.ihl != 5:
        return bpf.XDP_PASS
    flow = Flow(source=ip.saddr, address=ip.daddr, source_port=0, port=0)
    if ip.protocol == IPPROTO_TCP:
        tcp = pkt.take(tcphdr)
        if tcp is None:
            return bpf.XDP_DROP
        flow.source_port, flow.port = tcp.source, tcp.dest
    elif ip.protocol == IPPROTO_UDP:
        udp = pkt.take(udphdr)
        if udp is None:
            return bpf.XDP_DROP
        flow.source_port, flow.port = udp.source, udp.dest
    if Service(ip.daddr, flow.port, ip.protocol) not in services:
        return bpf.XDP_PASS
    if ip.frag_off & 0x3FFF:  # later fragments have no ports
        return bpf.XDP_DROP
    number = flows.get(flow, SLOTS)
    if number == SLOTS:
        number = slots[mixed(flow) % SLOTS]
        flows[flow] = number
    if number >= 256:
        return bpf.XDP_DROP
    server = servers[number]
    length, tos, here = ip.tot_len, ip.tos, eth.dest
    if bpf.xdp_adjust_head(-bpf.sizeof(iphdr)):
        return bpf.XDP_DROP
    pkt = ctx.packet()  # the packet has moved: what was taken from it is gone
    eth = pkt.take(ethhdr)
    if eth is None:
        return bpf.XDP_DROP
    outer = pkt.take(iphdr)
    if outer is None:
        return bpf.XDP_DROP
    eth.dest, eth.source, eth.proto = server.mac, here, ETH_P_IP
    outer.version, outer.ihl, outer.tos = 4, 5, tos
    outer.tot_len = length + bpf.sizeof(iphdr)
    outer.id, outer.frag_off, outer.ttl, outer.protocol = 0, 0, 64, IPPROTO_IPIP
    outer.saddr, outer.daddr, outer.check = own_address, server.address, 0
    outer.check = checksum(outer)
    sent[number] += 1
    return bpf.XDP_TX


def spread(names: list[str]) -> list[int]:
    """The slots of servers: each takes turns at its own order of all slots (Maglev's table).

    The orders come from the names alone, so that every balancer has the same table, whenever it started.
    """
    owner = [-1] * SLOTS
    hashes = [zlib.crc32(name.encode()) for name in names]
    orders = [(h % SLOTS, h // SLOTS % (SLOTS - 1) + 1) for h in hashes]
    turns = [0] * len(names)
    for taken in range(SLOTS):
        n = taken % len(names)
        offset, skip = orders[n]
        while owner[(offset + turns[n] * skip) % SLOTS] >= 0:
            turns[n] += 1
        owner[(offset + turns[n] * skip) % SLOTS] = n
    return owner


def main() -> None:
    interface, own, service, *given = sys.argv[1:]
    address, port = service.split(":")
    variables = {"own_address": int(ipaddress.IPv4Address(own))}
    names, macs = zip(*(one.split("=") for one in given), strict=True)
    with skep.load(balance, variables=variables) as obj:
        for number, (server, mac) in enumerate(zip(names, macs, strict=True)):
            obj.servers[number] = (int(ipaddress.IPv4Address(server)), bytes.fromhex(mac.replace(":", "")))
        obj.slots.update(enumerate(spread(list(names))))
        for protocol in (6, 17):
            obj.services[(int(ipaddress.IPv4Address(address)), int(port), protocol)] = 1
        with obj.balance.attach(interface):
            while True:
                time.sleep(1)
                print(*(f"{name}: {sum(obj.sent[n])}" for n, name in enumerate(names)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
