"""One program and more for every hook: fields read, written where they may be, packets looked into."""

from __future__ import annotations

from skep import bpf
from skep.bpf import s32, s64, u32, u64
from skep.net import ETH_P_IP, ethhdr, iphdr, tcphdr

got = bpf.Hash(u32, u64)


@bpf.struct
class Text:
    number: s64
    raw: bytes = bpf.raw(16)
    text: bytes = bpf.char(64)


texts = bpf.Array(Text, 4)


def packet(skb: bpf.SkBuff) -> int:
    """Inlined into every hook with a packet."""
    pkt = skb.packet()
    ip = pkt.take(iphdr)
    if ip is None:
        return 0
    got[ip.saddr] += len(pkt)
    pkt.skip(ip.ihl * 4 - 20)
    tcp = pkt.take(tcphdr)
    return 0 if tcp is None else tcp.dest


def addresses(ctx: bpf.SockAddr) -> int:
    """What sock_addr hooks share."""
    got[ctx.user_family] += ctx.protocol + ctx.type
    sk = ctx.sk
    got[sk.family] += sk.protocol
    return 1


@bpf.xdp
def on_xdp(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    if eth is None or eth.proto != ETH_P_IP:
        return bpf.XDP_PASS
    got[ctx.ingress_ifindex] += ctx.rx_queue_index
    eth.dest = eth.source
    return bpf.XDP_TX


@bpf.xdp(frags=True)
def on_xdp_frags(ctx: bpf.Xdp) -> int:
    return bpf.XDP_DROP if bpf.xdp_get_buff_len() > 1000 else bpf.XDP_PASS


@bpf.xdp_devmap
def on_xdp_devmap(ctx: bpf.Xdp) -> int:
    got[1] += ctx.egress_ifindex
    return bpf.XDP_PASS


@bpf.xdp_cpumap
def on_xdp_cpumap(ctx: bpf.Xdp) -> int:
    return bpf.XDP_PASS


@bpf.tc
def on_tc(skb: bpf.SkBuff) -> int:
    skb.mark = skb.mark + 1
    skb.priority = 3
    skb.cb[2] = skb.cb[1] + skb.hash
    skb.tc_classid = skb.protocol
    got[skb.vlan_tci] += skb.vlan_proto
    sk = skb.sk
    if sk is not None:
        full = bpf.sk_fullsock(sk)
        if full is not None:
            got[full.dst_port] += full.src_port
            tcp = bpf.tcp_sock(full)
            if tcp is not None:
                got[2] += tcp.snd_cwnd
    return bpf.TC_ACT_OK if packet(skb) else bpf.TC_ACT_SHOT


@bpf.tc_ingress
def on_tc_ingress(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.tc_egress
def on_tc_egress(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.tcx_ingress
def on_tcx_ingress(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.tcx_egress
def on_tcx_egress(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.ingress
def on_ingress(skb: bpf.SkBuff) -> int:
    return bpf.redirect(skb.ifindex)


@bpf.egress
def on_egress(skb: bpf.SkBuff) -> int:
    return bpf.redirect(skb.ifindex, bpf.BPF_F_INGRESS)


@bpf.netkit_primary
def on_netkit_primary(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.netkit_peer
def on_netkit_peer(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.action
def on_action(skb: bpf.SkBuff) -> int:
    bpf.skb_vlan_push(0x8100, 7)
    return packet(skb) & 1


@bpf.socket_filter
def on_socket_filter(skb: bpf.SkBuff) -> int:
    skb.cb[0] = 1
    return skb.len if packet(skb) == 80 else 0


@bpf.cgroup_skb
def on_cgroup_skb(skb: bpf.SkBuff) -> int:
    return 1 if packet(skb) == 80 else 0


@bpf.cgroup_skb_ingress
def on_cgroup_skb_ingress(skb: bpf.SkBuff) -> int:
    got[skb.remote_ip4] += skb.local_port
    got[skb.remote_port] += 1
    a = skb.remote_ip6
    got[a[3]] += 1
    return 1


@bpf.cgroup_skb_egress
def on_cgroup_skb_egress(skb: bpf.SkBuff) -> int:
    skb.mark = 9
    got[bpf.skb_cgroup_id() & 0xFFFF] += 1
    return 1


@bpf.lwt_in
def on_lwt_in(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.lwt_out
def on_lwt_out(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.lwt_xmit
def on_lwt_xmit(skb: bpf.SkBuff) -> int:
    pkt = skb.packet()
    ip = pkt.take(iphdr)
    if ip is not None:
        ip.ttl = 1
    return 0


@bpf.lwt_seg6local
def on_lwt_seg6local(skb: bpf.SkBuff) -> int:
    return packet(skb) & 1


@bpf.flow_dissector
def on_flow_dissector(skb: bpf.SkBuff) -> int:
    keys = skb.flow_keys
    keys.n_proto = ETH_P_IP
    keys.thoff = 20
    keys.ip_proto = packet(skb) & 0xFF
    keys.ipv4_src = 0x7F000001
    return bpf.BPF_OK


@bpf.sk_skb_stream_parser
def on_stream_parser(skb: bpf.SkBuff) -> int:
    return skb.len


@bpf.sk_skb_stream_verdict
def on_stream_verdict(skb: bpf.SkBuff) -> int:
    skb.priority = 1
    return bpf.SK_PASS


@bpf.sk_skb_verdict
def on_skb_verdict(skb: bpf.SkBuff) -> int:
    return bpf.SK_PASS if packet(skb) else bpf.SK_DROP


@bpf.sk_msg
def on_sk_msg(msg: bpf.SkMsg) -> int:
    pkt = msg.packet()
    head = pkt.take(bpf.raw(4))
    if head is not None and head == b"DROP":
        return bpf.SK_DROP
    got[msg.size] += msg.local_port
    got[msg.remote_port] += msg.remote_ip4
    bpf.msg_apply_bytes(4)
    return bpf.SK_PASS


@bpf.sockops
def on_sockops(ctx: bpf.SockOps) -> int:
    got[ctx.op] += ctx.srtt_us
    got[ctx.args[1]] += ctx.remote_port
    sk = ctx.sk
    if sk is not None:
        got[sk.family] += 1
    ctx.reply = 3
    bpf.sock_ops_cb_flags_set(bpf.BPF_SOCK_OPS_RTT_CB_FLAG)
    return 1


@bpf.sk_lookup
def on_sk_lookup(ctx: bpf.SkLookup) -> int:
    got[ctx.local_port] += ctx.remote_port
    got[ctx.remote_ip4] += ctx.protocol
    return bpf.SK_DROP if ctx.local_ip4 == 0x7F000001 else bpf.SK_PASS


@bpf.sk_reuseport
def on_sk_reuseport(ctx: bpf.SkReuseport) -> int:
    got[ctx.hash & 7] += ctx.eth_protocol
    pkt = ctx.packet()
    return bpf.SK_PASS if pkt.take(u32) is not None else bpf.SK_DROP


@bpf.sk_reuseport_migrate
def on_sk_reuseport_migrate(ctx: bpf.SkReuseport) -> int:
    sk = ctx.migrating_sk
    return bpf.SK_PASS if sk is None else bpf.SK_DROP


@bpf.cgroup_sock_create
def on_sock_create(ctx: bpf.Sock) -> int:
    ctx.mark = ctx.family
    ctx.bound_dev_if = 0
    return 1


@bpf.cgroup_sock_release
def on_sock_release(ctx: bpf.Sock) -> int:
    got[ctx.type] += bpf.get_socket_cookie()
    return 1


@bpf.cgroup_post_bind4
def on_post_bind4(ctx: bpf.Sock) -> int:
    return 1 if ctx.src_port != 80 or ctx.src_ip4 == 0x7F000001 else 0


@bpf.cgroup_post_bind6
def on_post_bind6(ctx: bpf.Sock) -> int:
    a = ctx.src_ip6
    return 1 if a[15] == 1 else 0


@bpf.cgroup_connect4
def on_connect4(ctx: bpf.SockAddr) -> int:
    if ctx.user_port == 80 and ctx.user_ip4 == 0x7F000001:
        ctx.user_port = 8080
        ctx.user_ip4 = 0x7F000002
    return addresses(ctx)


@bpf.cgroup_connect6
def on_connect6(ctx: bpf.SockAddr) -> int:
    t = texts[0]
    t.raw = ctx.user_ip6
    ctx.user_ip6 = t.raw
    return addresses(ctx)


@bpf.cgroup_bind4
def on_bind4(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_bind6
def on_bind6(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_sendmsg4
def on_sendmsg4(ctx: bpf.SockAddr) -> int:
    got[ctx.msg_src_ip4] += 1
    ctx.msg_src_ip4 = 0x7F000003
    return addresses(ctx)


@bpf.cgroup_sendmsg6
def on_sendmsg6(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_recvmsg4
def on_recvmsg4(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_recvmsg6
def on_recvmsg6(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_getpeername4
def on_getpeername4(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_getpeername6
def on_getpeername6(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_getsockname4
def on_getsockname4(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_getsockname6
def on_getsockname6(ctx: bpf.SockAddr) -> int:
    return addresses(ctx)


@bpf.cgroup_connect_unix
def on_connect_unix(ctx: bpf.SockAddr) -> int:
    return 1


@bpf.cgroup_sendmsg_unix
def on_sendmsg_unix(ctx: bpf.SockAddr) -> int:
    return 1


@bpf.cgroup_recvmsg_unix
def on_recvmsg_unix(ctx: bpf.SockAddr) -> int:
    return 1


@bpf.cgroup_getpeername_unix
def on_getpeername_unix(ctx: bpf.SockAddr) -> int:
    return 1


@bpf.cgroup_getsockname_unix
def on_getsockname_unix(ctx: bpf.SockAddr) -> int:
    return 1


@bpf.cgroup_sysctl
def on_sysctl(ctx: bpf.Sysctl) -> int:
    t = texts[0]
    bpf.sysctl_get_name(t.text)
    if t.text == b"net/ipv4/ip_forward" and ctx.write:
        return 0
    return 1


@bpf.cgroup_getsockopt
def on_getsockopt(ctx: bpf.SockOpt) -> int:
    value = ctx.value().take(u32)
    if value is not None and ctx.level == 1 and ctx.optname == 8:
        value.value = 4096
        ctx.retval = 0
    return 1


@bpf.cgroup_setsockopt
def on_setsockopt(ctx: bpf.SockOpt) -> int:
    return 0 if ctx.level == 1 and ctx.optlen > 100 else 1


@bpf.cgroup_dev
def on_device(ctx: bpf.CgroupDevice) -> int:
    return 1 if ctx.major == 1 and ctx.minor == 3 and ctx.access_type & 1 else 0


@bpf.perf_event
def on_perf_event(ctx: bpf.PerfEvent) -> int:
    got[bpf.pid()] += ctx.sample_period
    return 0


@bpf.netfilter
def on_netfilter(ctx: bpf.bpf_nf_ctx) -> int:
    got[ctx.state.hook] += ctx.skb.len
    out = ctx.state.out
    return 1 if out is None else 0


@bpf.syscall
def on_syscall(ctx: Text) -> int:
    ctx.number = ctx.number * 2
    return 0


@bpf.tracepoint("syscalls:sys_enter_openat")
def on_sys_enter_openat(ctx: bpf.SysEnterOpenat) -> int:
    t = texts[1]
    t.text = ctx.filename
    t.number = ctx.flags
    return 0


@bpf.tracepoint("syscalls:sys_exit_openat")
def on_sys_exit_openat(ctx: bpf.SysExitOpenat) -> int:
    texts[1].number = ctx.ret
    return 0


@bpf.tp("syscalls:sys_enter_connect")
def on_sys_enter_connect(fd: s32, uservaddr: bpf.sockaddr) -> int:
    got[fd & 0xFFFF] += uservaddr.sa_family
    return 0


@bpf.tracepoint("sched:sched_switch")
def on_sched_switch(ctx: bpf.SchedSwitch) -> int:
    if ctx.next_comm == b"nobody is called so":
        got[ctx.prev_pid & 0xFFFF] += ctx.prev_state
    return 0


@bpf.tracepoint("sched:sched_process_exec")
def on_sched_exec(ctx: bpf.SchedProcessExec) -> int:
    texts[2].text = ctx.filename
    return 0


@bpf.tracepoint("sched:sched_process_free")
def on_sched_free(comm: bytes, pid: s32) -> int:
    texts[2].text = comm
    got[pid & 0xFFFF] += 1
    return 0


@bpf.raw_tp("sys_enter")
def on_raw_tp(regs: bpf.pt_regs, number: s64) -> int:
    got[number & 0xFFF] += regs.orig_ax & 1
    return 0


@bpf.raw_tracepoint("sched_switch")
def on_raw_tracepoint(preempt: bool, prev: bpf.task_struct, next: bpf.task_struct) -> int:
    got[prev.pid & 0xFFF] += preempt
    return 0


@bpf.raw_tp_w("bpf_test_finish")
def on_raw_tp_w(err: u64) -> int:
    return 0


@bpf.tp_btf("sched_process_fork")
def on_tp_btf(parent: bpf.task_struct, child: bpf.task_struct) -> int:
    got[parent.tgid & 0xFFF] += child.real_parent.tgid == parent.tgid
    return 0


@bpf.iter("task")
def on_iter_task(ctx: bpf.IterTask) -> int:
    task = ctx.task
    if task is not None:
        bpf.seq_printf(ctx.meta.seq, f"{task.pid} {task.comm}\n")
    return 0


@bpf.iter("task_file")
def on_iter_task_file(ctx: bpf.IterTaskFile) -> int:
    task, file = ctx.task, ctx.file
    if task is None or file is None:
        return 0
    bpf.seq_printf(ctx.meta.seq, f"{task.tgid} {ctx.fd} {file.f_inode.i_ino}\n")
    return 0


@bpf.kprobe("vfs_open")
def on_kprobe(path: bpf.path, file: bpf.file) -> int:
    texts[3].text = path.dentry.d_name.name
    return 0


@bpf.kretprobe("vfs_open")
def on_kretprobe(ret: s32) -> int:
    texts[3].number = ret
    return 0


@bpf.ksyscall("openat")
def on_ksyscall(filename: bytes, flags: s32) -> int:
    texts[3].text = filename
    texts[3].number = flags
    return 0


@bpf.kretsyscall("openat")
def on_kretsyscall(ret: s64) -> int:
    texts[3].number = ret
    return 0


@bpf.kprobe_multi("vfs_open")
def on_kprobe_multi(ctx: bpf.PtRegs) -> int:
    got[0] += ctx.arg0 & 1
    return 0


@bpf.kretprobe_multi("vfs_open")
def on_kretprobe_multi(ret: s32) -> int:
    got[0] += ret & 1
    return 0


@bpf.kprobe_session("vfs_open")
def on_kprobe_session(ctx: bpf.PtRegs) -> int:
    return 0


@bpf.uprobe
def on_uprobe(size: u64, name: bytes) -> int:
    texts[3].text = name
    got[size & 0xFF] += 1
    return 0


@bpf.uprobe(sleepable=True)
def on_uprobe_sleepable(name: bytes) -> int:
    t = texts[3]
    bpf.copy_from_user(t.raw, name)
    return 0


@bpf.uretprobe
def on_uretprobe(ret: u64) -> int:
    got[1] += ret & 1
    return 0


@bpf.uprobe_multi
def on_uprobe_multi(size: u64) -> int:
    got[size & 0xFF] += 1
    return 0


@bpf.uretprobe_multi
def on_uretprobe_multi(ret: u64) -> int:
    got[ret & 0xFF] += 1
    return 0


@bpf.uprobe_session
def on_uprobe_session(ctx: bpf.PtRegs) -> int:
    return 0


@bpf.usdt
def on_usdt(a: s32, b: u64, name: bytes) -> int:
    got[a & 0xFF] += b
    texts[3].text = name
    return 0


@bpf.fentry("vfs_open")
def on_fentry(path: bpf.path, file: bpf.file) -> int:
    texts[3].text = path.dentry.d_name.name
    return 0


@bpf.fexit("vfs_open")
def on_fexit(path: bpf.path, file: bpf.file, ret: s32) -> int:
    texts[3].number = ret
    return 0


@bpf.fmod_ret("security_file_open")
def on_fmod_ret(file: bpf.file, ret: s32) -> int:
    return ret


@bpf.lsm("file_open")
def on_lsm(file: bpf.file, ret: s32) -> int:
    return ret


@bpf.lsm("file_open", sleepable=True)
def on_lsm_sleepable(file: bpf.file) -> int:
    t = texts[3]
    bpf.d_path(file.f_path, t.text)
    return 0


@bpf.lsm_cgroup("socket_bind")
def on_lsm_cgroup(sock: bpf.socket, address: bpf.sockaddr, addrlen: s32) -> int:
    return 1 if addrlen > 4 else 0


@bpf.lirc_mode2
def on_lirc_mode2(sample: u32) -> int:
    got[0] += sample
    return 0


@bpf.tracepoint("sched:sched_process_exit")
def on_sched_exit(ctx: bpf.SchedProcessExit) -> int:
    texts[2].text = ctx.comm
    got[ctx.pid & 0xFFFF] += ctx.prio
    return 0
