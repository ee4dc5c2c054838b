"""For every helper of Linux 6.18 a program that calls it, in a type of program that has it."""

# ruff: noqa: E501 (programs stay whole)
# fmt: off
from __future__ import annotations

from tests.lang.kernel_functions import Case

PRELUDE = '''
@bpf.struct
class R:
    name: bpf.Text = bpf.char(16)
    raw: bpf.Raw = bpf.raw(64)
    n: u64

@bpf.struct
class Timed:
    n: u64
    timer: bpf.Timer

@bpf.struct
class Locked:
    lock: bpf.SpinLock
    n: u64

@bpf.struct
class Kept:
    task: bpf.Kptr[bpf.task_struct]

@bpf.struct
class Counts:
    n: u64

@bpf.struct
class Slot:
    counts: bpf.PerCpuKptr[Counts]

@bpf.struct
class State:
    n: u64

rs = bpf.Array(R, 1)
table = bpf.Hash(u32, u64, max_entries=4)
percpu = bpf.PerCpuHash(u32, u64, max_entries=4)
queue = bpf.Queue(u64, max_entries=4)
stacks = bpf.StackTrace(128)
ring = bpf.RingBuf(R, size=4096)
commands = bpf.UserRingBuf(R, size=4096)
perf = bpf.PerfEventArray(R)
progs = bpf.ProgArray(4)
cgroups = bpf.CgroupArray(4)
devs = bpf.DevMap(4)
socks = bpf.SockMap(4)
hashed = bpf.SockHash(u32, max_entries=4)
ports = bpf.ReuseportSockArray(4)
sk_store = bpf.SkStorage(u64)
task_store = bpf.TaskStorage(u64)
inode_store = bpf.InodeStorage(u64)
cgrp_store = bpf.CgrpStorage(u64)
local = bpf.CgroupStorage(u64)
timers = bpf.Array(Timed, 1)
lockeds = bpf.Array(Locked, 1)
kepts = bpf.Array(Kept, 1)
slots = bpf.Array(Slot, 1)

def later(map, key, value) -> int:
    return 0

def each(map, key, value: u64, state: State) -> bool:
    return False

def turn(i: u32, state: State) -> bool:
    return False

def drained(record: R, state: State) -> bool:
    return False

def found(task, vma, state: State) -> bool:
    return False
'''
TC = ("tc", "ctx: bpf.SkBuff")
XDP = ("xdp", "ctx: bpf.Xdp")
SYS = ("syscall", "")
TP = ('tp_btf("task_newtask")', "task: bpf.task_struct, flags: u64")
KPROBE = ('kprobe("do_exit")', "ctx")
PERF = ("perf_event", "ctx: bpf.PerfEvent")
MSG = ("sk_msg", "ctx: bpf.SkMsg")
OPS = ("sockops", "ctx: bpf.SockOps")
LSM = ('lsm("file_open", sleepable=True)', "file: bpf.file")
FENTRY = ('fentry("vfs_read")', "file: bpf.file")
FEXIT = ('fexit("vfs_read")', "file: bpf.file")
SYSCTL = ("cgroup_sysctl", "ctx: bpf.Sysctl")
SKB = ("cgroup_skb_ingress", "ctx: bpf.SkBuff")
SEG6 = ("lwt_seg6local", "ctx: bpf.SkBuff")
LIRC = ("lirc_mode2", "sample: u32")
ITER = ('iter("task")', "ctx: bpf.IterTask")
SOCKS = ('tp_btf("inet_sock_set_state")', "sk: bpf.sock, oldstate: s32, newstate: s32")

CASES: dict[str, Case] = {}


def k(names: str, hook: tuple[str, str], body: str) -> None:
    """A program for each helper; ``@@`` in its body is the helper's name."""
    for name in names.split():
        CASES[name] = Case(*hook, body.strip().replace("@@", name))


N = "rs[0].n = "
k("ktime_get_ns get_prandom_u32 get_smp_processor_id get_numa_node_id jiffies64 ktime_get_boot_ns ktime_get_coarse_ns", TC, N + "bpf.@@()")
k("ktime_get_tai_ns get_current_pid_tgid get_current_uid_gid get_current_cgroup_id", SYS, N + "bpf.@@()")
k("get_current_task", TP, N + "bpf.current_task().tgid")
k("get_current_comm", SYS, "rs[0].name = bpf.comm()")
k("map_lookup_elem map_update_elem map_delete_elem", TC, "table[1] = 5\nif table.get(1) is not None:\n    del table[1]")
k("map_push_elem", TC, "queue.push(5)")
k("map_pop_elem", TC, "v = queue.pop()\nif v is not None:\n    rs[0].n = v")
k("map_peek_elem", TC, "v = queue.peek()\nif v is not None:\n    rs[0].n = v")
k("map_lookup_percpu_elem", TC, "p = percpu.lookup_percpu(1, 0)\nif p is not None:\n    rs[0].n = p.value")
k("for_each_map_elem", TC, "s = State()\ntable.for_each(each, s)")
k("loop", TC, "s = State()\nbpf.loop(5, turn, s)")
k("probe_read probe_read_kernel probe_read_user", TP, "bpf.@@(rs[0].raw, 0)")
k("probe_read_str probe_read_kernel_str probe_read_user_str", TP, "bpf.@@(rs[0].name, 0)")
k("probe_write_user", TP, "bpf.probe_write_user(0, rs[0].raw)")
k("copy_from_user", SYS, "bpf.copy_from_user(rs[0].raw, 0)")
k("copy_from_user_task", SYS, "bpf.copy_from_user_task(rs[0].raw, 0, bpf.get_current_task_btf())")
k("trace_printk", TC, 'bpf.printk(f"{ctx.len}")')
k("trace_vprintk", TC, 'bpf.printk(f"{ctx.len} {ctx.len} {ctx.len} {ctx.len}")')
k("snprintf", SYS, 'bpf.snprintf(rs[0].name, f"{rs[0].n}")')
k("snprintf_btf", TP, "p = bpf.btf_ptr(ptr=bpf.current_task(), type_id=1)\nbpf.snprintf_btf(rs[0].raw, p)")
k("seq_printf", ITER, 'bpf.seq_printf(ctx.meta.seq, f"{1}")')
k("seq_write", ITER, "bpf.seq_write(ctx.meta.seq, rs[0].raw)")
k("seq_printf_btf", ITER, "p = bpf.btf_ptr(ptr=bpf.current_task(), type_id=1)\nbpf.seq_printf_btf(ctx.meta.seq, p)")
k("strncmp", TC, 'rs[0].n = bpf.strncmp(rs[0].name, "abc") & 0xff')
k("strtol strtoul", SYSCTL, "status, n = bpf.@@(rs[0].name, 10)\nrs[0].n = n & 0xff\nreturn 1")
k("skb_store_bytes", TC, "bpf.skb_store_bytes(0, rs[0].raw)")
k("skb_load_bytes", TC, "bpf.skb_load_bytes(0, rs[0].raw)")
k("skb_load_bytes_relative", TC, "bpf.skb_load_bytes_relative(0, rs[0].raw, bpf.BPF_HDR_START_MAC)")
k("l3_csum_replace l4_csum_replace", TC, "bpf.@@(24, 1, 2, 2)")
k("csum_diff", TC, N + "bpf.csum_diff(None, rs[0].raw, 0) & 0xffff")
k("csum_update", TC, N + "bpf.csum_update(5) & 0xff")
k("csum_level", TC, "bpf.csum_level(bpf.BPF_CSUM_LEVEL_QUERY)")
k("tail_call", TC, "progs.tail_call(1)")
k("clone_redirect redirect_peer", TC, "bpf.@@(1)")
k("redirect redirect_neigh", TC, "return bpf.@@(1)")
k("redirect_map", XDP, "return devs.redirect(1)")
k("get_cgroup_classid get_route_realm get_hash_recalc get_socket_uid skb_cgroup_classid skb_cgroup_id", TC, N + "bpf.@@()")
k("get_socket_cookie", TC, N + "bpf.get_socket_cookie(ctx)")
k("get_netns_cookie", TC, N + "bpf.get_netns_cookie(ctx)")
k("skb_ancestor_cgroup_id", TC, N + "bpf.skb_ancestor_cgroup_id(1)")
k("skb_vlan_push", TC, "bpf.skb_vlan_push(0x8100, 7)")
k("skb_vlan_pop set_hash_invalid", TC, "bpf.@@()")
k("set_hash skb_change_type skb_pull_data", TC, "bpf.@@(3)")
k("skb_ecn_set_ce", TC, "bpf.skb_ecn_set_ce()")
k("skb_get_tunnel_key skb_set_tunnel_key", TC, "status, key = bpf.skb_get_tunnel_key()\nbpf.skb_set_tunnel_key(key)")
k("skb_get_tunnel_opt skb_set_tunnel_opt", TC, "bpf.@@(rs[0].raw)")
k("skb_get_xfrm_state", TC, "status, x = bpf.skb_get_xfrm_state(0)\nrs[0].n = x.spi")
k("skb_change_proto", TC, "bpf.skb_change_proto(0x86dd, 0)")
k("skb_change_tail skb_change_head", TC, "bpf.@@(100, 0)")
k("skb_adjust_room", TC, "bpf.skb_adjust_room(8, bpf.BPF_ADJ_ROOM_MAC)")
k("skb_set_tstamp", TC, "bpf.skb_set_tstamp(5, bpf.BPF_SKB_TSTAMP_DELIVERY_MONO)")
k("skb_under_cgroup", TC, N + "bpf.skb_under_cgroup(cgroups, 0) & 1")
k("current_task_under_cgroup", TP, N + "cgroups.holds_current(1)")
k("get_current_ancestor_cgroup_id", SYS, N + "bpf.get_current_ancestor_cgroup_id(1)")
k("sk_cgroup_id", SKB, "sk = ctx.sk\nif sk is not None:\n    rs[0].n = bpf.sk_cgroup_id(sk)\nreturn 1")
k("sk_ancestor_cgroup_id", SKB, "sk = ctx.sk\nif sk is not None:\n    rs[0].n = bpf.sk_ancestor_cgroup_id(sk, 1)\nreturn 1")
k("check_mtu", TC, "status, mtu = bpf.check_mtu(0, 0, mtu_len=100)\nrs[0].n = mtu")
k("fib_lookup", TC, "p = bpf.bpf_fib_lookup(ifindex=1)\nrs[0].n = bpf.fib_lookup(p) & 0xff")
k("perf_event_output", TC, "perf.output(rs[0])")
k("perf_event_read", KPROBE, N + "bpf.perf_event_read(perf, 0)")
k("perf_event_read_value", KPROBE, "status, v = bpf.perf_event_read_value(perf, 0)\nrs[0].n = v.counter")
k("perf_prog_read_value", PERF, "status, v = bpf.perf_prog_read_value()\nrs[0].n = v.counter")
k("read_branch_records", PERF, "bpf.read_branch_records(rs[0].raw)")
k("get_branch_snapshot", KPROBE, "bpf.get_branch_snapshot(rs[0].raw)")
k("get_stackid", KPROBE, N + "stacks.id(0) & 0xff")
k("get_stack", KPROBE, "bpf.get_stack(rs[0].raw)")
k("get_task_stack", TP, "bpf.get_task_stack(task, rs[0].raw)")
k("override_return", KPROBE, "bpf.override_return(ctx, 5)")
k("send_signal send_signal_thread", TP, "bpf.@@(0)")
k("get_func_ip", KPROBE, N + "bpf.get_func_ip(ctx)")
k("get_attach_cookie", KPROBE, N + "bpf.get_attach_cookie(ctx)")
k("get_func_arg", FENTRY, "status, v = bpf.get_func_arg(0)\nrs[0].n = v")
k("get_func_ret", FEXIT, "status, v = bpf.get_func_ret()\nrs[0].n = v")
k("get_func_arg_cnt", FENTRY, N + "bpf.get_func_arg_cnt()")
k("task_pt_regs", TP, N + "bpf.task_pt_regs(task).ip")
k("get_ns_current_pid_tgid", SYS, "status, i = bpf.get_ns_current_pid_tgid(1, 2)\nrs[0].n = i.pid")
k("find_vma", TP, "s = State()\nbpf.find_vma(bpf.get_current_task_btf(), 0, found, s)")
k("d_path", ('fentry("filp_close")', "file: bpf.file"), "bpf.d_path(file.f_path, rs[0].raw)")
k("sk_redirect_map", ("sk_skb_stream_verdict", "ctx: bpf.SkBuff"), "return socks.redirect(1)")
k("sk_redirect_hash", ("sk_skb_stream_verdict", "ctx: bpf.SkBuff"), "return hashed.redirect(1)")
k("msg_redirect_map", MSG, "return socks.redirect(1)")
k("msg_redirect_hash", MSG, "return hashed.redirect(1)")
k("sock_map_update", OPS, "socks.update(1)\nreturn 1")
k("sock_hash_update", OPS, "hashed.update(1)\nreturn 1")
k("msg_apply_bytes msg_cork_bytes", MSG, "bpf.@@(5)\nreturn 1")
k("msg_pull_data", MSG, "bpf.msg_pull_data(0, 5)\nreturn 1")
k("msg_push_data msg_pop_data", MSG, "bpf.@@(0, 5)\nreturn 1")
k("xdp_adjust_head xdp_adjust_meta xdp_adjust_tail", XDP, "bpf.@@(-4)\nreturn 2")
k("xdp_get_buff_len", XDP, N + "bpf.xdp_get_buff_len()\nreturn 2")
k("xdp_load_bytes xdp_store_bytes", XDP, "bpf.@@(0, rs[0].raw)\nreturn 2")
k("setsockopt getsockopt", OPS, "bpf.@@(6, 1, rs[0].raw, size=4)\nreturn 1")
k("sock_ops_cb_flags_set", OPS, "bpf.sock_ops_cb_flags_set(1)\nreturn 1")
k("load_hdr_opt store_hdr_opt", OPS, "bpf.@@(rs[0].raw)\nreturn 1")
k("reserve_hdr_opt", OPS, "bpf.reserve_hdr_opt(4)\nreturn 1")
k("bind", ("cgroup_connect4", "ctx: bpf.SockAddr"), "bpf.bind(rs[0].raw, size=16)\nreturn 1")
k("lwt_push_encap", ("lwt_in", "ctx: bpf.SkBuff"), "bpf.lwt_push_encap(bpf.BPF_LWT_ENCAP_IP, rs[0].raw)")
k("lwt_seg6_store_bytes", SEG6, "bpf.lwt_seg6_store_bytes(0, rs[0].raw)")
k("lwt_seg6_adjust_srh", SEG6, "bpf.lwt_seg6_adjust_srh(0, 8)")
k("lwt_seg6_action", SEG6, "bpf.lwt_seg6_action(1, rs[0].raw)")
k("rc_repeat", LIRC, "bpf.rc_repeat()")
k("rc_keydown", LIRC, "bpf.rc_keydown(1, 2, 3)")
k("rc_pointer_rel", LIRC, "bpf.rc_pointer_rel(1, 2)")
k("get_local_storage", SKB, N + "local.get().value\nreturn 1")
k("sk_select_reuseport", ("sk_reuseport", "ctx: bpf.SkReuseport"), "bpf.sk_select_reuseport(ports, 0)\nreturn 1")
LOOK = "t = bpf.bpf_sock_tuple()\nwith bpf.releasing(bpf.{}(t, 0, size=12)) as sk:\n    {}"
k("sk_lookup_tcp sk_release", TC, LOOK.format("sk_lookup_tcp", N + "sk.family"))
k("sk_lookup_udp", TC, LOOK.format("sk_lookup_udp", N + "sk.family"))
k("skc_lookup_tcp", TC, LOOK.format("skc_lookup_tcp", N + "sk.family"))
k("sk_fullsock tcp_sock get_listener_sock", TC, LOOK.format("sk_lookup_tcp", "f = bpf.@@(sk)\n    if f is not None:\n        rs[0].n = 1"))
k("sk_assign", TC, LOOK.format("sk_lookup_tcp", "bpf.sk_assign(sk, 0)"))
k("tcp_check_syncookie tcp_gen_syncookie", TC, LOOK.format("sk_lookup_tcp", "bpf.@@(sk, rs[0].raw, rs[0].name, size=20)").replace(", size=20)", ")"))
k("tcp_raw_gen_syncookie_ipv4", XDP, "i, t = iphdr(), tcphdr()\nrs[0].n = bpf.tcp_raw_gen_syncookie_ipv4(i, t) & 0xff\nreturn 2")
k("tcp_raw_gen_syncookie_ipv6", XDP, "i, t = ipv6hdr(), tcphdr()\nrs[0].n = bpf.tcp_raw_gen_syncookie_ipv6(i, t) & 0xff\nreturn 2")
k("tcp_raw_check_syncookie_ipv4", XDP, "i, t = iphdr(), tcphdr()\nrs[0].n = bpf.tcp_raw_check_syncookie_ipv4(i, t) & 0xff\nreturn 2")
k("tcp_raw_check_syncookie_ipv6", XDP, "i, t = ipv6hdr(), tcphdr()\nrs[0].n = bpf.tcp_raw_check_syncookie_ipv6(i, t) & 0xff\nreturn 2")
k("sysctl_get_name sysctl_get_current_value sysctl_get_new_value", SYSCTL, "bpf.@@(rs[0].raw)\nreturn 1")
k("sysctl_set_new_value", SYSCTL, 'bpf.sysctl_set_new_value(rs[0].name)\nreturn 1')
k("sk_storage_get", TC, "sk = ctx.sk\nif sk is not None:\n    f = bpf.sk_fullsock(sk)\n    if f is not None:\n        p = sk_store.create(f)\n        if p is not None:\n            p.value += 1")
k("sk_storage_delete", TC, "sk = ctx.sk\nif sk is not None:\n    f = bpf.sk_fullsock(sk)\n    if f is not None:\n        sk_store.delete(f)")
k("task_storage_get", TP, "p = task_store.create(task)\nif p is not None:\n    p.value += 1")
k("task_storage_delete", TP, "task_store.delete(task)")
k("inode_storage_get", LSM, "p = inode_store.create(file.f_inode)\nif p is not None:\n    p.value += 1")
k("inode_storage_delete", LSM, "inode_store.delete(file.f_inode)")
k("cgrp_storage_get", ('tp_btf("cgroup_attach_task")', "dst_cgrp: bpf.cgroup"), "p = cgrp_store.create(dst_cgrp)\nif p is not None:\n    p.value += 1")
k("cgrp_storage_delete", ('tp_btf("cgroup_attach_task")', "dst_cgrp: bpf.cgroup"), "cgrp_store.delete(dst_cgrp)")
k("skb_output", ('tp_btf("kfree_skb")', "skb: bpf.sk_buff"), "bpf.skb_output(skb, perf, 0, rs[0].raw)")
k("xdp_output", ('fentry("xdp_do_redirect")', "dev: bpf.net_device, xdp: bpf.xdp_buff"), "bpf.xdp_output(xdp, perf, 0, rs[0].raw)")
k("tcp_send_ack", ('struct_ops("tcp_congestion_ops:cong_avoid")', "sk: bpf.sock, ack: u32, acked: u32"), "bpf.tcp_send_ack(bpf.cast(bpf.tcp_sock, sk), ack)")
CASES["tcp_send_ack"] = CASES["tcp_send_ack"]._replace(member="cong_avoid", result="None")
k("ringbuf_output", TC, "ring.output(rs[0])")
k("ringbuf_reserve ringbuf_submit", TC, "with ring.reserve() as e:\n    e.n = 1")
k("ringbuf_discard", TC, "with ring.reserve() as e:\n    e.n = ctx.len\n    if ctx.len < 20:\n        bpf.ringbuf_discard(e)")
k("ringbuf_query", TC, N + "ring.query(bpf.BPF_RB_AVAIL_DATA)")
k("skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock skc_to_unix_sock", SOCKS, "t = bpf.@@(sk)\nif t is not None:\n    rs[0].n = 1")
k("skc_to_mptcp_sock", TC, LOOK.format("skc_lookup_tcp", "t = bpf.skc_to_mptcp_sock(sk)\n    if t is not None:\n        rs[0].n = 1"))
k("per_cpu_ptr this_cpu_ptr", TC, "c = slots[0].counts.get()\nif c is not None:\n    bpf.this_cpu_ptr(c).n = 1\n    d = bpf.per_cpu_ptr(c, 0)\n    if d is not None:\n        d.n = 2")
k("get_current_task_btf", TP, N + "bpf.get_current_task_btf().tgid")
k("bprm_opts_set", ('lsm("bprm_creds_for_exec")', "bprm: bpf.linux_binprm"), "bpf.bprm_opts_set(bprm, 0)")
k("ima_inode_hash", LSM, "bpf.ima_inode_hash(file.f_inode, rs[0].raw)")
k("ima_file_hash", LSM, "bpf.ima_file_hash(file, rs[0].raw)")
k("sock_from_file", LSM, "s = bpf.sock_from_file(file)\nif s is not None:\n    rs[0].n = s.type")
k("sys_bpf", SYS, "rs[0].n = bpf.sys_bpf(0, rs[0].raw) & 0xff")
k("btf_find_by_name_kind", SYS, 'rs[0].n = bpf.btf_find_by_name_kind("task_struct", 4, 0) & 0xff')
k("sys_close", SYS, "bpf.sys_close(99)")
k("kallsyms_lookup_name", SYS, 'status, at = bpf.kallsyms_lookup_name("bpf_prog_load", 0)\nrs[0].n = at')
k("timer_init", TC, "bpf.timer_init(timers[0].timer, timers, 1)")
k("timer_set_callback", TC, "bpf.timer_set_callback(timers[0].timer, later)")
k("timer_start", TC, "bpf.timer_start(timers[0].timer, 1000)")
k("timer_cancel", TC, "bpf.timer_cancel(timers[0].timer)")
k("spin_lock spin_unlock", TC, "l = lockeds[0]\nwith l.lock:\n    l.n += 1")
k("get_retval", ("cgroup_connect4", "ctx: bpf.SockAddr"), N + "bpf.get_retval() & 0xff\nreturn 1")
k("set_retval", ("cgroup_connect4", "ctx: bpf.SockAddr"), "bpf.set_retval(-1)\nreturn 1")
k("kptr_xchg", TC, "old = kepts[0].task.swap(None)\nif old is not None:\n    bpf.task_release(old)")
DYN = "d = bpf.Dynptr()\nif bpf.dynptr_from_mem(rs[0].raw, 0, d):\n    return 0\n"
k("dynptr_from_mem", TC, DYN)
k("ringbuf_reserve_dynptr ringbuf_submit_dynptr", TC, "d = bpf.Dynptr()\nbpf.ringbuf_reserve_dynptr(ring, 8, 0, d)\nbpf.ringbuf_submit_dynptr(d)")
k("ringbuf_discard_dynptr", TC, "d = bpf.Dynptr()\nbpf.ringbuf_reserve_dynptr(ring, 8, 0, d)\nbpf.ringbuf_discard_dynptr(d)")
k("dynptr_read", TC, DYN + "bpf.dynptr_read(rs[0].name, d, 0)")
k("dynptr_write", TC, DYN + "bpf.dynptr_write(d, 0, rs[0].name)")
k("dynptr_data", TC, DYN + "p = bpf.dynptr_data(d, 0, 8)\nif p is not None:\n    rs[0].n = 1")
k("user_ringbuf_drain", SYS, "s = State()\ncommands.drain(drained, s)")
