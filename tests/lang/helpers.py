"""Helpers and kfuncs called in every way that arguments are passed: the object of test_helpers."""

from __future__ import annotations

from skep import bpf
from skep.bpf import s64, u32, u64


@bpf.struct
class R:
    a: u64
    buf: bytes = bpf.char(64)
    raw: bytes = bpf.raw(64)


m = bpf.Array(R, 4)
h = bpf.Hash(u32, u64)
stacks = bpf.StackTrace(128)
sk_store = bpf.SkStorage(u64)
task_store = bpf.TaskStorage(u64)
cg = bpf.CgroupArray(4)
pe = bpf.PerfEventArray(R)


@bpf.tc
def h_tc(skb: bpf.SkBuff) -> int:
    r = m[0]
    bpf.skb_load_bytes(0, r.raw)
    bpf.skb_load_bytes(0, r.raw, size=14)
    bpf.skb_store_bytes(0, r.raw, size=14, flags=bpf.BPF_F_RECOMPUTE_CSUM)
    bpf.l3_csum_replace(24, 1, 2, 2)
    bpf.l4_csum_replace(36, 1, 2, 2)
    s = bpf.csum_diff(None, r.raw, 0)
    bpf.skb_change_tail(100)
    bpf.set_hash_invalid()
    h[0] = s & 0xFFFF
    h[3] = bpf.skb_ancestor_cgroup_id(1)
    bpf.skb_adjust_room(8, bpf.BPF_ADJ_ROOM_MAC)
    ret, key = bpf.skb_get_tunnel_key()
    if ret == 0:
        h[1] = key.tunnel_id
        bpf.skb_set_tunnel_key(key)
    status, mtu = bpf.check_mtu(0, 0, mtu_len=100)
    h[4] = status + mtu
    return bpf.redirect_neigh(1)


@bpf.tc
def h_sk(skb: bpf.SkBuff) -> int:
    t = m[1]
    sk = bpf.sk_lookup_tcp(t.raw, bpf.BPF_F_CURRENT_NETNS, size=12)
    if sk is None:
        return 0
    h[2] = sk.src_port
    bpf.sk_release(sk)
    return 0


@bpf.tc
def h_fib(skb: bpf.SkBuff) -> int:
    params = bpf.bpf_fib_lookup(family=2, ipv4_dst=0x0A000001, ifindex=skb.ifindex)
    h[6] = bpf.fib_lookup(params)
    d = params.dmac
    h[2] = d[0]
    tup = bpf.bpf_sock_tuple()
    tup.ipv4.saddr = 5
    sk = bpf.sk_lookup_udp(tup, bpf.BPF_F_CURRENT_NETNS, size=12)
    if sk is not None:
        bpf.sk_release(sk)
    return 0


@bpf.raw_tp("sys_enter")
def h_trace(regs: bpf.pt_regs, nr: s64) -> int:
    r = m[0]
    bpf.get_current_comm(r.buf)
    bpf.get_stack(r.raw, bpf.BPF_F_USER_STACK)
    h[1] = stacks.id()
    h[2] = bpf.get_stackid(stacks, bpf.BPF_F_USER_STACK) & 0xFFFF
    bpf.probe_read_kernel(r.raw, regs)
    bpf.probe_read_user_str(r.buf, regs.di)
    bpf.send_signal(0) if nr == 99999 else 0
    status, ns = bpf.get_ns_current_pid_tgid(1, 2)
    h[3] = ns.pid + status
    used, v = bpf.strtol(r.buf, 10)
    h[4] = (v + used) & 0xFF
    pe.output(r)
    bpf.perf_event_output(pe, bpf.BPF_F_CURRENT_CPU, r)
    if bpf.strncmp(r.buf, b"abc") == 0:
        return 1
    h[5] = bpf.jiffies64() & 0xFF
    h[6] = bpf.get_current_task() & 0xFF
    task = bpf.get_current_task_btf()
    v2 = bpf.task_storage_get(task_store, task, None, bpf.BPF_LOCAL_STORAGE_GET_F_CREATE)
    if v2 is not None:
        v2.value += 1
    bpf.snprintf(r.buf, f"{bpf.pid()} x")
    return 0


@bpf.syscall
def h_k() -> int:
    t = bpf.bpf_task_from_pid(1)
    if t is None:
        return 0
    h[1] = t.pid
    bpf.bpf_task_release(t)
    bpf.bpf_rcu_read_lock()
    bpf.bpf_rcu_read_unlock()
    c = bpf.bpf_cgroup_from_id(1)
    if c is not None:
        h[2] = c.level
        bpf.bpf_cgroup_release(c)
    return 0


@bpf.xdp
def h_x(ctx: bpf.Xdp) -> int:
    bpf.xdp_adjust_head(-14)
    r = m[0]
    bpf.xdp_load_bytes(0, r.raw, size=20)
    return bpf.redirect(2)


@bpf.sockops
def h_so(ctx: bpf.SockOps) -> int:
    r = m[0]
    bpf.setsockopt(1, 8, r.raw, size=4)
    bpf.getsockopt(1, 8, r.raw, size=4)
    sk = ctx.sk
    if sk is not None:
        p = bpf.sk_storage_get(sk_store, sk, None, bpf.BPF_SK_STORAGE_GET_F_CREATE)
        if p is not None:
            p.value += 1
        if sk_store.create(sk) is None:
            return 0
    return 1


@bpf.cgroup_skb_egress
def h_ce(skb: bpf.SkBuff) -> int:
    bpf.skb_ecn_set_ce()
    return 1


@bpf.sk_lookup
def h_sl(ctx: bpf.SkLookup) -> int:
    bpf.sk_assign(None)
    return 1
