"""biosnoop and biolatency with per-disk, per-flag histograms, from the libbpf-tools."""

from skep import bpf
from skep.bpf import s32, u32, u64

MAX_SLOTS = 27


class HistKey(bpf.Struct):
    cmd_flags: u32
    dev: u32


class Hist(bpf.Struct):
    slots: list[u32] = bpf.array(u32, MAX_SLOTS)


class Stage(bpf.Struct):
    insert: u64
    issue: u64
    dev: u32


class Event(bpf.Struct):
    ts: u64
    delta: u64
    qdelta: u64
    sector: u64
    len: u32
    pid: u32
    cmd_flags: u32
    dev: u32
    comm: bpf.Text = bpf.char(16)


class Piece(bpf.Struct):
    comm: bpf.Text = bpf.char(16)
    pid: u32


targ_ms: bool = bpf.const(False)
targ_per_disk: bool = bpf.const(False)
filter_dev: bool = bpf.const(False)
targ_dev: u32 = bpf.const(0xFFFFFFFF)
infobyreq = bpf.Hash(bpf.request, Piece, max_entries=10240)
start = bpf.Hash(bpf.request, Stage, max_entries=10240)
hists = bpf.Hash(HistKey, Hist, max_entries=1024)
events = bpf.PerfEventArray(Event)


def disk_dev(rq: bpf.request) -> int:
    disk = rq.q.disk
    return (disk.major << 20) | disk.first_minor if disk else 0


def trace_pid(rq: bpf.request) -> int:
    infobyreq[rq] = Piece(comm=bpf.comm(), pid=bpf.pid())
    return 0


def trace_start(rq: bpf.request, insert: bool) -> int:
    stagep = start.get(rq)
    if stagep is None:
        stage = Stage()
        stage.dev = disk_dev(rq)
        if filter_dev and targ_dev != stage.dev:
            return 0
        if insert:
            stage.insert = bpf.ktime_get_ns()
        else:
            stage.issue = bpf.ktime_get_ns()
        start[rq] = stage
        return 0
    if insert:
        stagep.insert = bpf.ktime_get_ns()
    else:
        stagep.issue = bpf.ktime_get_ns()
    return 0


@bpf.tp_btf("block_io_start")
def block_io_start(rq: bpf.request) -> int:
    return trace_pid(rq)


@bpf.tp_btf("block_rq_insert")
def block_rq_insert(rq: bpf.request) -> int:
    return trace_start(rq, True)


@bpf.tp_btf("block_rq_issue")
def block_rq_issue(rq: bpf.request) -> int:
    return trace_start(rq, False)


@bpf.tp_btf("block_rq_complete")
def block_rq_complete(rq: bpf.request, error: s32, nr_bytes: u32) -> int:
    ts = bpf.ktime_get_ns()
    stagep = start.get(rq)
    if not stagep:
        return 0
    delta = ts - stagep.issue
    if delta < 0:
        del start[rq]
        return 0
    event = Event()
    piecep = infobyreq.get(rq)
    if piecep is None:
        event.comm = "?"
    else:
        event.comm = piecep.comm
        event.pid = piecep.pid
    event.delta = delta
    if stagep.insert != 0:
        event.qdelta = stagep.issue - stagep.insert
    event.ts = ts
    event.sector = rq.__sector
    event.len = rq.__data_len
    event.cmd_flags = rq.cmd_flags
    event.dev = stagep.dev
    events.output(event)

    hkey = HistKey(cmd_flags=rq.cmd_flags)
    if targ_per_disk:
        hkey.dev = stagep.dev
    histp = hists.get(hkey)
    if histp is None:
        hists.insert(hkey, Hist())
        histp = hists.get(hkey)
        if histp is None:
            return 0
    if targ_ms:
        delta //= 1000000
    else:
        delta //= 1000
    slot = bpf.log2(delta)
    if slot >= MAX_SLOTS:
        slot = MAX_SLOTS - 1
    histp.slots[slot] += 1
    del start[rq]
    del infobyreq[rq]
    return 0
