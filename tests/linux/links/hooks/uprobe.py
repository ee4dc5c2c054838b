"""uprobes in a library that this process loads, seen in this process alone."""

from __future__ import annotations

import ctypes

from skep.errors import KernelError
from skep.uapi.enums import AttachType, ProgType
from tests.linux.links.rig import Counter, Rig, scenario


def _probe(rig: Rig, hook: str = "uprobe", to: str = "", cookie: bool = False) -> Counter:
    return rig.counter(ProgType.KPROBE, own=True, hook=hook, to=to, cookie=cookie)


@scenario()
def entry_and_return(rig: Rig) -> None:
    path = rig.library()
    twice = ctypes.CDLL(path).twice
    for hook in ("uprobe", "uretprobe"):
        for legacy in (None, True):
            for by_link in (None, False):
                program = _probe(rig, hook, f"{path}:twice")
                with program.attach(pid=0, legacy=legacy, link=by_link) as link:
                    linked = by_link is None and rig.at_least("5.15")
                    assert link.kind == ("bpf_link" if linked else "tracefs" if legacy else "perf"), link
                    assert twice(21) == 42 and program.hits == 1
                assert twice(21) == 42 and program.hits == 1


@scenario()
def names(rig: Rig) -> None:
    """A static function, versions of one name, an offset in the file."""
    path = rig.library()
    library = ctypes.CDLL(path)
    for function, calls in (
        ("hidden", 1),
        ("versioned", 1),
        ("versioned@@SKEP_2", 1),
        ("versioned@SKEP_1", 0),
    ):
        program = _probe(rig)
        with program.attach(path, function, pid=0):
            library.fire(1)
            library.versioned(1)
            assert program.hits == calls, function
    from skep.linux.links.elfsym import function_offset

    program = _probe(rig)
    with program.attach(f"{path}:{function_offset(path, 'twice'):#x}", pid=0):
        library.twice(1)
        assert program.hits == 1


@scenario()
def dynamic_only(rig: Rig) -> None:
    """libc has no full symbol table; the program is found by its name."""
    program = _probe(rig, to="libc.so.6:getppid")
    with program.attach(pid=0):
        ctypes.CDLL(None).getppid()
        assert program.hits == 1


@scenario("5.15")
def cookie(rig: Rig) -> None:
    path = rig.library()
    program = _probe(rig, cookie=rig.at_least("5.15"))
    with program.attach(path, "twice", pid=0, cookie=0x77):
        ctypes.CDLL(path).twice(1)
        assert program.hits == 1 and program.seen == 0x77


@scenario()
def refusals(rig: Rig) -> None:
    path = rig.library()
    program = _probe(rig)
    for arguments, words in (
        ((path, "none_such"), "none_such"),
        (("/nowhere/at/all", "main"), "/nowhere/at/all"),
        (("no-such-program", "main"), "no-such-program"),
        ((path,), "function or an offset"),
        ((), "binary"),
        (("/proc/version", "main"), "/proc/version"),
    ):
        try:
            program.attach(*arguments)
        except Exception as error:
            assert words in str(error), error
        else:
            raise AssertionError(f"{arguments} attached")


def _multi(rig: Rig, hook: str, where: AttachType, since: str, cookie: bool = False) -> Counter:
    if not rig.at_least(since):
        program = _probe(rig, hook)
        program.spec.attach_type = where
        return program
    return rig.counter(ProgType.KPROBE, where, own=True, hook=hook, cookie=cookie)


@scenario("6.6")
def multi(rig: Rig) -> None:
    path = rig.library()
    library = ctypes.CDLL(path)
    for hook in ("uprobe.multi", "uretprobe.multi"):
        program = _multi(rig, hook, AttachType.TRACE_UPROBE_MULTI, "6.6", cookie=True)
        with program.attach(path, ["target_a", "target_b"], pid=0, cookies=[8, 9]) as link:
            assert link.kind == "bpf_link"
            assert library.target_a(1) == 2 and (program.hits, program.seen) == (1, 8)
            assert library.target_b(1) == 3 and (program.hits, program.seen) == (2, 9)
        library.target_a(1)
        assert program.hits == 2
        with program.attach(f"{path}:target_*", pid=0):
            library.target_a(1)
            library.target_b(1)
            assert program.hits == 4


@scenario("6.13")
def session(rig: Rig) -> None:
    path = rig.library()
    program = _multi(rig, "uprobe.session", AttachType.TRACE_UPROBE_SESSION, "6.13")
    with program.attach(f"{path}:twice", pid=0):
        ctypes.CDLL(path).twice(1)
        assert program.hits == 2


def _specs(rig: Rig) -> int:
    fd = rig.kernel.map_create(2, 4, 208, 8, name="usdt_specs")
    rig.later(lambda: rig.kernel.close(fd))
    return fd


@scenario()
def usdt(rig: Rig) -> None:
    """A probe fires at its place; one with a semaphore only runs while someone is attached."""
    path = rig.library()
    library = ctypes.CDLL(path)
    gate = ctypes.c_ushort.in_dll(library, "skep_gate_semaphore") if _exported(library) else None
    for name in ("open", "gate"):
        program = _probe(rig, "usdt", f"{path}:skep:{name}")
        with program.attach(pid=0):
            assert gate is None or gate.value == (name == "gate")
            library.fire(5)
            assert program.hits == 1, name
        library.fire(5)
        assert program.hits == 1
    try:
        _probe(rig, "usdt").attach(path, "skep", "none")
    except KernelError as error:
        assert "skep:none" in str(error)
    else:
        raise AssertionError("skep:none attached")


def _exported(library: ctypes.CDLL) -> bool:
    try:
        ctypes.c_ushort.in_dll(library, "skep_gate_semaphore")
    except ValueError:
        return False
    return True


@scenario()
def usdt_specs(rig: Rig) -> None:
    """The cookie, or before cookies the address, leads to the spec that says where the arguments are."""
    path = rig.library()
    library = ctypes.CDLL(path)
    known = rig.at_least("5.15")
    program = _probe(rig, "usdt", cookie=known)
    specs = _specs(rig)
    ips = rig.kernel.map_create(1, 8, 4, 8, name="usdt_ips")
    rig.later(lambda: rig.kernel.close(ips))
    with (
        program.attach(path, "skep", "open", pid=0, specs=specs, ips=ips, cookie=1),
        program.attach(path, "skep", "gate", pid=0, specs=specs, ips=ips, cookie=2),
    ):
        library.fire(5)
        assert program.hits == 2
        if known:
            assert program.seen == 1  # "gate" came last
        else:
            start = ctypes.cast(library.fire, ctypes.c_void_p).value or 0
            key = bytearray(8)
            rig.kernel.map_get_next_key(ips, None, key)
            assert 0 <= int.from_bytes(key, "little") - start < 64
        value = bytearray(208)
        for number, arguments in ((0, 3), (1, 1)):
            rig.kernel.map_lookup_elem(specs, number.to_bytes(4, "little"), value)
            assert int.from_bytes(value[200:202], "little") == arguments
            assert int.from_bytes(value[192:200], "little") == number + 1  # the user's cookie
    for number in (0, 1):
        rig.kernel.map_lookup_elem(specs, number.to_bytes(4, "little"), value)
        assert not any(value), "a slot is given back when its link is closed"
    # Many times more links than slots, one after the other; two of one content share a slot.
    for _ in range(20):
        with (
            program.attach(path, "skep", "open", pid=0, specs=specs, ips=ips),
            program.attach(path, "skep", "open", pid=0, specs=specs, ips=ips) as again,
        ):
            again.close()
            rig.kernel.map_lookup_elem(specs, bytes(4), value)
            assert int.from_bytes(value[200:202], "little") == 3
