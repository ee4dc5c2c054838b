"""Print every TCP connection when it ends: who had it, with whom, for how long, how many bytes.

sudo python examples/tcplife.py [PORT]
sudo skep run examples/tcplife.py -- curl -s http://example.com/ -o /dev/null
"""

import socket
import sys

import skep
from skep import bpf
from skep.bpf import u16, u32, u64
from skep.net import IPPROTO_TCP


@bpf.struct
class Owner:
    pid: u32
    comm: bpf.Text = bpf.char(16)


@bpf.struct
class Connection:
    local: bpf.Raw = bpf.raw(16)
    remote: bpf.Raw = bpf.raw(16)
    nanoseconds: u64
    received: u64
    acknowledged: u64
    pid: u32
    family: u16
    local_port: u16
    remote_port: u16
    comm: bpf.Text = bpf.char(16)


#: a port of either side, 0 for all; set before loading
only_port: u16 = bpf.const(0)
#: keys are sockets: pointers of the kernel's, kept as addresses
born = bpf.Hash(bpf.sock, u64, max_entries=10_240)
owners = bpf.Hash(bpf.sock, Owner, max_entries=10_240)
connections = bpf.RingBuf(Connection, size=1 << 18)


@bpf.tracepoint("sock:inet_sock_set_state")
def changed(ctx: bpf.InetSockSetState) -> int:
    if ctx.protocol != IPPROTO_TCP:
        return 0
    if only_port != 0 and ctx.sport != only_port and ctx.dport != only_port:
        return 0
    sk = bpf.cast(bpf.sock, ctx.skaddr)
    if ctx.newstate < bpf.TCP_FIN_WAIT1:
        born[sk] = bpf.ktime()
    # These two happen in the process that has the socket; others may happen wherever a packet arrives.
    if ctx.newstate == bpf.TCP_SYN_SENT or ctx.newstate == bpf.TCP_LAST_ACK:
        owners[sk] = Owner(pid=bpf.pid(), comm=bpf.comm())
    if ctx.newstate != bpf.TCP_CLOSE:
        return 0
    since = born.get(sk)
    if since is not None:
        with connections.reserve() as c:
            c.family = ctx.family
            c.local_port = ctx.sport
            c.remote_port = ctx.dport
            c.nanoseconds = bpf.ktime() - since
            tcp = bpf.cast(bpf.tcp_sock, sk)
            c.received = tcp.bytes_received
            c.acknowledged = tcp.bytes_acked
            if ctx.family == bpf.AF_INET:
                c.local[0:4] = ctx.saddr
                c.remote[0:4] = ctx.daddr
            else:
                c.local = ctx.saddr_v6
                c.remote = ctx.daddr_v6
            owner = owners.get(sk)
            if owner is not None:
                c.pid = owner.pid
                c.comm = owner.comm
            else:
                c.pid = bpf.pid()
                c.comm = bpf.comm()
        del born[sk]
    if sk in owners:
        del owners[sk]
    return 0


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with skep.load(changed, variables={"only_port": port}) as obj:
        obj.attach()
        print(f"{'PID':>7} {'COMM':16} {'LOCAL':>25} {'REMOTE':>25} {'TX':>9} {'RX':>9} MS")
        for c in obj.reader("connections"):
            size = 4 if c.family == socket.AF_INET else 16
            local, remote = (socket.inet_ntop(c.family, bytes(a[:size])) for a in (c.local, c.remote))
            ends = f"{local + ':' + str(c.local_port):>25} {remote + ':' + str(c.remote_port):>25}"
            took = f"{c.nanoseconds / 1e6:.2f}"
            print(
                f"{c.pid:7} {c.comm.decode():16} {ends} {c.acknowledged:9} {c.received:9} {took}", flush=True
            )


if __name__ == "__main__":
    if sys.argv[1:] and not sys.argv[1].isdigit():
        sys.exit(__doc__)
    main()
