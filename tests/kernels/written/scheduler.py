"""A scheduler of sched_ext: one queue, first in, first out."""

import os
import time
from pathlib import Path
from typing import Any

from skep import bpf
from skep.bpf import s32, u64

SHARED = 5
enqueued: u64 = bpf.var(0)
dispatched: u64 = bpf.var(0)
running_: u64 = bpf.var(0)
slice_ns: u64 = bpf.const(5_000_000)


class Tctx(bpf.Struct):
    runs: u64


tasks = bpf.TaskStorage(Tctx)


@bpf.struct_ops("sched_ext_ops:select_cpu")
def select_cpu(p: bpf.task_struct, prev_cpu: s32, wake_flags: u64) -> int:
    cpu, idle = bpf.scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags)
    if idle:
        bpf.scx_bpf_dsq_insert(p, bpf.SCX_DSQ_LOCAL, slice_ns, 0)
    return cpu


@bpf.struct_ops("sched_ext_ops:enqueue")
def enqueue(p: bpf.task_struct, enq_flags: u64) -> None:
    global enqueued
    enqueued += 1
    bpf.scx_bpf_dsq_insert(p, SHARED, slice_ns, enq_flags)


@bpf.struct_ops("sched_ext_ops:dispatch")
def dispatch(cpu: s32, prev: bpf.task_struct) -> None:
    global dispatched
    if bpf.scx_bpf_dsq_move_to_local(SHARED):
        dispatched += 1


@bpf.struct_ops("sched_ext_ops:running")
def running(p: bpf.task_struct) -> None:
    global running_
    running_ += 1
    t = tasks.create(p)
    if t is not None:
        t.runs += 1


@bpf.struct_ops("sched_ext_ops:init", sleepable=True)
def init() -> int:
    return bpf.scx_bpf_create_dsq(SHARED, -1)


ops = bpf.StructOps(
    "sched_ext_ops",
    select_cpu=select_cpu,
    enqueue=enqueue,
    dispatch=dispatch,
    running=running,
    init=init,
    name=b"py_fifo",
    timeout_ms=30000,
)


def play(obj: Any) -> None:
    root = Path("/sys/kernel/sched_ext")
    with obj.attach_struct_ops("ops"):
        assert (root / "state").read_text().strip() == "enabled"
        assert (root / "root" / "ops").read_text().strip() == "py_fifo"
        for _ in range(3):
            if os.fork() == 0:
                os._exit(sum(range(300_000)) & 0)
            os.wait()
        assert obj.bss.enqueued > 0 and obj.bss.dispatched > 0 and obj.bss.running_ > 0
    end = time.monotonic() + 60
    while (root / "state").read_text().strip() != "disabled":
        assert time.monotonic() < end
        time.sleep(0.01)
