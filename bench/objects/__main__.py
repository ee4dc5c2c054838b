"""`python -m bench.objects [FILE.o …]`: whole processes that open and relocate an object, beside bpftool's.

Without files, one that is made here: 200 programs, 20 subprograms, 60 maps, CO-RE reads all over (400 KB with
its debugging information). bpftool (libbpf) opens, relocates and loads it; ours opens and
relocates it, and loads it too in the second row. Best of several runs, by the clock and of processor time:
the machine is shared. What bpftool pins lies in a mount namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "out"
RUNS = 7
OPEN = """
import sys
from skep.obj import CoreTarget, link_program, read
spec = read(sys.argv[1])
target = CoreTarget.kernel()
for name in spec.programs:
    link_program(spec, name, target=target)
"""
LOAD = "import sys, skep; skep.load(sys.argv[1]).close()"
#: bpffs where nobody else sees it
PRIVATE = 'mount -t bpf bpf "$1" && exec "$2" prog loadall "$3" "$1/all"'
HEAD = """
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define CORE __attribute__((preserve_access_index))
typedef unsigned int u32;
typedef unsigned long long u64;
static void *(*lookup)(void *map, const void *key) = (void *)1;
static void *(*current)(void) = (void *)35;
static long (*read)(void *to, u32 size, const void *from) = (void *)113;
struct mm_struct { u64 start_code, end_code, start_data, start_stack; } CORE;
struct task_struct {
	int pid, tgid; u64 start_time; struct mm_struct *mm; struct task_struct *real_parent;
} CORE;
#define GET(to, from) read(&to, sizeof(to), __builtin_preserve_access_index(&(from)))
"""


def source(programs: int = 200, functions: int = 20, maps: int = 60) -> str:
    out = [HEAD]
    for n in range(maps):
        out.append(f"struct value{n} {{ u64 a, b[{n + 1}]; }};")
        out.append(
            f"struct {{ __uint(type, {1 + n % 2}); __uint(max_entries, {8 + n}); __type(key, u32); "
            f'__type(value, struct value{n}); }} map{n} SEC(".maps");'
        )
    out += [
        f"static __attribute__((noinline)) u64 part{n}(struct task_struct *task)\n{{\n"
        "\tstruct mm_struct *mm = 0; u64 start = 0, end = 0; int pid = 0;\n"
        "\tGET(mm, task->mm); GET(start, mm->start_code); GET(end, mm->end_code); GET(pid, task->pid);\n"
        f"\treturn start + end * {n + 1} + pid;\n}}"
        for n in range(functions)
    ]
    out += [
        f'SEC("raw_tp/sys_enter") int program{n}(void *ctx)\n{{\n'
        "\tstruct task_struct *task = current(), *up = 0; u64 at = 0, sum; int tgid = 0;\n"
        f"\tu32 key = {n};\n\tstruct value{n % maps} *value = lookup(&map{n % maps}, &key);\n"
        "\tGET(up, task->real_parent); GET(at, task->start_time); GET(tgid, task->tgid);\n"
        f"\tsum = part{n % functions}(up) + part{(n + 7) % functions}(task);\n"
        "\tif (value) value->a += sum + at + tgid;\n\treturn 0;\n}"
        for n in range(programs)
    ]
    return "\n".join([*out, 'char LICENSE[] SEC("license") = "GPL";', ""])


def built() -> str:
    clang = shutil.which("clang-19") or shutil.which("clang") or sys.exit("needs clang")
    OUT.mkdir(exist_ok=True)
    out = OUT / "large.o"
    words = [clang, "-target", "bpf", "-g", "-O2", "-mcpu=v3", "-x", "c", "-c", "-", "-o", str(out)]
    subprocess.run(words, input=source(), text=True, check=True)
    return str(out)


def best(command: Sequence[str]) -> tuple[float, float] | None:
    """(milliseconds by the clock, of processor time) of the best run; None when it fails."""
    rows: list[tuple[float, float]] = []
    for _ in range(RUNS):
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            return None
        rows.append((1e3 * (time.perf_counter() - start), 1e3 * (used.ru_utime + used.ru_stime)))
    return min(row[0] for row in rows), min(row[1] for row in rows)


def show(name: str, found: tuple[float, float] | None, peer: tuple[float, float] | None = None) -> None:
    if found is None:
        print(f"  {name:34} failed")
        return
    ratio = f"   {found[0] / peer[0]:5.2f} of bpftool's, {found[1] / peer[1]:5.2f}" if peer else ""
    print(f"  {name:34} {found[0]:7.1f} ms, {found[1]:7.1f} ms of processor time{ratio}")


def main() -> int:
    files = sys.argv[1:] or [built()]
    bpftool = shutil.which("bpftool", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    place = OUT / "bpffs"
    place.mkdir(parents=True, exist_ok=True)
    show("python -c pass", best([sys.executable, "-c", "pass"]))
    for file in files:
        print(f"{file}: {os.path.getsize(file) / 1e3:,.0f} KB")
        peer = None
        if bpftool is not None:
            peer = best(["unshare", "-m", "sh", "-c", PRIVATE, "sh", str(place), bpftool, file])
            show("bpftool prog loadall", peer)
        show("open and relocate (budget 2)", best([sys.executable, "-c", OPEN, file]), peer)
        show("load and close", best([sys.executable, "-c", LOAD, file]), peer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
