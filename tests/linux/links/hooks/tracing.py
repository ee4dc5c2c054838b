"""Trampolines: fentry, fexit, fmod_ret, LSM."""

from __future__ import annotations

import socket

from skep.uapi.enums import AttachType, ProgType
from tests.linux.links.rig import Rig, scenario


@scenario("5.5", "fentry programs")
def fentry_and_fexit(rig: Rig) -> None:
    id = rig.btf_id("security_socket_create")
    for where, hook in ((AttachType.TRACE_FENTRY, "fentry"), (AttachType.TRACE_FEXIT, "fexit")):
        program = rig.counter(ProgType.TRACING, where, own=True, hook=hook, attach_btf_id=id)
        with program.attach():
            socket.socket().close()
            assert program.hits == 1
        socket.socket().close()
        assert program.hits == 1


@scenario("5.19", "fentry programs")
def cookie(rig: Rig) -> None:
    id = rig.btf_id("security_socket_create")
    known = rig.at_least("5.19")
    program = rig.counter(ProgType.TRACING, AttachType.TRACE_FENTRY, own=True, cookie=known, attach_btf_id=id)
    with program.attach(cookie=123):
        socket.socket().close()
        assert program.hits == 1 and program.seen == 123


@scenario("5.7", "fmod_ret programs")
def fmod_ret(rig: Rig) -> None:
    id = rig.btf_id("security_socket_create")
    program = rig.counter(
        ProgType.TRACING, AttachType.MODIFY_RETURN, own=True, hook="fmod_ret", attach_btf_id=id
    )
    with program.attach():
        socket.socket().close()
        assert program.hits == 1
    socket.socket().close()
    assert program.hits == 1


@scenario("5.7", "LSM programs")
def lsm(rig: Rig) -> None:
    id = rig.btf_id("bpf_lsm_socket_create")
    program = rig.counter(ProgType.LSM, AttachType.LSM_MAC, own=True, hook="lsm", attach_btf_id=id)
    with program.attach():
        socket.socket().close()
        assert program.hits == 1
    socket.socket().close()
    assert program.hits == 1


@scenario("7.2", "fentry.multi programs")
def multi(rig: Rig) -> None:
    known = rig.at_least("7.2")
    for where, hook in (
        (AttachType.TRACE_FENTRY_MULTI, "fentry.multi"),
        (AttachType.TRACE_FEXIT_MULTI, "fexit.multi"),
    ):
        program = rig.counter(ProgType.TRACING, where, own=True, hook=hook, cookie=known)
        both = program.attach(["security_socket_create", "security_socket_bind"], cookies=[5, 6])
        with both, socket.socket() as sock:
            assert (program.hits, program.seen) == (1, 5)
            sock.bind(("127.0.0.1", 0))
            assert (program.hits, program.seen) == (2, 6)
        socket.socket().close()
        assert program.hits == 2


@scenario("7.0", "fsession programs")
def session(rig: Rig) -> None:
    """One program at entry and return."""
    id = rig.btf_id("security_socket_create")
    program = rig.counter(
        ProgType.TRACING, AttachType.TRACE_FSESSION, own=True, hook="fsession", attach_btf_id=id
    )
    with program.attach():
        socket.socket().close()
        assert program.hits == 2
    socket.socket().close()
    assert program.hits == 2
