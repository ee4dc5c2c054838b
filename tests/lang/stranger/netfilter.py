# mypy: ignore-errors
from skep import bpf
from skep.bpf import u8, u64
from skep.net import iphdr


@bpf.struct
class Key:
    hook: u8
    proto: u8


drops = bpf.Hash(Key, u64)


@bpf.netfilter
def nf(ctx: bpf.bpf_nf_ctx) -> int:
    skb = ctx.skb
    state = ctx.state
    if state.pf != 2:
        return 1
    d = bpf.Dynptr()
    if bpf.dynptr_from_skb(skb, 0, d):
        return 1
    ip = iphdr()
    if bpf.dynptr_read(ip, d, 0):
        return 1
    if ip.protocol == 6 and ip.daddr == 0x0A000001:
        drops[Key(state.hook, ip.protocol)] += 1
        return 0
    return 1


@bpf.flow_dissector
def dissect(skb: bpf.SkBuff) -> int:
    keys = skb.flow_keys
    pkt = skb.packet()
    pkt.skip(keys.nhoff)
    ip = pkt.take(iphdr)
    if ip is None:
        return bpf.BPF_DROP
    keys.thoff = keys.nhoff + ip.ihl * 4
    keys.addr_proto = 0x800
    keys.ipv4_src = ip.saddr
    keys.ipv4_dst = ip.daddr
    keys.ip_proto = ip.protocol
    keys.is_frag = ip.frag_off & 0x3FFF != 0
    return bpf.BPF_OK


@bpf.lwt_xmit
def encap(skb: bpf.SkBuff) -> int:
    h = iphdr(version=4, ihl=5, ttl=64, protocol=4, saddr=0x0A000001, daddr=0x0A000002, tot_len=20 + skb.len)
    if bpf.lwt_push_encap(bpf.BPF_LWT_ENCAP_IP, h) < 0:
        return bpf.BPF_DROP
    return bpf.BPF_LWT_REROUTE


@bpf.sk_skb_stream_parser
def parser(skb: bpf.SkBuff) -> int:
    hdr = bpf.array(u8, 4)
    if bpf.skb_load_bytes(0, hdr) < 0:
        return 0
    n = hdr[0] << 24 | hdr[1] << 16 | hdr[2] << 8 | hdr[3]
    return 4 + n


@bpf.socket_filter
def http(skb: bpf.SkBuff) -> int:
    proto = bpf.array(u8, 1)
    bpf.skb_load_bytes(23, proto)
    if proto[0] != 6:
        return 0
    b = bpf.char(4)
    if bpf.skb_load_bytes(54, b) < 0:
        return 0
    return -1 if b == "GET " else 0


@bpf.tc
def room(skb: bpf.SkBuff) -> int:
    bpf.skb_change_proto(0x86DD, 0) if False else None
    if bpf.skb_adjust_room(20, bpf.BPF_ADJ_ROOM_MAC, bpf.BPF_F_ADJ_ROOM_ENCAP_L3_IPV4):
        return bpf.TC_ACT_SHOT
    tk = bpf.bpf_tunnel_key()
    tk.tunnel_id = 42
    tk.remote_ipv4 = 0x0A000001
    bpf.skb_set_tunnel_key(tk, bpf.BPF_F_ZERO_CSUM_TX)
    bpf.skb_vlan_push(0x8100, 10)
    return bpf.clone_redirect(skb.ifindex, 0)
