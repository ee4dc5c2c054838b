"""XDP on interfaces of a new network namespace."""

from __future__ import annotations

import errno

from skep.errors import KernelError
from skep.uapi.enums import AttachType, ProgType
from skep.uapi.flags import XDP_DROP, XDP_PASS
from tests.linux.links.rig import Counter, Rig, scenario, wait


def _xdp(rig: Rig, ret: int = XDP_PASS) -> Counter:
    known = rig.at_least("5.9")
    return rig.counter(ProgType.XDP, AttachType.XDP, ret=ret, load_type=known)


@scenario()
def generic(rig: Rig) -> None:
    passing, dropping = _xdp(rig), _xdp(rig, XDP_DROP)
    with rig.network():
        with passing.attach("lo", mode="generic") as link:
            assert link.kind == ("bpf_link" if rig.at_least("5.9") else "netlink")
            assert rig.ping_self() == 1 and passing.hits == 1
            link.update(dropping)
            assert rig.ping_self(dropped=dropping) == 0 and dropping.hits == 1 and passing.hits == 1
        assert rig.ping_self() == 1 and dropping.hits == 1


@scenario()
def native(rig: Rig) -> None:
    program = _xdp(rig, XDP_DROP)
    with rig.network():
        first, second = rig.pair()
        with program.attach(first, mode="native"):
            wait(lambda: program.hits, lambda: rig.inject(second, b"\xff" * 12 + b"\x08\x00" + bytes(46)))


@scenario()
def by_netlink(rig: Rig) -> None:
    one, two, other = _xdp(rig), _xdp(rig, XDP_DROP), _xdp(rig)
    with rig.network():
        link = one.attach("lo", mode="generic", link=False)
        assert link.kind == "netlink"
        assert rig.ping_self() == 1 and one.hits == 1
        try:
            other.attach("lo", mode="generic", link=False)
        except KernelError as error:
            assert error.errno == errno.EBUSY
        else:
            raise AssertionError("a second program took the place of the first")
        link.update(two)
        assert rig.ping_self(dropped=two) == 0 and two.hits == 1
        link.close()
        assert rig.ping_self() == 1 and two.hits == 1


@scenario()
def another_namespace(rig: Rig) -> None:
    """Attached from outside, by the process that is inside."""
    program = _xdp(rig)
    with rig.network():
        import os

        inside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    with rig.network(), program.attach("lo", mode="generic", netns=f"/proc/self/fd/{inside}"):
        assert rig.ping_self() == 1 and program.hits == 0
        from skep.linux.netlink import in_netns

        with in_netns(f"/proc/self/fd/{inside}"):
            assert rig.ping_self() == 1 and program.hits == 1
    os.close(inside)


@scenario()
def refusals(rig: Rig) -> None:
    program = _xdp(rig)
    with rig.network():
        for arguments, options, words in (
            (("none0",), {}, "none0"),
            ((), {}, "interface"),
            (("lo",), {"mode": "fast"}, "fast"),
            (("lo",), {"colour": 1}, "colour"),
        ):
            try:
                program.attach(*arguments, **options)
            except KernelError as error:
                assert words in str(error), error
            else:
                raise AssertionError(f"{arguments} {options} attached")
