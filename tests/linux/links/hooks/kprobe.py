"""kprobes by the perf PMU, by tracefs, many at once; system calls by name."""

from __future__ import annotations

import os

from skep.errors import KernelError, NotSupported
from skep.uapi.enums import AttachType, ProgType
from tests.linux.links.rig import Counter, Rig, scenario

GETPPID = "__x64_sys_getppid"


def _probe(rig: Rig, hook: str = "kprobe", to: str = "", cookie: bool = False) -> Counter:
    return rig.counter(ProgType.KPROBE, own=True, hook=hook, to=to, cookie=cookie)


def _fires_once(program: Counter, link: object) -> None:
    with link:  # type: ignore[attr-defined]
        os.getppid()
        assert program.hits == 1, program.hits
    os.getppid()
    assert program.hits == 1


@scenario(refused="kprobes")
def entry_and_return(rig: Rig) -> None:
    for hook in ("kprobe", "kretprobe"):
        for legacy in (None, True):
            for by_link in (None, False):
                program = _probe(rig, hook, GETPPID)
                link = program.attach(legacy=legacy, link=by_link)
                linked = by_link is None and rig.at_least("5.15")
                assert link.kind == ("bpf_link" if linked else "tracefs" if legacy else "perf"), link
                _fires_once(program, link)


@scenario(refused="kprobes")
def offset(rig: Rig) -> None:
    """Past the entry, where an instruction begins: after endbr64, or after the nop for ftrace."""
    program = _probe(rig)
    for bytes_in in (5, 4, 9):
        try:
            link = program.attach(f"{GETPPID}+{bytes_in:#x}")
        except NotSupported:
            raise
        except KernelError:
            continue
        assert f"+{bytes_in:#x}" in link.target
        _fires_once(program, link)
        return
    raise AssertionError("no offset could be probed")


@scenario("5.15", refused="kprobes")
def cookie(rig: Rig) -> None:
    program = _probe(rig, cookie=rig.at_least("5.15"))
    with program.attach(GETPPID, cookie=0xABCDEF):
        os.getppid()
        assert program.hits == 1 and program.seen == 0xABCDEF


@scenario(refused="kprobes")
def syscall(rig: Rig) -> None:
    for hook in ("ksyscall", "kretsyscall"):
        program = _probe(rig, hook, "getppid")
        _fires_once(program, program.attach())


@scenario(refused="kprobes")
def refusals(rig: Rig) -> None:
    program = _probe(rig)
    for legacy in (None, True):
        for name, words in (("skep_none", "no such function"), ("", "function"), (GETPPID + "+x", "number")):
            try:
                program.attach(name, legacy=legacy)
            except NotSupported:
                raise
            except KernelError as error:
                assert words in str(error), error
            else:
                raise AssertionError(f"{name} attached")


def _multi(rig: Rig, hook: str, where: AttachType, since: str, cookie: bool = False) -> Counter:
    if not rig.at_least(since):
        program = rig.counter(ProgType.KPROBE, own=True, hook=hook)
        program.spec.attach_type = where
        return program
    return rig.counter(ProgType.KPROBE, where, own=True, hook=hook, cookie=cookie)


@scenario("5.18", refused="kprobe.multi")
def multi(rig: Rig) -> None:
    for hook in ("kprobe.multi", "kretprobe.multi"):
        program = _multi(rig, hook, AttachType.TRACE_KPROBE_MULTI, "5.18", cookie=True)
        if program.kernel.version >= (5, 18) and not _has_fprobe(rig):
            try:
                program.attach([GETPPID])
            except NotSupported as error:
                assert "FPROBE" in str(error)
                return
            raise AssertionError("kprobe.multi without CONFIG_FPROBE")
        with program.attach([GETPPID, "__x64_sys_getuid"], cookies=[5, 6]) as link:
            assert link.kind == "bpf_link"
            os.getppid()
            assert program.hits == 1 and program.seen == 5
            os.getuid()
            assert program.hits == 2 and program.seen == 6
        os.getppid()
        assert program.hits == 2
        with program.attach("__x64_sys_getpgi?"):
            os.getpgid(0)
            assert program.hits == 3


def _has_fprobe(rig: Rig) -> bool:
    with open("/proc/kallsyms", encoding="ascii") as file:
        return any(" register_fprobe_syms\n" in line for line in file)


@scenario("6.10", refused="kprobe.session")
def session(rig: Rig) -> None:
    """One program at entry and return; the value 0 at entry asks for the return."""
    program = _multi(rig, "kprobe.session", AttachType.TRACE_KPROBE_SESSION, "6.10")
    with program.attach([GETPPID]):
        os.getppid()
        assert program.hits == 2
