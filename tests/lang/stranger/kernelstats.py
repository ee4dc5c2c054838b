"""cachestat, vfsstat, filelife, filetop: kprobes and globals."""

import enum

from skep import bpf
from skep.bpf import s64, u32, u64

total: s64 = bpf.var(0)
misses: s64 = bpf.var(0)
mbd: u64 = bpf.var(0)


@bpf.fentry("add_to_page_cache_lru")
def add_lru() -> int:
    global misses
    misses += 1
    return 0


@bpf.fentry("folio_mark_accessed")
def accessed() -> int:
    global total
    total += 1
    return 0


@bpf.kprobe("account_page_dirtied")
def dirtied(ctx: bpf.PtRegs) -> int:
    global misses
    misses -= 1
    return 0


@bpf.kprobe("mark_buffer_dirty")
def dirty() -> int:
    global total, mbd
    total -= 1
    mbd += 1
    return 0


class Stat(enum.IntEnum):
    READ = 0
    WRITE = 1
    FSYNC = 2
    OPEN = 3
    CREATE = 4
    MAX = 5


stats: list[u64] = bpf.var(bpf.array(u64, Stat.MAX))


def inc(key: int) -> int:
    stats[key] += 1
    return 0


@bpf.kprobe("vfs_read")
def vfs_read() -> int:
    return inc(Stat.READ)


@bpf.kprobe("vfs_write")
def vfs_write() -> int:
    return inc(Stat.WRITE)


@bpf.fentry("vfs_fsync")
def vfs_fsync() -> int:
    return inc(Stat.FSYNC)


class Life(bpf.Struct):
    file: bpf.Text = bpf.char(32)
    task: bpf.Text = bpf.char(16)
    delta_ns: u64
    pid: u32


birth = bpf.Hash(bpf.dentry, u64, max_entries=8192)
lives = bpf.PerfEventArray(Life)


@bpf.kprobe("vfs_create")
def vfs_create(idmap: u64, dir: bpf.inode, dentry: bpf.dentry) -> int:
    birth[dentry] = bpf.ktime()
    return 0


@bpf.kprobe("vfs_unlink")
def vfs_unlink(idmap: u64, dir: bpf.inode, dentry: bpf.dentry) -> int:
    tsp = birth.get(dentry)
    if tsp is None:
        return 0
    e = Life()
    e.delta_ns = bpf.ktime() - tsp
    e.file = bpf.kernel_str(dentry.d_name.name)
    e.task = bpf.comm()
    e.pid = bpf.pid()
    lives.output(e)
    del birth[dentry]
    return 0
