"""javagc, by USDT; and a histogram in log2 slots."""

from skep import bpf
from skep.bpf import s32, u32, u64


class Data(bpf.Struct):
    cpu: u32
    pid: u32
    ts: u64


data_map = bpf.Hash(u32, Data, max_entries=100)
perf_map = bpf.PerfEventArray(Data)
time: u32 = bpf.const(0)


def gc_start() -> int:
    d = Data(cpu=bpf.get_smp_processor_id(), pid=bpf.pid(), ts=bpf.ktime())
    data_map[d.pid] = d
    return 0


def gc_end() -> int:
    p = data_map.get(bpf.pid())
    if p is None:
        return 0
    val = bpf.ktime() - p.ts
    if val > time:
        d = Data(bpf.cpu(), bpf.pid(), val)
        perf_map.output(d)
    del data_map[bpf.pid()]
    return 0


@bpf.usdt("/usr/lib/libjvm.so:hotspot:mem__pool__gc__begin")
def mem_pool_gc_begin() -> int:
    return gc_start()


@bpf.usdt("/usr/lib/libjvm.so:hotspot:mem__pool__gc__end")
def mem_pool_gc_end(manager: bytes, length: u64) -> int:
    return gc_end()


@bpf.usdt
def any_probe(a: s32, b: u64, c: bpf.Text) -> int:
    bpf.printk(f"{a} {b:#x} {c}")
    return 0
