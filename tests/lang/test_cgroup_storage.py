"""Storage of the cgroup that a program is attached to, in a cgroup of its own, read from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import skep
from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.loading import programs_of
from skep.uapi.enums import AttachType
from tests.lang.support import HEADER, module
from tests.support import libbpf
from tests.support.oracles import bpf

PROGRAMS = f"""{HEADER}
@bpf.struct
class Seen:
    packets: u64
    bytes: u64

seen = bpf.CgroupStorage(Seen)
each = bpf.PerCpuCgroupStorage(u64)
both = bpf.CgroupStorage(u64, shared=True)

@bpf.cgroup_skb_egress
def egress(skb: bpf.SkBuff) -> int:
    of = seen.get()
    of.packets += 1
    of.bytes += skb.len
    each.get().value += 2
    return 1

@bpf.cgroup_sock_create
def created(sk: bpf.Sock) -> int:
    both.get().value += 1
    return 1

@bpf.cgroup_connect4
def connected(ctx: bpf.SockAddr) -> int:
    both.get().value += 10
    return 1
"""
#: joins the cgroup of its argument, then sends 5 packets of 128 bytes (100 of them payload) to itself
SENDER = """
import os, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("127.0.0.1", 0))
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.connect(a.getsockname())
for _ in range(5):
    b.send(bytes(100))
"""


@pytest.fixture
def cgroup() -> Iterator[str]:
    """A cgroup of the test's own."""
    bpf()
    with open("/proc/mounts") as mounts:
        roots = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    if not roots:
        pytest.skip("no cgroup2 is mounted")
    path = f"{roots[0]}/skep-test-{os.getpid()}"
    os.mkdir(path)
    yield path
    os.rmdir(path)


@pytest.mark.live
def test_values_of_the_cgroup_attached_to(cgroup: str, tmp_path: Path) -> None:
    of = os.stat(cgroup).st_ino
    with skep.load(programs_of(module(tmp_path, PROGRAMS))) as obj:
        assert (len(obj.seen), len(obj.both)) == (0, 0)
        links = [getattr(obj, name).attach(cgroup) for name in ("egress", "created", "connected")]
        subprocess.run([sys.executable, "-c", SENDER, cgroup], check=True, timeout=30)
        key = (of, int(AttachType.CGROUP_INET_EGRESS))
        assert (obj.seen[key].packets, obj.seen[key].bytes) == (5, 5 * 128)
        assert [tuple(key) for key in obj.seen] == [key]
        assert sum(obj.each[key]) == 10
        assert dict(obj.both) == {of: 2 + 10}
        obj.seen[key] = {"packets": 100, "bytes": 0}
        subprocess.run([sys.executable, "-c", SENDER, cgroup], check=True, timeout=30)
        assert (obj.seen[key].packets, obj.seen[key].bytes) == (105, 5 * 128)
        for link in links:
            link.close()


@pytest.mark.live
def test_libbpf_takes_it(tmp_path: Path) -> None:
    path, pins = tmp_path / "storage.bpf.o", tmp_path / "bpffs"
    pins.mkdir()
    path.write_bytes(compile_programs(programs_of(module(tmp_path, PROGRAMS))))
    assert sorted(libbpf.loadall(path, pins)) == ["connected", "created", "egress"]


WRONG = [
    ("xdp", "seen.get()", "seen.get()", "xdp programs cannot call bpf_get_local_storage", ""),
    ("fentry('vfs_read')", "seen.get()", "seen.get()", "cannot call bpf_get_local_storage", ""),
    (
        "cgroup_skb",
        "seen.get().value += 1\n    more.get()",
        "more.get()",
        "has seen already",
        "in one struct",
    ),
    ("cgroup_skb", "seen.get(1)", "seen.get(1)", "get() takes", ""),
    ("cgroup_skb", "seen[1]", "seen[1]", "has no elements", ""),
    ("cgroup_skb", "seen.create(1)", "seen.create", "has no 'create'", ""),
]


@pytest.mark.parametrize(("hook", "body", "at", "says", "hint"), WRONG, ids=[case[3] for case in WRONG])
def test_refused_at_the_span(hook: str, body: str, at: str, says: str, hint: str, tmp_path: Path) -> None:
    text = (
        f"{HEADER}\nseen = bpf.CgroupStorage(u64)\nmore = bpf.CgroupStorage(u64)\n"
        f"\n@bpf.{hook}\ndef main() -> int:\n    {body}\n    return 0\n"
    )
    with pytest.raises(CompileError) as caught:
        to_ir([module(tmp_path, text).main])
    error = caught.value
    assert error.source is not None and error.column is not None and error.end_column is not None
    assert error.source.splitlines()[error.line - 1][error.column : error.end_column] == at
    assert says in error.reason
    assert hint in (error.hint or "")


def test_one_of_each_kind_and_another_program_may_have_another(tmp_path: Path) -> None:
    text = f"""{HEADER}
seen = bpf.CgroupStorage(u64)
more = bpf.CgroupStorage(u64)
each = bpf.PerCpuCgroupStorage(u64)

@bpf.cgroup_skb
def first() -> int:
    seen.get().value += 1
    each.get().value += 1
    return 1

@bpf.cgroup_skb
def second() -> int:
    more.get().value += 1
    return 1
"""
    made = module(tmp_path, text)
    ir = to_ir([made.first, made.second])
    assert ir.count("inttoptr (i64 81 to ptr)") == 3
    assert ir.count("atomicrmw") == 2  # what each processor has for itself is added to plainly
