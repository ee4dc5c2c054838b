# mypy: ignore-errors
"""cgroup family as people use it: port policy, sockopt, sysctl, device, sendmsg DNS redirect."""

from skep import bpf
from skep.bpf import be16, be32, u8, u64


@bpf.struct
class Svc:
    ip: be32
    port: be16
    proto: u8


@bpf.struct
class Backend:
    ip: be32
    port: be16


services = bpf.Hash(Svc, Backend, max_entries=1024)
origs = bpf.LruHash(u64, Svc, max_entries=1024)
ports = bpf.Array(u8, 65536)
denied: u64 = bpf.var(0)
LOOPBACK6 = bytes(15) + b"\x01"


@bpf.cgroup_connect4
def connect4(ctx: bpf.SockAddr) -> int:
    if ctx.protocol != 6:
        return 1
    key = Svc(ctx.user_ip4, ctx.user_port, ctx.protocol)
    b = services.get(key)
    if not b:
        return 1
    origs[bpf.get_socket_cookie(ctx)] = key
    ctx.user_ip4 = b.ip
    ctx.user_port = b.port
    return 1


@bpf.cgroup_getpeername4
def getpeer(ctx: bpf.SockAddr) -> int:
    o = origs.get(bpf.get_socket_cookie())
    if o is not None:
        ctx.user_ip4 = o.ip
        ctx.user_port = o.port
    return 1


@bpf.cgroup_connect6
def connect6(ctx: bpf.SockAddr) -> int:
    global denied
    if ctx.user_ip6 == LOOPBACK6:
        return 1
    denied += 1
    return 0


@bpf.cgroup_bind4
def bind4(ctx: bpf.SockAddr) -> int:
    if ctx.user_port < 1024 and not ports[ctx.user_port]:
        return 0
    return 1 | (2 if ctx.user_port else 0)


@bpf.cgroup_sendmsg4
def dns(ctx: bpf.SockAddr) -> int:
    if ctx.user_port == 53:
        ctx.user_ip4 = 0x7F000035
        ctx.user_port = 5353
    return 1


@bpf.cgroup_sock_create
def create(ctx: bpf.Sock) -> int:
    if ctx.family == 17:
        return 0
    ctx.mark = 0x2A
    ctx.priority = 6
    return 1


@bpf.cgroup_post_bind4
def post(ctx: bpf.Sock) -> int:
    return 0 if ctx.src_port == 6666 else 1


@bpf.cgroup_sysctl
def sysctl(ctx: bpf.Sysctl) -> int:
    name = bpf.char(64)
    n = bpf.sysctl_get_name(name)
    if n < 0 or not ctx.write:
        return 1
    if name == "net/ipv4/tcp_mem":
        val = bpf.char(32)
        if bpf.sysctl_get_new_value(val) < 0:
            return 0
        rc, number = bpf.strtoul(val)
        return 1 if rc > 0 and number > 100 else 0
    return 1


@bpf.cgroup_setsockopt
def setopt(ctx: bpf.SockOpt) -> int:
    if ctx.level == 0 and ctx.optname == 1:
        v = ctx.value().take(u8)
        if v is None:
            return 0
        v.value = 0x10
        ctx.optlen = 1
        return 1
    ctx.optlen = 0
    return 1


@bpf.cgroup_getsockopt
def getopt(ctx: bpf.SockOpt) -> int:
    if ctx.level == 6 and ctx.retval == 0:
        bpf.set_retval(-1)
        return 0
    return 1


@bpf.cgroup_dev
def dev(ctx: bpf.CgroupDevice) -> int:
    if ctx.access_type & 0xFFFF == bpf.BPF_DEVCG_DEV_CHAR and ctx.major == 1 and ctx.minor in (3, 5, 8, 9):
        return 1
    return 0


@bpf.cgroup_skb_ingress
def ingress(skb: bpf.SkBuff) -> int:
    return 1 if bpf.skb_ancestor_cgroup_id(2) != 1 else 0


@bpf.cgroup_connect6
def wide6(ctx: bpf.SockAddr) -> int:
    if ctx.user_ip6[0:2] == b"\xfe\x80" or ctx.user_ip6[ctx.user_port & 15] == 5:
        return 0
    total = 0
    for b in ctx.user_ip6:
        total += b
    return 0 if total == 77 else 1
