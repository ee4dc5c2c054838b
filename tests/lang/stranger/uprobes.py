# mypy: ignore-errors
from skep import bpf
from skep.bpf import s32, u32, u64


@bpf.struct
class Call:
    size: u64
    ptr: u64
    name: bytes = bpf.char(64)


calls = bpf.Hash(u32, u64)
last = bpf.Array(Call, 1)
ents = bpf.LruHash(u64, u64)


@bpf.uprobe("libc.so.6:getenv")
def on_getenv(name: bytes) -> int:
    last[0].name = name
    calls[bpf.pid()] += 1
    return 0


@bpf.uretprobe("libc.so.6:getenv")
def ret_getenv(ret: u64) -> int:
    last[0].ptr = ret
    return 0


@bpf.uprobe
def on_malloc(ctx: bpf.PtRegs) -> int:
    last[0].size = ctx.arg0
    return 0


@bpf.uprobe
def regs(ctx: bpf.PtRegs) -> int:
    last[0].ptr = ctx.ip
    last[0].size = ctx.sp
    return 0


@bpf.usdt("libc.so.6:libc:setjmp")
def on_setjmp(a: u64, b: s32, c: u64) -> int:
    last[0].ptr = c
    return 0
