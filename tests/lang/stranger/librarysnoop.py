"""gethostlatency, bashreadline, sslsniff: uprobes with texts and return values."""

from skep import bpf
from skep.bpf import s32, u32, u64


class Val(bpf.Struct):
    pid: u32
    comm: bpf.Text = bpf.char(16)
    host: bpf.Text = bpf.char(80)
    time: u64


starts = bpf.Hash(u32, Val, max_entries=1024)
events = bpf.PerfEventArray(Val)
target: u32 = bpf.const(0)


@bpf.uprobe
def host_entry(name: bytes) -> int:
    if not name:
        return 0
    pid_tgid = bpf.get_current_pid_tgid()
    pid = pid_tgid >> 32
    tid = u32(pid_tgid)
    if target != 0 and target != pid:
        return 0
    val = Val(pid=pid, time=bpf.ktime(), comm=bpf.comm())
    bpf.probe_read_user_str(val.host, name)
    starts[tid] = val
    return 0


@bpf.uretprobe
def host_return(ctx: bpf.PtRegs) -> int:
    tid = u32(bpf.get_current_pid_tgid())
    valp = starts.get(tid)
    if not valp:
        return 0
    valp.time = bpf.ktime() - valp.time
    events.output(valp)
    del starts[tid]
    return 0


class Line(bpf.Struct):
    pid: u32
    str: bpf.Text = bpf.char(80)


lines = bpf.RingBuf(Line, size=4096)


@bpf.uretprobe("/bin/bash:readline")
def printret(ret: bytes) -> int:
    if not ret:
        return 0
    if bpf.comm() != "bash":
        return 0
    with lines.reserve() as e:
        e.pid = bpf.pid()
        e.str = bpf.user_str(ret)
    return 0


MAX_BUF_SIZE = 8192


class Probe(bpf.Struct):
    timestamp_ns: u64
    delta_ns: u64
    pid: u32
    len: s32
    buf_filled: u32
    rw: u32
    comm: bpf.Text = bpf.char(16)
    buf: bpf.Raw = bpf.raw(MAX_BUF_SIZE)


data = bpf.PerCpuArray(Probe, 1)
bufs = bpf.Hash(u32, u64, max_entries=10240)
ssl_events = bpf.PerfEventArray(Probe)


@bpf.uprobe
def ssl_rw_enter(ssl: u64, buf: u64, num: s32) -> int:
    bufs[bpf.tid()] = buf
    return 0


def ssl_exit(rw: int, len: int) -> int:
    ts = bpf.ktime()
    bufp = bufs.get(bpf.tid())
    if bufp is None:
        return 0
    if len <= 0:
        return 0
    d = data.lookup(0)
    if d is None:
        return 0
    d.timestamp_ns = ts
    d.pid = bpf.pid()
    d.len = len
    d.rw = rw
    d.comm = bpf.comm()
    size = min(len, MAX_BUF_SIZE)
    ret = bpf.probe_read_user(d.buf, bufp, size=size)
    del bufs[bpf.tid()]
    d.buf_filled = 1 if ret == 0 else 0
    ssl_events.output(d)
    return 0


@bpf.uretprobe
def ssl_read_exit(ret: s32) -> int:
    return ssl_exit(0, ret)


@bpf.uretprobe
def ssl_write_exit(ret: s32) -> int:
    return ssl_exit(1, ret)
