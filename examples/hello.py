"""Say hello whenever a program is started.

sudo skep run examples/hello.py             # until Ctrl-C
sudo skep run examples/hello.py -- ls /     # while ls runs
"""

from skep import bpf


@bpf.tracepoint("syscalls:sys_enter_execve")
def hello(ctx: bpf.SysEnterExecve) -> int:
    bpf.printk(f"Hello BPF, from process {bpf.pid()}")
    return 0
