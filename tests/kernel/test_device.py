"""Programs loaded for one network device: its driver's metadata, and cards that run programs."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator

import pytest

import skep
from skep.errors import KernelError, LinkError, VerifierError
from skep.linux.netlink import in_netns
from skep.loading import open_kernel
from tests.kernel.build import build, no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live
NETNS = f"skepdevice{os.getpid()}"


def _ip(*words: str) -> None:
    subprocess.run([oracles.tool("ip"), *words], check=True, capture_output=True)


@pytest.fixture
def veth() -> Iterator[str]:
    """A namespace with two pairs of interfaces, va and vb, vc and vd; its name."""
    oracles.bpf()
    oracles.netns()
    _ip("netns", "add", NETNS)
    try:
        for one, other in (("va", "vb"), ("vc", "vd")):
            _ip("-n", NETNS, "link", "add", one, "type", "veth", "peer", "name", other)
            for name in (one, other):
                _ip("-n", NETNS, "link", "set", name, "up")
        yield NETNS
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], capture_output=True, check=False)


def test_metadata_of_the_driver(veth: str) -> None:
    if open_kernel().version < (6, 3):
        pytest.skip("programs bound to a device are of Linux 6.3")
    with no_leaks(), in_netns(veth):
        with pytest.raises(VerifierError, match="metadata kfuncs require device-bound program"):
            skep.load(build("device"), programs=["hashed"])
        with skep.load(build("device"), programs=["hashed"], device="va") as obj:
            with obj.hashed.attach("va", mode="native"):
                pass
            with pytest.raises(KernelError):  # it is the other's
                obj.hashed.attach("vc", mode="native")


def test_what_is_no_xdp_is_loaded_as_ever(veth: str) -> None:
    with (
        no_leaks(),
        in_netns(veth),
        skep.load(build("device"), programs=["sock", "plain"], device="va") as obj,
    ):
        assert set(obj.programs) == {"sock", "plain"}


def test_no_card_takes_programs_here(veth: str) -> None:
    with no_leaks(), in_netns(veth):
        with pytest.raises(KernelError, match="map seen: interface va runs no programs itself") as caught:
            skep.load(build("device_map"), offload="va")
        assert caught.value.errno in (errno.EINVAL, errno.EOPNOTSUPP)
        with pytest.raises(KernelError, match="program plain: interface va runs no programs itself"):
            skep.load(build("device"), programs=["plain"], offload="va")
        with pytest.raises(LinkError, match="cards run XDP and tc programs, this is socket_filter"):
            skep.load(build("device"), programs=["sock"], offload="va")
        with skep.load(build("device"), programs=["plain"]) as obj:
            for link in (None, False):  # loaded for the host
                with pytest.raises(KernelError):
                    obj.plain.attach("va", mode="offload", link=link)


def test_what_is_asked_of_the_kernel() -> None:
    """The attributes of both commands, as libbpf's set_ifindex has them."""
    oracles.bpf()
    kernel = open_kernel()
    asked: list[tuple[str, int]] = []

    class Watching:
        def __getattr__(self, name: str) -> object:
            return getattr(kernel, name)

        def map_create(self, *args: object, **attr: int) -> int:
            asked.append(("map", attr.get("map_ifindex", 0)))
            attr.pop("map_ifindex", None)
            return kernel.map_create(*args, **attr)  # type: ignore[arg-type]  # handed on

        def prog_load(self, *args: object, **attr: int) -> object:
            asked.append(("prog", attr.pop("prog_ifindex", 0)))
            return kernel.prog_load(*args, **attr)  # type: ignore[arg-type]  # handed on

    for how, expected in (({"offload": 7}, 7), ({}, 0)):
        asked.clear()
        with skep.load(build("device_map"), kernel=Watching(), **how):  # type: ignore[arg-type]  # a stand-in
            assert [row for row in asked if row[0] == "prog"][-1] == ("prog", expected)
            assert ("map", expected) in asked


def test_one_device() -> None:
    with pytest.raises(LinkError, match="offload and device"):
        skep.load(build("device"), offload="lo", device="lo")
    for option in ("offload", "device"):
        with pytest.raises(KernelError, match="no network interface is called 'nosuch'"):
            skep.load(build("device"), **{option: "nosuch"})
