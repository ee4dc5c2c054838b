"""How long a process's threads wait for a processor once they could run: a histogram.

sudo python examples/runqlat.py PID [SECONDS]
"""

import sys
import time

import skep
from skep import bpf
from skep.bpf import u32, u64

TASK_RUNNING = 0

only_pid: u32 = bpf.const(0)
waiting = bpf.Hash(u32, u64, max_entries=10_240)
#: nanoseconds by power of two
waited: list[u64] = bpf.var(bpf.array(u64, 64))


@bpf.struct(kernel="task_struct___before_5_14")
class OldTask:
    state: int


def state_of(task: bpf.task_struct) -> int:
    """The member has another name since Linux 5.14: the object asks the kernel that it runs on."""
    if bpf.exists(task.__state):
        return task.__state
    return bpf.cast(OldTask, task).state


def ready(task: bpf.task_struct) -> None:
    """The task waits for a processor from now on."""
    if only_pid == 0 or task.tgid == only_pid:
        waiting[task.pid] = bpf.ktime()


@bpf.tp_btf("sched_wakeup")
def woken(task: bpf.task_struct) -> int:
    ready(task)
    return 0


@bpf.tp_btf("sched_wakeup_new")
def started(task: bpf.task_struct) -> int:
    ready(task)
    return 0


@bpf.tp_btf("sched_switch")
def switched(preempt: bool, before: bpf.task_struct, after: bpf.task_struct) -> int:
    if state_of(before) == TASK_RUNNING:  # it was taken off its processor, and could go on
        ready(before)
    since = waiting.get(after.pid)
    if since is not None:
        waited[bpf.log2(u64(bpf.ktime() - since))] += 1
        del waiting[after.pid]
    return 0


def main() -> None:
    pid = int(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    with skep.load([woken, started, switched], variables={"only_pid": pid}) as obj:
        obj.attach()
        time.sleep(seconds)
        rows = list(obj.bss.waited)
    most = max(rows) or 1
    for slot, count in enumerate(rows):
        if count:
            print(f"{1 << slot:>12} ns |{'█' * round(40 * count / most):<40}| {count}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
