"""Tracepoints, raw tracepoints and BTF ones, on a system call that this process alone is counted for."""

from __future__ import annotations

import os

from skep.errors import KernelError, NotSupported
from skep.uapi.enums import AttachType, ProgType
from tests.linux.links.rig import TYPEDEF, Rig, scenario


@scenario()
def stable(rig: Rig) -> None:
    for by_link in (None, False):
        program = rig.counter(ProgType.TRACEPOINT, own=True, to="syscalls/sys_enter_getppid")
        with program.attach(link=by_link) as link:
            linked = by_link is None and rig.at_least("5.15")
            assert link.kind == ("bpf_link" if linked else "perf")
            os.getppid()
            assert program.hits == 1
        os.getppid()
        assert program.hits == 1


@scenario("5.15")
def cookie(rig: Rig) -> None:
    try:
        program = rig.counter(ProgType.TRACEPOINT, own=True, cookie=True)
    except KernelError:
        if rig.at_least("5.15"):
            raise
        program = rig.counter(ProgType.TRACEPOINT, own=True)
    with program.attach("syscalls:sys_enter_getppid", cookie=0x1234_5678_9ABC):
        os.getppid()
        assert program.hits == 1 and program.seen == 0x1234_5678_9ABC


@scenario()
def refusals(rig: Rig) -> None:
    program = rig.counter(ProgType.TRACEPOINT, own=True)
    for name, words in (("skep:none", "skep:none"), ("nonsense", "category:name"), ("", "category:name")):
        try:
            program.attach(name)
        except KernelError as error:
            assert words in str(error), error
        else:
            raise AssertionError(f"{name} attached")
    raw = rig.counter(ProgType.RAW_TRACEPOINT, own=True)
    try:
        raw.attach("skep_none")
    except KernelError as error:
        assert "skep_none" in str(error)
    else:
        raise AssertionError("skep_none attached")


@scenario()
def raw(rig: Rig) -> None:
    program = rig.counter(ProgType.RAW_TRACEPOINT, own=True, to="sys_enter")
    with program.attach() as link:
        assert link.kind == "bpf_link"
        os.getppid()
        assert program.hits >= 1
        try:
            link.update(program)
        except NotSupported:
            pass
        else:
            raise AssertionError("raw tracepoint links cannot be updated")
    hits = program.hits
    os.getppid()
    assert program.hits == hits


@scenario("6.10")
def raw_cookie(rig: Rig) -> None:
    try:
        program = rig.counter(ProgType.RAW_TRACEPOINT, own=True, cookie=True)
    except KernelError:
        if rig.at_least("6.10"):
            raise
        program = rig.counter(ProgType.RAW_TRACEPOINT, own=True)
    with program.attach("sys_enter", cookie=77):
        os.getppid()
        assert program.hits >= 1 and program.seen == 77


@scenario()
def btf(rig: Rig) -> None:
    id = rig.btf_id("btf_trace_sys_enter", TYPEDEF)
    program = rig.counter(
        ProgType.TRACING, AttachType.TRACE_RAW_TP, own=True, hook="tp_btf", attach_btf_id=id
    )
    with program.attach():
        os.getppid()
        assert program.hits >= 1


@scenario("5.19")
def btf_cookie(rig: Rig) -> None:
    id = rig.btf_id("btf_trace_sys_enter", TYPEDEF)
    known = rig.at_least("6.10")  # the helper; the link took cookies before
    program = rig.counter(ProgType.TRACING, AttachType.TRACE_RAW_TP, own=True, cookie=known, attach_btf_id=id)
    with program.attach(cookie=99):
        os.getppid()
        assert program.hits >= 1 and (program.seen == 99 or not known)
