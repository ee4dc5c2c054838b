"""Print the files that processes open, and what came of it.

sudo python examples/opensnoop.py [PID]
sudo skep run examples/opensnoop.py -- ls /
"""

import os
import sys

import skep
from skep import bpf
from skep.bpf import s32, u32, u64


@bpf.struct
class Asked:
    path: u64
    flags: s32


@bpf.struct
class Opened:
    pid: u32
    flags: s32
    result: s32
    comm: bytes = bpf.char(16)
    path: bytes = bpf.char(256)


#: a process to look at, 0 for all; set before loading
only_pid: u32 = bpf.const(0)
asked = bpf.Hash(u32, Asked, max_entries=10_240)
events = bpf.RingBuf(Opened, size=1 << 20)


@bpf.tracepoint("syscalls:sys_enter_openat")
def entered(ctx: bpf.SysEnterOpenat) -> int:
    if only_pid == 0 or bpf.pid() == only_pid:
        asked[bpf.tid()] = Asked(path=u64(ctx.filename), flags=ctx.flags)
    return 0


@bpf.tracepoint("syscalls:sys_exit_openat")
def opened(ctx: bpf.SysExitOpenat) -> int:
    was = asked.lookup(bpf.tid())
    if was is None:
        return 0
    with events.reserve() as e:  # when the ring is full the block is skipped and the loss counted
        e.pid = bpf.pid()
        e.flags = was.flags
        e.result = ctx.ret
        e.comm = bpf.comm()
        e.path = bpf.user_str(was.path)
    del asked[bpf.tid()]
    return 0


def main() -> None:
    pid = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with skep.load([entered, opened], variables={"only_pid": pid}) as obj:
        obj.attach()
        print(f"{'PID':>7} {'COMM':16} {'RESULT':24} PATH")
        for e in obj.reader("events"):
            result = f"fd {e.result}" if e.result >= 0 else os.strerror(-e.result)
            print(f"{e.pid:7} {e.comm.decode():16} {result:24} {e.path.decode()}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] and not sys.argv[1].isdigit():
        sys.exit(__doc__)
    main()
