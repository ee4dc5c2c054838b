"""Iterators over tasks, a map's elements, cgroups."""

from __future__ import annotations

import os

from skep.kernel.link import Link
from skep.uapi.enums import AttachType, MapType, ProgType
from tests.linux.links.rig import Counter, Rig, scenario


def _iter(rig: Rig, what: str) -> Counter:
    id = rig.btf_id(f"bpf_iter_{what}")
    return rig.counter(ProgType.TRACING, AttachType.TRACE_ITER, hook="iter", to=what, attach_btf_id=id)


def _read(rig: Rig, link: Link) -> None:
    fd = rig.kernel.iter_create(link.fd)
    try:
        while rig.kernel.read(fd, 4096):
            pass
    finally:
        rig.kernel.close(fd)


@scenario("5.8")
def task(rig: Rig) -> None:
    program, other = _iter(rig, "task"), _iter(rig, "task")
    with program.attach() as link:
        assert link.kind == "bpf_link"
        _read(rig, link)
        assert program.hits > 2
        link.update(other)
        _read(rig, link)
        assert other.hits > 2


@scenario("5.9")
def elements(rig: Rig) -> None:
    table = rig.kernel.map_create(MapType.HASH, 4, 8, 8, name="walked")
    rig.later(lambda: rig.kernel.close(table))
    for n in range(5):
        rig.kernel.map_update_elem(table, bytes([n] * 4), bytes(8))
    program = _iter(rig, "bpf_map_elem")
    with program.attach(map=table) as link:
        _read(rig, link)
        assert program.hits in (5, 6)  # and once more at the end


@scenario("6.1")
def one_process(rig: Rig) -> None:
    program = _iter(rig, "task")
    with program.attach(pid=os.getpid()) as link:
        before = len(os.listdir("/proc/self/task"))
        _read(rig, link)
        assert 1 <= program.hits <= 1 + max(before, len(os.listdir("/proc/self/task")))


@scenario("6.1")
def cgroups(rig: Rig) -> None:
    with rig.cgroup() as path:
        if not rig.at_least("6.1"):
            program = _iter(rig, "task")
            program.attach(cgroup=path)
        program = _iter(rig, "cgroup")
        with program.attach(cgroup=path, order="self") as link:
            _read(rig, link)
            assert program.hits in (1, 2)
