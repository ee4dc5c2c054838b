"""Classifiers: TCX or clsact, netkit, actions."""

from __future__ import annotations

import contextlib

from skep.uapi.enums import AttachType, ProgType
from skep.uapi.flags import TCX_DROP, TCX_NEXT
from tests.linux.links.rig import Counter, Rig, scenario, wait


def _tc(rig: Rig, ret: int = TCX_NEXT, where: AttachType | None = None) -> Counter:
    return rig.counter(ProgType.SCHED_CLS, where, ret=ret, load_type=False)


@scenario()
def both_ways(rig: Rig) -> None:
    kind = "bpf_link" if rig.at_least("6.6") else "netlink"
    with rig.network():
        for direction in ("ingress", "egress"):
            passing, dropping = _tc(rig), _tc(rig, TCX_DROP)
            with passing.attach("lo", direction) as link:
                assert link.kind == kind
                assert rig.ping_self() == 1 and passing.hits == 1
                link.update(dropping)
                assert rig.ping_self(dropped=dropping) == 0 and dropping.hits == 1 and passing.hits == 1
            assert rig.ping_self() == 1 and dropping.hits == 1


@scenario()
def by_netlink(rig: Rig) -> None:
    """The qdisc comes with the first filter and goes with the last, unless it was there before."""
    one, two, other = _tc(rig), _tc(rig, TCX_DROP), _tc(rig, where=AttachType.TCX_EGRESS)
    with rig.network():
        link = one.attach("lo", "ingress", link=False)
        assert link.kind == "netlink" and "clsact" in _qdiscs()
        with other.attach("lo", link=False):
            assert rig.ping_self() == 1 and (one.hits, other.hits) == (1, 1)
            link.update(two)
            assert rig.ping_self(dropped=two) == 0 and (one.hits, two.hits) == (1, 1)
        assert "clsact" in _qdiscs()
        link.close()
        assert "clsact" not in _qdiscs()
        assert rig.ping_self() == 1 and two.hits == 1


def _qdiscs() -> str:
    from skep.linux.netlink import NLM_F_DUMP, Netlink

    with Netlink() as link:
        return "".join(str(m.payload) for m in link.request("RTM_GETQDISC", 38, bytes(20), NLM_F_DUMP))


@scenario(refused="matchall classifier")
def action(rig: Rig) -> None:
    program = rig.counter(ProgType.SCHED_ACT, ret=2)  # TC_ACT_SHOT
    with rig.network():
        with program.attach("lo", "ingress") as link:
            assert link.kind == "netlink"
            assert rig.ping_self(dropped=program) == 0 and program.hits == 1
        assert rig.ping_self() == 1


@scenario("6.6")
def ordered(rig: Rig) -> None:
    first, last = _tc(rig, TCX_DROP), _tc(rig)
    with rig.network(), last.attach("lo", "ingress"):
        with first.attach("lo", "ingress", before=last):
            assert rig.ping_self(dropped=first) == 0 and (first.hits, last.hits) == (1, 0)
        with first.attach("lo", "ingress", after=last):
            assert rig.ping_self(dropped=first) == 0 and (first.hits, last.hits) == (2, 1)


@scenario("6.7", "netkit devices")
def netkit(rig: Rig) -> None:
    program = rig.counter(ProgType.SCHED_CLS, AttachType.NETKIT_PRIMARY, ret=TCX_DROP, load_type=False)
    with rig.network():
        if not rig.at_least("6.7"):
            rig.pair()
            program.attach("s0")
        first, _ = rig.pair("netkit", mode=0)
        with program.attach(first) as link:
            assert link.kind == "bpf_link"

            def send() -> None:
                with contextlib.suppress(OSError):  # what is dropped on its way out is an error to the sender
                    rig.inject(first, b"\xff" * 12 + b"\x08\x00" + bytes(46))

            wait(lambda: program.hits, send)
