# mypy: ignore-errors
from skep import bpf
from skep.bpf import be32, s32, s64, u32

only: u32 = bpf.const(0)
SIG = "skep-stranger"


@bpf.struct
class P:
    x: s32
    ip: be32
    comm: bytes = bpf.char(16)


vals = bpf.Array(P, 1)


@bpf.tp_btf("sys_enter")
def enter(regs: bpf.pt_regs, nr: s64) -> int:
    if bpf.pid() != only or nr != 110:
        return 0
    p = vals[0]
    p.x = -5
    p.comm = bpf.comm()
    bpf.printk(f"{SIG} a {p.x} {p.x:5d} {0xABC:#x} {255:02x} {255:X} {1 << 40} 100%")
    bpf.printk(f"{SIG} b [{p.comm}] [{'const'}] {True} {p.ip}")
    bpf.printk(SIG + " plain")
    bpf.printk(f"{SIG} c {p.comm} {p.x:6}|")
    bpf.printk(f"{SIG} d {bpf.current_task().comm} {-1} {0xFFFF_FFFF_FFFF_FFFF} {p.x}")

    return 0


VARIABLES = {"only": __import__("os").getpid()}
