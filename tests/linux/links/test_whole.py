"""Attaching is whole or not at all: what was made before a failure is taken back."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

from skep.errors import KernelError
from skep.linux.kernel import LinuxKernel
from skep.linux.links.usdt import sites
from skep.linux.netlink import NLM_F_DUMP, Netlink
from skep.uapi.attr import INFO
from skep.uapi.enums import ProgType
from tests.linux.links.rig import Counter, Rig, wait
from tests.support.oracles import bpf

pytestmark = pytest.mark.live


@pytest.fixture
def rig(tmp_path: Any) -> Iterator[Rig]:
    bpf()
    made = Rig(str(tmp_path))
    yield made
    made.close()


def descriptors() -> int:
    gc.collect()  # what other tests left to the collector
    return len(os.listdir("/proc/self/fd"))


def links_of(program: Counter) -> list[int]:
    """Ids of the kernel's links that hold the program."""
    kernel = program.kernel
    own = INFO["bpf_prog_info"].unpack(kernel.obj_get_info_by_fd(program.fd, "prog"))["id"]
    out: list[int] = []
    at = 0
    while (at := kernel.get_next_id("link", at) or 0) > 0:
        try:
            fd = kernel.get_fd_by_id("link", at)
        except KernelError:
            continue
        try:
            info = INFO["bpf_link_info"].unpack(kernel.obj_get_info_by_fd(fd, "link"))
        except KernelError:
            continue  # another's, whose target went meanwhile
        finally:
            kernel.close(fd)
        if info["prog_id"] == own:
            out.append(at)
    return out


def nothing_left(program: Counter, before: int) -> None:
    """No descriptor and no link: others who list the machine's links hold each for a moment."""
    assert descriptors() == before
    wait(lambda: not links_of(program))


def test_perf_events_of_several_cpus(rig: Rig) -> None:
    program = rig.counter(ProgType.PERF_EVENT, own=True)
    before = descriptors()
    with program.attach("page-faults", cpu=[0]):
        assert len(links_of(program)) == 1  # so an empty list below says something
    with pytest.raises(KernelError):
        program.attach("page-faults", cpu=[0, 4096])
    nothing_left(program, before)


def test_usdt_sites(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two sites lies outside the file."""
    path = rig.library()
    (good,) = sites(path, "skep", "open")
    monkeypatch.setattr(
        "skep.linux.links.usdt.sites", lambda *_: [good, good._replace(offset=os.path.getsize(path) + 4096)]
    )
    program = rig.counter(ProgType.KPROBE, own=True, hook="usdt")
    before = descriptors()
    with pytest.raises(KernelError):
        program.attach(path, "skep", "open", pid=0)
    nothing_left(program, before)


class NoIoctl(LinuxKernel):
    """The live kernel, but a perf event cannot be started."""

    def perf_event_ioctl(self, fd: int, request: int, argument: int | bytes = 0) -> None:
        raise KernelError(22, "no ioctl today")


def test_an_event_that_does_not_start(rig: Rig) -> None:
    rig.kernel = NoIoctl()
    program = rig.counter(ProgType.TRACEPOINT, own=True)
    before = descriptors()
    with pytest.raises(KernelError, match="no ioctl today"):
        program.attach("syscalls:sys_enter_getppid")
    nothing_left(program, before)


def test_qdisc_of_a_filter_that_fails(rig: Rig) -> None:
    """A socket filter is no classifier: the qdisc made for it goes again."""
    program = rig.counter(ProgType.SOCKET_FILTER)
    program.spec.type = ProgType.SCHED_CLS
    before = descriptors()
    with rig.network():
        with pytest.raises(KernelError):
            program.attach("lo", "ingress", link=False)
        with Netlink() as netlink:
            replies = netlink.request("RTM_GETQDISC", 38, bytes(20), NLM_F_DUMP)
        assert replies and not any(b"clsact" in reply.payload for reply in replies)
    assert descriptors() == before


def test_a_link_collected_while_open_is_named(rig: Rig) -> None:
    program = rig.counter(ProgType.TRACEPOINT, own=True)
    before = descriptors()
    with pytest.warns(ResourceWarning, match="tracepoint syscalls:sys_enter_getppid"):
        program.attach("syscalls:sys_enter_getppid")
    nothing_left(program, before)
