"""Callbacks of timers and work queues, syscall programs, samples, large zeros in maps, results of LSM."""

# mypy: disable-error-code="no-untyped-def"
from skep import bpf
from skep.bpf import s32, u32, u64


@bpf.struct
class Args:
    a: u64
    b: u64
    result: u64


@bpf.struct
class Elem:
    timer: bpf.Timer
    queue: bpf.Wq
    n: u64


@bpf.struct
class Hist:
    slots: list[u64] = bpf.array(u64, 100)


elems = bpf.Array(Elem, 1)
hists = bpf.Hash(u32, Hist, max_entries=8)
fired: u64 = bpf.var(0)
worked: u64 = bpf.var(0)


def tick(table: bpf.Map, key: u32, e: Elem) -> int:
    global fired
    fired += 1
    if fired < 3:
        bpf.timer_start(e.timer, 100_000, 0)
    return 0


def work(table: bpf.Map, key: u32, e: Elem) -> int:
    global worked
    worked += 1
    return 0


@bpf.syscall
def start(args: Args) -> int:
    args.result = args.a * args.b
    hists.insert(1, bpf.zero(Hist))
    hist = hists.get(1)
    if hist is None:
        return 4
    hist.slots[7] += 1
    e = elems.lookup(0)
    if e is None:
        return 1
    if bpf.timer_init(e.timer, elems, 1):
        return 2
    bpf.timer_set_callback(e.timer, tick)
    bpf.timer_start(e.timer, 0, 0)
    if bpf.wq_init(e.queue, elems, 0):
        return 3
    bpf.wq_set_callback(e.queue, work)
    bpf.wq_start(e.queue, 0)
    return 0


@bpf.perf_event
def sample(ctx: bpf.PerfEvent) -> int:
    global worked
    if bpf.pid() == 1 << 30:
        worked = ctx.regs.ip
    return 0


@bpf.lsm("socket_connect")
def connect(sock: bpf.socket, address: bpf.sockaddr, addrlen: s32, ret: s32) -> int:
    if ret != 0:
        return ret
    return 0 if address.sa_family != 2 else -1


def check(obj) -> None:
    import struct
    import time

    result = obj.start.run(ctx=struct.pack("QQQ", 6, 7, 0))
    assert result.retval == 0 and struct.unpack("QQQ", result.ctx)[2] == 42, result
    for _ in range(200):
        if obj.bss.fired == 3 and obj.bss.worked == 1:
            break
        time.sleep(0.01)
    assert (obj.bss.fired, obj.bss.worked) == (3, 1)
    assert obj.hists[1].slots[7] == 1
