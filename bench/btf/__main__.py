"""`python -m bench.btf`: reading and printing the running kernel's BTF, beside bpftool (libbpf).

Best of several runs, in milliseconds: a shared machine only ever adds. In-process figures leave Python's
start out; whole processes have it in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

RUNS = 7
KERNEL = "/sys/kernel/btf/vmlinux"
NAMES = (
    "task_struct",
    "file",
    "sk_buff",
    "sock",
    "net_device",
    "inode",
    "dentry",
    "mm_struct",
    "bpf_prog",
    "cgroup",
)

TEN = f"""
from skep.btf import Btf
btf = Btf.kernel()
for name in {NAMES!r}:
    for member in btf[btf.require(name, 4)].members:
        btf[btf.resolve(member.type)]
"""
DUMP = """
import sys
from skep.btf import Btf, {what}
sys.stdout.write({call})
"""


def best(step: Callable[[], object], runs: int = RUNS) -> float:
    """Milliseconds of the fastest run."""
    fastest = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        step()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest * 1e3


def process(*command: str) -> Callable[[], object]:
    """Run a command, its output thrown away."""
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def python(text: str) -> Callable[[], object]:
    """Run Python in a new process."""
    return process(sys.executable, "-c", text)


def main() -> int:
    """Print the table."""
    if not os.path.exists(KERNEL):
        print(f"bench.btf: {KERNEL} is absent (CONFIG_DEBUG_INFO_BTF)", file=sys.stderr)
        return 1
    from skep.btf import Btf, BtfBuilder, c_dump, dedup, raw_dump

    def ten() -> None:
        btf = Btf.kernel()
        for name in NAMES:
            for member in btf[btf.require(name, 4)].members:  # type: ignore[attr-defined]
                btf[btf.resolve(member.type)]

    def copied() -> None:
        BtfBuilder().extend(Btf.kernel())

    count = len(Btf.kernel())
    print(f"{KERNEL}: {os.stat(KERNEL).st_size:,} bytes, {count - 1:,} types; best of {RUNS}, ms")
    rows: list[tuple[str, float]] = [
        ("ten structs, their members' types", best(ten)),
        ("walk over all types", best(lambda: len(Btf.kernel()))),
        ("decode all types", best(lambda: list(Btf.kernel()))),
        ("raw dump, text", best(lambda: list(raw_dump(Btf.kernel())), 3)),
        ("C dump", best(lambda: c_dump(Btf.kernel()), 3)),
        ("append to a builder", best(copied, 3)),
        ("deduplicate", best(lambda: dedup(Btf.kernel()), 3)),
        ("process: python -c pass", best(python("pass"))),
        ("process: ten structs", best(python(TEN))),
        (
            "process: raw dump",
            best(python(DUMP.format(what="raw_dump", call="'\\n'.join(raw_dump(Btf.kernel()))")), 3),
        ),
        ("process: C dump", best(python(DUMP.format(what="c_dump", call="c_dump(Btf.kernel())")), 3)),
    ]
    bpftool = shutil.which("bpftool", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if bpftool is None:
        print("bench.btf: bpftool is absent: no peer", file=sys.stderr)
    else:
        rows.append(("process: bpftool raw dump", best(process(bpftool, "btf", "dump", "file", KERNEL))))
        rows.append(
            ("process: bpftool C dump", best(process(bpftool, "btf", "dump", "file", KERNEL, "format", "c")))
        )
    for name, milliseconds in rows:
        print(f"  {name:36} {milliseconds:9.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
