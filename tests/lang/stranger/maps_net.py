# mypy: ignore-errors
"""Network maps: devices, processors, AF_XDP, sockets by index, key and port group."""

from skep import bpf
from skep.bpf import be16, be32, u8, u64


@bpf.struct
class Tuple:
    saddr: be32
    daddr: be32
    sport: be16
    dport: be16
    proto: u8


devs = bpf.DevMap(64)
hdevs = bpf.DevMapHash(64)
cpus = bpf.CpuMap(16)
xsks = bpf.XskMap(64)
socks = bpf.SockMap(16)
shash = bpf.SockHash(Tuple, 1024)
reuse = bpf.ReuseportSockArray(16)
counters = bpf.PerCpuArray(u64, 8)
conns = bpf.LruHash(Tuple, u64, max_entries=4096)


@bpf.xdp
def xdp_redirect_map(ctx: bpf.Xdp) -> int:
    counters[0] += 1
    return devs.redirect(ctx.ingress_ifindex, bpf.XDP_PASS)


@bpf.xdp
def xdp_broadcast(ctx: bpf.Xdp) -> int:
    return hdevs.redirect(0, bpf.BPF_F_BROADCAST | bpf.BPF_F_EXCLUDE_INGRESS)


@bpf.xdp
def xdp_cpu(ctx: bpf.Xdp) -> int:
    return cpus.redirect(bpf.cpu() % 4, 0)


@bpf.xdp
def xdp_sock(ctx: bpf.Xdp) -> int:
    i = ctx.rx_queue_index
    if i in xsks:
        return xsks.redirect(i)
    return bpf.XDP_PASS


@bpf.sockops
def add(ctx: bpf.SockOps) -> int:
    if ctx.op in (bpf.BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, bpf.BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB):
        key = Tuple(ctx.local_ip4, ctx.remote_ip4, ctx.local_port, ctx.remote_port, 6)
        shash.update(key, bpf.BPF_NOEXIST)
    return 1


@bpf.sk_msg
def redir(msg: bpf.SkMsg) -> int:
    key = Tuple(msg.remote_ip4, msg.local_ip4, msg.remote_port, msg.local_port, 6)
    return shash.redirect(key, bpf.BPF_F_INGRESS)


@bpf.sk_skb_stream_verdict
def verdict(skb: bpf.SkBuff) -> int:
    return socks.redirect(0, 0)


@bpf.sk_reuseport
def pick(ctx: bpf.SkReuseport) -> int:
    if reuse.select(ctx.hash % 4) == 0:
        return bpf.SK_PASS
    return bpf.SK_DROP


@bpf.sk_lookup
def steer(ctx: bpf.SkLookup) -> int:
    if ctx.local_port != 7:
        return bpf.SK_PASS
    sk = socks.get(1)
    if sk is None:
        return bpf.SK_DROP
    err = bpf.sk_assign(sk)
    bpf.sk_release(sk)
    return bpf.SK_DROP if err else bpf.SK_PASS
