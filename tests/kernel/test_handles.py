"""Handles in wrong hands: other kinds of pins, closed ones, attachments whose interface has gone."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import skep
from skep.errors import KernelError, LinkError, NotSupported, PermissionDenied
from skep.kernel import sharing
from skep.kernel.handle import Handle
from skep.kernel.object import Object
from skep.kernel.open import link_from_pin, map_by_id, map_from_fd, map_from_pin, program_from_pin
from tests.kernel.build import build, no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live
NETNS = f"skephandles{os.getpid()}"


@pytest.fixture
def obj() -> Iterator[Object]:
    oracles.bpf()
    with no_leaks(), skep.load(build("handles")) as made:
        yield made


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "bpffs")
    os.mkdir(path)
    if subprocess.run(["mount", "-t", "bpf", "bpf", path], capture_output=True, check=False).returncode:
        oracles.absent("the right to mount bpffs")
    yield path
    subprocess.run(["umount", "-l", path], check=True)  # others may look into all file systems


def ip(*words: str) -> None:
    subprocess.run([oracles.tool("ip"), *words], check=True, capture_output=True)


@pytest.fixture
def veth() -> Iterator[str]:
    """A pair of interfaces, va and vb, in a network namespace; its name."""
    oracles.netns()
    ip("netns", "add", NETNS)
    try:
        ip("-n", NETNS, "link", "add", "va", "type", "veth", "peer", "name", "vb")
        yield NETNS
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], capture_output=True, check=False)


OPENERS: dict[str, Callable[..., Handle]] = {
    "a map": map_from_pin,
    "a program": program_from_pin,
    "a link": link_from_pin,
}


def test_a_pin_is_opened_as_what_it_is(obj: Object, bpffs: str) -> None:
    obj.numbers.pin(f"{bpffs}/map")
    obj.first.pin(f"{bpffs}/program")
    with obj.raw.attach() as link:
        link.pin(f"{bpffs}/link")
        for there in OPENERS:
            path = f"{bpffs}/{there.split()[1]}"
            for wanted, opener in OPENERS.items():
                if wanted == there:
                    opener(obj.kernel, path).close()
                    continue
                with pytest.raises(KernelError, match=f"{path} is {there}, not {wanted}"):
                    opener(obj.kernel, path)
        os.unlink(f"{bpffs}/link")
    with pytest.raises(KernelError, match="is a program, not a map"):
        map_from_fd(obj.kernel, os.dup(obj.first.fd))
    with pytest.raises(KernelError, match="is /dev/null, not a map"):
        map_from_fd(obj.kernel, os.open(os.devnull, os.O_RDONLY))


def test_where_nothing_can_be_pinned(obj: Object, bpffs: str, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="no names with a dot"):
        obj.numbers.pin(f"{bpffs}/a.b")
    with pytest.raises(KernelError, match="a zero byte in a path"):
        obj.numbers.pin(f"{bpffs}/a\0b")
    assert not {"a", "a.b", "a\0b"} & set(os.listdir(bpffs))
    obj.numbers.pin(f"{bpffs}/a")
    with pytest.raises(KernelError, match="something is pinned there already"):
        obj.first.pin(f"{bpffs}/a")
    with pytest.raises(KernelError, match="not a bpffs"):
        obj.numbers.pin(str(tmp_path / "a"))
    for id in (-1, 1 << 40):
        with pytest.raises(KernelError, match=f"no map has id {id}"):
            map_by_id(obj.kernel, id)


def test_a_link_that_only_closing_ends(obj: Object, bpffs: str) -> None:
    """Raw tracepoints have no BPF_LINK_DETACH: detaching is closing, and says so when that is not enough."""
    link = obj.raw.attach()
    link.detach()
    assert link.closed
    link.detach()
    link = obj.raw.attach()
    link.pin(f"{bpffs}/link")
    with pytest.raises(NotSupported, match="while it is pinned"):
        link.detach()
    assert link.closed
    os.unlink(f"{bpffs}/link")


def test_replacing_and_refusing(obj: Object, veth: str) -> None:
    with obj.first.attach("va", netns=veth) as link:
        with pytest.raises(KernelError, match="another program is attached there"):
            obj.second.attach("va", netns=veth)
        link.update(obj.second, old=obj.first)
        with pytest.raises(KernelError, match="another program is attached now") as caught:
            link.update(obj.second, old=obj.first)
        assert caught.value.errno == errno.EPERM and not isinstance(caught.value, PermissionDenied)
        with pytest.raises(KernelError, match="no program of this type"):
            link.update(obj.classifier)
    for index in (-5, 0, 1 << 40):
        with pytest.raises(KernelError, match=f"no network interface has index {index}"):
            obj.first.attach(index, netns=veth)
    for name in ("nosuch", "a\0b", "a" * 300, 1.5):
        with pytest.raises(KernelError, match="no network interface is called"):
            obj.first.attach(name, netns=veth)


@pytest.mark.parametrize("gone", ["the interface", "the namespace"])
def test_what_it_was_attached_to_goes(obj: Object, veth: str, gone: str) -> None:
    links = [
        obj.first.attach("va", netns=veth),
        obj.second.attach("vb", netns=veth, link=False),
        obj.classifier.attach("va", "ingress", netns=veth),
        obj.classifier.attach("vb", "egress", netns=veth, link=False),
    ]
    assert [link.kind for link in links[1::2]] == ["netlink", "netlink"]
    if gone == "the interface":
        ip("-n", veth, "link", "del", "va")
        with pytest.raises(KernelError, match="what it was attached to is gone"):
            links[0].update(obj.second)
        with pytest.raises(KernelError, match="No such device"):
            links[1].update(obj.first)
    else:
        ip("netns", "del", veth)
    for link in links:
        link.detach()
        link.close()
        assert link.closed


def test_descriptors_from_strangers(obj: Object) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sharing.send(ours, numbers=obj.numbers, first=obj.first)
        got = sharing.receive(theirs, obj.kernel)
        obj.numbers[3] = 9
        assert got["numbers"][3] == 9  # type: ignore[index]  # a map, by its name
        for handle in got.values():
            handle.close()

        def message(names: bytes, *fds: int) -> None:
            socket.send_fds(ours, [len(names).to_bytes(4, "big") + names], fds)

        for names, fds, complaint in (
            (b'["a", "a"]', [obj.numbers.fd] * 2, "no such list of names"),
            (b'["a"]', [obj.numbers.fd] * 2, "no such list of names"),
            (b"\xff", [obj.numbers.fd], "no such list of names"),
            (b'["a"]', [sys.__stderr__.fileno()], "a descriptor of .* came: maps and"),  # type: ignore[union-attr]  # is there
        ):
            message(names, *fds)
            with pytest.raises(KernelError, match=complaint) as caught:
                sharing.receive(theirs, obj.kernel)
            assert caught.value.errno == errno.EPROTO
    with pytest.raises(KernelError, match="0 handles"):
        sharing.send(ours)


def test_no_socket(obj: Object) -> None:
    with open(os.devnull, encoding="utf-8") as file:
        for target, complaint in ((99999, "Bad file descriptor"), (file, "non-socket")):
            with pytest.raises(KernelError, match=complaint):
                obj.filter.attach(target)


def test_names_that_the_object_has_not(obj: Object) -> None:
    for use, complaint in (
        (lambda: obj.reader("nosuch"), "object handles: no map 'nosuch' is loaded; there are: numbers"),
        (lambda: obj.globals("nosuch"), "no map 'nosuch' is loaded"),
        (lambda: obj.attach("nosuch"), "no program 'nosuch' is loaded; there are: first, second"),
        (lambda: obj.attach_struct_ops("numbers"), "no struct_ops map 'numbers' is loaded; there are: none"),
    ):
        with pytest.raises(LinkError, match=complaint):
            use()
    assert obj.links == []


def test_raw_takes_bytes(obj: Object) -> None:
    raw = obj.numbers.raw
    for key in (0, "1234", None, [1, 2, 3, 4]):
        with pytest.raises(KernelError, match="where a key belongs: `raw` takes bytes"):
            raw[key]
        with pytest.raises(KernelError, match="where a value belongs"):
            raw[bytes(4)] = key
    with pytest.raises(KernelError, match="a key of 3 bytes, not 4"):
        raw[b"abc"]


def test_a_frozen_map_says_so(obj: Object) -> None:
    obj.numbers.freeze()
    with pytest.raises(KernelError, match="the map is frozen or read-only"):
        obj.numbers[1] = 2
    with pytest.raises(KernelError, match="the map is frozen or read-only"):
        obj.numbers.update({1: 2})
    assert dict(obj.numbers) == {}
