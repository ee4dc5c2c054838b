"""Print every program that is started, with its parent and how it ended.

sudo python examples/execsnoop.py
sudo skep run examples/execsnoop.py -- sh -c 'ls / | wc -l'
"""

import skep
from skep import bpf
from skep.bpf import s32, u32, u64


@bpf.struct
class Started:
    pid: u32
    ppid: u32
    uid: u32
    exit_code: s32
    nanoseconds: u64
    ended: u32
    comm: bytes = bpf.char(16)
    filename: bytes = bpf.char(128)


events = bpf.RingBuf(Started, size=1 << 20)
began = bpf.Hash(u32, u64, max_entries=8192)


@bpf.tp_btf("sched_process_exec")
def started(task: bpf.task_struct, old_pid: int, binary: bpf.linux_binprm) -> int:
    began[task.tgid] = bpf.ktime_get_ns()
    with events.reserve() as e:
        e.pid = task.tgid
        e.ppid = task.real_parent.tgid
        e.uid = bpf.uid()
        e.ended = 0
        e.comm = bpf.comm()
        e.filename = bpf.kernel_str(binary.filename)
    return 0


@bpf.tp_btf("sched_process_exit")
def exited(task: bpf.task_struct) -> int:
    if task.pid != task.tgid:  # a thread
        return 0
    since = began.lookup(task.tgid)
    if since is None:
        return 0
    with events.reserve() as e:
        e.pid = task.tgid
        e.ppid = task.real_parent.tgid
        e.exit_code = task.exit_code >> 8
        e.nanoseconds = bpf.ktime_get_ns() - since.value
        e.ended = 1
        e.comm = bpf.comm()
    del began[task.tgid]
    return 0


def main() -> None:
    with skep.load([started, exited]) as obj:
        obj.attach()
        for e in obj.reader("events"):
            what = e.filename.decode()
            if e.ended:
                what = f"ended with {e.exit_code} after {e.nanoseconds / 1e6:.1f} ms"
            print(f"{e.pid:7} {e.ppid:7} {e.comm.decode():16} {what}", flush=True)


if __name__ == "__main__":
    main()
