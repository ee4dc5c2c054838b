"""struct_ops: a congestion control that sockets of this process can choose while it is registered."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import skep
from skep.btf import Btf
from skep.errors import LinkError, NotSupported
from skep.kernel.object import Object
from skep.kernel.struct_ops import StructOps, member_of
from skep.obj import CoreTarget, read
from skep.obj.spec import ObjectSpec
from tests.kernel.build import build, no_leaks
from tests.linux.links.rig import wait
from tests.support import oracles

pytestmark = pytest.mark.live
KNOWN = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


#: the kernel has one list of names for all processes
NAME = f"skep_{os.getpid()}".encode()


def declared(*flags: str) -> ObjectSpec:
    """The object, its congestion control under a name of this process."""
    spec = read(build("congestion", *flags))
    for map in spec.maps.values():
        if map.data and b"skep_fixed" in map.data:
            map.data = map.data.replace(b"skep_fixed".ljust(16, b"\0"), NAME.ljust(16, b"\0"))
    return spec


def choose(obj: Object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, 13, NAME)  # TCP_CONGESTION
        client.connect(server.getsockname())
        peer, _ = server.accept()
        with peer:
            for _ in range(20):
                client.sendall(bytes(3000))
                left = 3000
                while left:
                    left -= len(peer.recv(left))
    wait(lambda: obj.bss.asked)


@pytest.mark.parametrize("section", [".struct_ops", ".struct_ops.link"])
def test_a_congestion_control(section: str) -> None:
    oracles.bpf()
    with no_leaks(), skep.load(declared(f'-DSECTION="{section}"')) as obj:
        assert NAME.decode() not in KNOWN.read_text().split()
        with obj.attach_struct_ops("fixed") as link:
            assert link.kind == ("bpf_link" if section.endswith("link") else "struct_ops")
            assert NAME.decode() in KNOWN.read_text().split()
            choose(obj)
        assert NAME.decode() not in KNOWN.read_text().split()


def test_what_the_declaration_does_not_say() -> None:
    oracles.bpf()
    spec = read(build("congestion"))
    del spec.maps["fixed"].contents[0]
    with no_leaks(), pytest.raises(LinkError, match="program fixed_ssthresh: no struct_ops map uses it"):
        skep.load(spec)
    spec = read(build("congestion"))
    spec.maps["fixed"].contents = {3: "fixed_ssthresh"}
    with no_leaks(), pytest.raises(LinkError, match="tcp_congestion_ops has no member None"):
        skep.load(spec, programs=["fixed_ssthresh"])


def test_structs_of_modules() -> None:
    """A struct that a module has: the module's BTF goes along with the map and the program (Linux 6.9)."""
    oracles.bpf()
    spec = read(build("congestion"))
    other = read(build("handles")).btf
    assert other is not None
    map, target = spec.maps["fixed"], CoreTarget(other)
    with pytest.raises(NotSupported, match="neither in the kernel's BTF nor in that of a loaded module"):
        StructOps(spec, map, target, lambda: [("bystander", 5, other)])
    kernel = Btf.kernel()
    modules = [("bystander", 5, other), ("home", 77, kernel)]
    ops = StructOps(spec, map, target, lambda: modules)
    assert (ops.kernel, ops.btf_obj) == (kernel, 77)
    program = spec.programs["fixed_ssthresh"]
    own = member_of(spec, program, CoreTarget(kernel))
    assert "attach_btf_obj_fd" not in own
    assert member_of(spec, program, target, lambda: modules) == own | {"attach_btf_obj_fd": 77}
