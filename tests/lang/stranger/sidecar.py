"""A sockmap proxy and sidecar acceleration: sockops fills, sk_msg and sk_skb redirect."""

from skep import bpf
from skep.bpf import be32, u32, u64


@bpf.struct
class Key:
    sip4: be32
    dip4: be32
    family: u32
    sport: be32
    dport: be32


socks = bpf.SockHash(Key, max_entries=65535)
proxy = bpf.SockMap(2)
bytes_in: u64 = bpf.var(0)


@bpf.sockops
def establish(ctx: bpf.SockOps) -> int:
    if ctx.family != bpf.AF_INET:
        return 0
    match ctx.op:
        case bpf.BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB | bpf.BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
            key = Key(ctx.local_ip4, ctx.remote_ip4, ctx.family, ctx.local_port, ctx.remote_port)
            socks.update(key, flags=bpf.BPF_NOEXIST)
    return 0


@bpf.sk_msg
def bypass(msg: bpf.SkMsg) -> int:
    key = Key(msg.remote_ip4, msg.local_ip4, msg.family, msg.remote_port, msg.local_port)
    socks.redirect(key, bpf.BPF_F_INGRESS)
    return bpf.SK_PASS


@bpf.sk_skb_stream_parser
def parser(skb: bpf.SkBuff) -> int:
    return skb.len


@bpf.sk_skb_stream_verdict
def verdict(skb: bpf.SkBuff) -> int:
    global bytes_in
    bytes_in += skb.len
    return proxy.redirect(1 if skb.local_port == 8080 else 0)
