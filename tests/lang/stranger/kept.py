"""Pointers of the kernel's kept in maps and structs; texts of different sizes; large records; bytes."""

from skep import bpf
from skep.bpf import s32, u32, u64

VARIABLES = {"wanted": b"bash", "four": b"bash"}
wanted: bpf.Text = bpf.const(bpf.char(16))
four: bpf.Text = bpf.const(bpf.char(4))
five: str = bpf.const("bash")
out: list[u32] = bpf.var(bpf.array(u32, 16))


@bpf.struct
class Names:
    short: bpf.Text = bpf.char(4)
    long: bpf.Text = bpf.char(16)


@bpf.struct
class Waiting:
    file: bpf.file
    since: u64


@bpf.struct
class Large:
    pid: u32
    path: bpf.Text = bpf.char(4096)
    more: bpf.Raw = bpf.raw(3000)


files = bpf.Hash(u32, Waiting, max_entries=64)
sockets = bpf.Hash(u32, bpf.ptr(bpf.socket), max_entries=64)
births = bpf.Hash(bpf.sock, u64, max_entries=64)
large = bpf.RingBuf(Large, size=1 << 16)
scratch = bpf.PerCpuArray(Large, 1)


@bpf.kprobe("vfs_read")
def keeps(file: bpf.file) -> int:
    files[bpf.tid()] = Waiting(file=file, since=bpf.ktime())
    return 0


@bpf.kretprobe("vfs_read")
def reads(result: s32) -> int:
    waiting = files.get(bpf.tid())
    if waiting is None or not waiting.file:
        return 0
    with large.reserve() as e:
        e.pid = bpf.pid()
        e.path = waiting.file.f_path.dentry.d_name.name
    return 0


@bpf.kprobe("inet_bind")
def socket(sock: bpf.socket) -> int:
    sockets[bpf.tid()] = sock
    births[sock.sk] = bpf.ktime()
    return 0


@bpf.kretprobe("inet_bind")
def bound(result: s32) -> int:
    sock = sockets.get(bpf.tid())
    if sock is None:
        return 0
    out[15] = bpf.cast(bpf.inet_sock, sock.sk).inet_sport
    if sock.sk in births:
        del births[sock.sk]
    return 0


@bpf.tc
def texts(skb: bpf.SkBuff) -> int:
    e = Names(short="bash", long="bash")
    out[0] = wanted == five
    out[1] = wanted == four
    out[2] = e.short == e.long
    e.long = "bashful"
    out[3] = e.short == e.long
    out[4] = e.short != e.long
    e.short = "b"
    e.long = "b"
    out[5] = e.long == e.short
    out[6] = four == five
    room = scratch[0]
    room.more = bytes(3000)
    room.more[8:12] = skb.len.to_bytes(4, "big")
    out[7] = int.from_bytes(room.more[8:12], "big")
    out[8] = bpf.zero(Names, short="x").short == "x"
    return 0


def check(obj) -> None:  # type: ignore[no-untyped-def]  # its maps are the program's
    assert obj.texts.run(bytes(64)).retval == 0
    assert list(obj.bss.out)[:9] == [1, 1, 1, 0, 1, 1, 1, 64, 1], list(obj.bss.out)
