"""List tasks from inside the kernel: an iterator over task_struct, read like a file.

sudo python examples/tasks.py [PID]
"""

import sys

import skep
from skep import bpf
from skep.bpf import u32
from skep.kernel.iter import Iter

only_pid: u32 = bpf.const(0)


@bpf.iter("task")
def tasks(ctx: bpf.IterTask) -> int:
    task = ctx.task
    if task is None:
        return 0
    if only_pid != 0 and task.tgid != only_pid:
        return 0
    if ctx.meta.seq_num == 0:
        bpf.seq_printf(ctx.meta.seq, "    PID    TGID   PPID COMM\n")
    bpf.seq_printf(ctx.meta.seq, f"{task.pid:7} {task.tgid:7} {task.real_parent.tgid:6} {task.comm}\n")
    return 0


def main() -> None:
    pid = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with skep.load(tasks, variables={"only_pid": pid}) as obj, obj.tasks.attach() as link:
        for line in Iter(link).lines():
            print(line)


if __name__ == "__main__":
    if sys.argv[1:] and not sys.argv[1].isdigit():
        sys.exit(__doc__)
    main()
