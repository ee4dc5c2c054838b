"""Netfilter hooks."""

from __future__ import annotations

from skep.errors import NotSupported
from skep.uapi.enums import AttachType, ProgType
from tests.linux.links.rig import Rig, scenario


@scenario("6.4")
def hooks(rig: Rig) -> None:
    if not rig.at_least("6.4"):
        raise NotSupported(95, "netfilter programs", since="6.4")  # such a program cannot even be loaded
    for hook in ("input", "output", "prerouting", "postrouting"):
        program = rig.counter(ProgType.NETFILTER, AttachType.NETFILTER, ret=0)  # NF_DROP
        with rig.network():
            with program.attach(hook, priority=-7) as link:
                assert link.kind == "bpf_link"
                try:
                    arrived = rig.ping_self(dropped=program)
                except PermissionError:
                    arrived = 0  # a packet dropped on its way out is an error to the sender
                assert arrived == 0 and program.hits == 1
                try:
                    link.update(program)
                except NotSupported as error:
                    assert "replacing" in str(error)
                else:
                    raise AssertionError("netfilter links cannot be updated")
            assert rig.ping_self() == 1 and program.hits == 1
