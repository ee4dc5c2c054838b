"""killsnoop, capable, mountsnoop, bindsnoop, sofdsnoop, oomkill as one module."""

from skep import bpf
from skep.bpf import s32, u8, u16, u32, u64


class Signal(bpf.Struct):
    pid: u32
    tpid: u32
    sig: s32
    ret: s32
    comm: bpf.Text = bpf.char(16)


values = bpf.Hash(u32, Signal, max_entries=10240)
events = bpf.RingBuf(Signal, size=4096)
own: u32 = bpf.const(0)


@bpf.tracepoint("syscalls:sys_enter_kill")
def kill_entry(ctx: bpf.SysEnterKill) -> int:
    if own and own != bpf.pid():
        return 0
    values[bpf.tid()] = Signal(pid=bpf.pid(), tpid=ctx.pid, sig=ctx.sig, comm=bpf.comm())
    return 0


@bpf.tracepoint("syscalls:sys_exit_kill")
def kill_exit(ctx: bpf.SysExitKill) -> int:
    v = values.get(bpf.tid())
    if not v:
        return 0
    v.ret = ctx.ret
    events.output(v)
    del values[bpf.tid()]
    return 0


@bpf.tracepoint("syscalls:sys_enter_tgkill")
def tgkill_entry(tgid: s32, pid: s32, sig: s32) -> int:
    values[bpf.tid()] = Signal(bpf.pid(), pid, sig, 0, bpf.comm())
    return 0


class Capable(bpf.Struct):
    pid: u32
    uid: u32
    cap: s32
    audit: s32
    insetid: s32
    task: bpf.Text = bpf.char(16)
    kernel_stack: s32


class Unique(bpf.Struct):
    cap: s32
    cgroupid: u64
    tgid: u32


seen = bpf.Hash(Unique, u64, max_entries=10240)
caps = bpf.PerfEventArray(Capable)
stacks = bpf.StackTrace(1024)


@bpf.kprobe("cap_capable")
def capable(cred: bpf.cred, ns: bpf.user_namespace, cap: s32, cap_opt: s32) -> int:
    key = Unique(cap=cap, tgid=bpf.pid(), cgroupid=bpf.get_current_cgroup_id())
    if key in seen:
        return 0
    seen[key] = 0
    event = Capable()
    event.pid = bpf.pid()
    event.uid = bpf.uid()
    event.cap = cap
    event.audit = (cap_opt & 0b10) == 0
    event.insetid = (cap_opt & 0b100) != 0
    event.task = bpf.comm()
    event.kernel_stack = stacks.id()
    caps.output(event)
    return 0


class Mount(bpf.Struct):
    flags: u64
    ret: s32
    fs: bpf.Text = bpf.char(8)
    src: bpf.Text = bpf.char(4096)
    dest: bpf.Text = bpf.char(4096)
    data: bpf.Text = bpf.char(512)


class MountArgs(bpf.Struct):
    flags: u64
    src: u64
    dest: u64
    fs: u64
    data: u64


args = bpf.Hash(u32, MountArgs, max_entries=10240)
heap = bpf.PerCpuArray(Mount, 1)
mounts = bpf.RingBuf(Mount, size=1 << 20)


@bpf.tracepoint("syscalls:sys_enter_mount")
def mount_entry(dev_name: bytes, dir_name: bytes, type: bytes, flags: u64, data: u64) -> int:
    args[bpf.tid()] = MountArgs(flags=flags, src=dev_name, dest=dir_name, fs=type, data=data)
    return 0


@bpf.tracepoint("syscalls:sys_exit_mount")
def mount_exit(ctx: bpf.SysExitMount) -> int:
    a = args.get(bpf.tid())
    if a is None:
        return 0
    with mounts.reserve() as e:
        e.flags = a.flags
        e.ret = ctx.ret
        e.fs = bpf.user_str(a.fs)
        e.src = bpf.user_str(a.src)
        e.dest = bpf.user_str(a.dest)
        e.data = bpf.user_str(a.data)
    del args[bpf.tid()]
    return 0


@bpf.union
class BindOptions:
    fields: u8
    data: u8


class BindEvent(bpf.Struct):
    addr: bpf.Raw = bpf.raw(16)
    ts_us: u64
    pid: u32
    bound_dev_if: u32
    ret: s32
    port: u16
    proto: u16
    ver: u8
    freebind: bool
    reuseport: bool
    task: bpf.Text = bpf.char(16)


sockets = bpf.Hash(u32, bpf.socket, max_entries=10240)
binds = bpf.RingBuf(BindEvent, size=1 << 16)


@bpf.kprobe("inet_bind")
def inet_bind(socket: bpf.socket) -> int:
    sockets[bpf.tid()] = socket
    return 0


@bpf.kretprobe("inet_bind")
def inet_bind_exit(ret: s32) -> int:
    socket = sockets.get(bpf.tid())
    if socket is None:
        return 0
    inet = bpf.cast(bpf.inet_sock, socket.sk)
    with binds.reserve() as e:
        e.ret = ret
        e.port = inet.inet_sport
        e.reuseport = inet.sk.__sk_common.skc_reuseport != 0
        e.ver = 4
        e.proto = socket.sk.sk_protocol
        e.addr[0:4] = inet.inet_saddr.to_bytes(4, "little")
        e.task = bpf.comm()
    del sockets[bpf.tid()]
    return 0


class Oom(bpf.Struct):
    fpid: u32
    tpid: u32
    pages: u64
    fcomm: bpf.Text = bpf.char(16)
    tcomm: bpf.Text = bpf.char(16)


ooms = bpf.PerfEventArray(Oom)


@bpf.kprobe("oom_kill_process")
def oom(oc: bpf.oom_control, message: bytes) -> int:
    data = Oom(fpid=bpf.pid(), tpid=oc.chosen.tgid, pages=oc.totalpages, fcomm=bpf.comm())
    data.tcomm = oc.chosen.comm
    ooms.output(data)
    return 0
