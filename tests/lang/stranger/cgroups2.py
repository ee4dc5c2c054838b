"""cgroup programs: devices, sysctl, socket options, unix, bind."""

from skep import bpf
from skep.bpf import s32, u32, u64

BPF_DEVCG_DEV_CHAR = 2


@bpf.cgroup_dev
def devices(ctx: bpf.CgroupDevice) -> int:
    kind = ctx.access_type & 0xFFFF
    access = ctx.access_type >> 16
    if kind != BPF_DEVCG_DEV_CHAR:
        return 0
    if ctx.major == 1 and ctx.minor in (3, 5, 7, 8, 9):
        return 1
    return 1 if ctx.major == 5 and access & bpf.BPF_DEVCG_ACC_WRITE == 0 else 0


@bpf.cgroup_sysctl
def sysctl(ctx: bpf.Sysctl) -> int:
    name = bpf.char(64)
    n = bpf.sysctl_get_name(name, 0)
    if n < 0:
        return 0
    if not ctx.write:
        return 1
    if name.startswith("net/ipv4/tcp_"):
        value = bpf.char(16)
        if bpf.sysctl_get_new_value(value) < 0:
            return 0
        status, number = bpf.strtoul(value, 10)
        if status < 0 or number > 100:
            return 0
        return 1
    return 0


@bpf.struct
class Opt:
    level: s32
    name: s32


seen = bpf.Hash(Opt, u64, max_entries=100)


@bpf.cgroup_getsockopt
def getsockopt(ctx: bpf.SockOpt) -> int:
    seen[(ctx.level, ctx.optname)] += 1
    if ctx.level == 1 and ctx.optname == 7:
        v = ctx.value().take(u32)
        if v is None:
            return 0
        v.value = 4242
        ctx.retval = 0
    return 1


@bpf.cgroup_setsockopt
def setsockopt(ctx: bpf.SockOpt) -> int:
    if ctx.level == 6 and ctx.optname == 13:
        value = ctx.value()
        name = value.take(bpf.char(16))
        if name is not None and name == "cubic":
            return 0
        ctx.optlen = -1
    return 1


@bpf.cgroup_bind4
def bind(ctx: bpf.SockAddr) -> int:
    if ctx.user_port < 1024 and bpf.uid() != 0:
        return 0
    if ctx.user_ip4 == 0:
        ctx.user_ip4 = 0x7F000001
    return 1


@bpf.cgroup_sendmsg6
def sendmsg(ctx: bpf.SockAddr) -> int:
    if ctx.user_ip6[0] == 0x20 and ctx.user_ip6[1] == 0x01:
        ctx.user_ip6 = b"\0" * 15 + b"\1"
    return 1


@bpf.cgroup_sock_create
def create(ctx: bpf.Sock) -> int:
    if ctx.type == 3:
        return 0
    ctx.mark = 7
    return 1


@bpf.cgroup_getpeername4
def peer(ctx: bpf.SockAddr) -> int:
    ctx.user_ip4 = 0x01020304
    ctx.user_port = 99
    return 1
