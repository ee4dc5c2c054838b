"""`LinuxKernel` on the running kernel: each command does what its name says, errors say why."""

from __future__ import annotations

import errno
import os
import socket
import struct
import uuid
from collections.abc import Callable, Iterator

import pytest

from skep.errors import KernelError, NotSupported
from skep.isa import Insn, encode
from skep.linux.kernel import LinuxKernel, object_name
from skep.uapi.attr import INFO
from skep.uapi.enums import MapType, ProgType
from tests.support.oracles import bpf

RETURN_7 = encode([Insn(0xB7, 0, 0, 0, 7), Insn(0x95)])

pytestmark = pytest.mark.live


@pytest.fixture
def kernel() -> LinuxKernel:
    bpf()
    return LinuxKernel()


@pytest.fixture
def own(kernel: LinuxKernel) -> Iterator[Callable[[int], int]]:
    """Descriptors passed through are closed at the end, and then nothing is open that was not before."""
    before = set(os.listdir("/proc/self/fd"))
    kept: list[int] = []

    def keep(fd: int) -> int:
        kept.append(fd)
        return fd

    yield keep
    for fd in kept:
        kernel.close(fd)
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # listdir's own


Own = Callable[[int], int]


def test_hash_elements(kernel: LinuxKernel, own: Own) -> None:
    fd = own(kernel.map_create(MapType.HASH, 4, 8, 2, name="skep-test"))
    kernel.map_update_elem(fd, b"aaaa", struct.pack("=Q", 1))
    kernel.map_update_elem(fd, b"bbbb", struct.pack("=Q", 2))
    value = bytearray(8)
    kernel.map_lookup_elem(fd, b"bbbb", value)
    assert struct.unpack("=Q", value) == (2,)
    keys = set()
    key: bytearray | None = None
    while True:
        following = bytearray(4)
        try:
            kernel.map_get_next_key(fd, key, following)
        except KernelError as error:
            assert error.errno == errno.ENOENT
            break
        keys.add(bytes(following))
        key = following
    assert keys == {b"aaaa", b"bbbb"}
    with pytest.raises(KernelError, match="full") as full:
        kernel.map_update_elem(fd, b"cccc", value)
    assert full.value.errno == errno.E2BIG
    with pytest.raises(KernelError, match="no such key"):
        kernel.map_lookup_elem(fd, b"cccc", value)
    kernel.map_delete_elem(fd, b"aaaa")
    kernel.map_lookup_and_delete_elem(fd, b"bbbb", value)
    with pytest.raises(KernelError, match="BPF_MAP_DELETE_ELEM: no such key"):
        kernel.map_delete_elem(fd, b"aaaa")


def test_batches(kernel: LinuxKernel, own: Own) -> None:
    fd = own(kernel.map_create(MapType.HASH, 4, 4, 1000))
    keys = b"".join(struct.pack("=I", k) for k in range(1000))
    assert kernel.map_update_batch(fd, keys, keys, 1000) == 1000
    seen: dict[int, int] = {}
    position: bytearray | None = None
    while True:
        following, found, values = bytearray(4), bytearray(4 * 300), bytearray(4 * 300)
        count, end = kernel.map_lookup_batch(fd, position, following, found, values, 300)
        got = struct.unpack(f"={count}I", found[: 4 * count])
        seen.update(zip(got, struct.unpack(f"={count}I", values[: 4 * count]), strict=True))
        position = following
        if end:
            break
    assert seen == {k: k for k in range(1000)}
    assert kernel.map_delete_batch(fd, keys, 1000) == 1000
    assert kernel.map_lookup_batch(fd, None, bytearray(4), bytearray(4), bytearray(4), 1) == (0, True)


def test_program_runs_and_is_found_by_id(kernel: LinuxKernel, own: Own) -> None:
    fd, log = kernel.prog_load(ProgType.SOCKET_FILTER, RETURN_7, "GPL", name="seven", log_level=2)
    own(fd)
    assert "processed 2 insns" in log
    done = kernel.prog_test_run(fd, bytes(64), repeat=3)
    assert done.retval == 7
    info = INFO["bpf_prog_info"].unpack(kernel.obj_get_info_by_fd(fd, "prog"))
    name = info["name"]
    assert isinstance(name, bytes) and name.rstrip(b"\0") == b"seven"
    number = info["id"]
    assert isinstance(number, int)
    again = own(kernel.get_fd_by_id("prog", number))
    assert INFO["bpf_prog_info"].unpack(kernel.obj_get_info_by_fd(again, "prog"))["tag"] == info["tag"]
    following = kernel.get_next_id("prog", number - 1)
    assert following == number
    assert kernel.get_next_id("prog", 0x7FFFFFFE) is None


def test_instructions_are_read_back(kernel: LinuxKernel, own: Own) -> None:
    fd, _ = kernel.prog_load(ProgType.SOCKET_FILTER, RETURN_7, "GPL")
    own(fd)
    room = bytearray(64)
    data = kernel.obj_get_info_by_fd(fd, "prog", {"xlated_prog_insns": room, "xlated_prog_len": len(room)})
    length = INFO["bpf_prog_info"].unpack(data)["xlated_prog_len"]
    assert room[:length] == RETURN_7  # type: ignore[misc]  # a number in this struct


def test_refused_program_carries_the_log(kernel: LinuxKernel) -> None:
    with pytest.raises(KernelError, match="R0 !read_ok") as refused:
        kernel.prog_load(ProgType.SOCKET_FILTER, encode([Insn(0x95)]), "GPL")
    assert refused.value.errno == errno.EACCES
    assert "processed 1 insns" in refused.value.log


def test_socket_and_reuse_of_descriptors(kernel: LinuxKernel, own: Own) -> None:
    fd, _ = kernel.prog_load(ProgType.SOCKET_FILTER, encode([Insn(0xB7), Insn(0x95)]), "GPL")
    own(fd)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        kernel.setsockopt(right.fileno(), socket.SOL_SOCKET, 50, fd)  # SO_ATTACH_BPF
        left.send(b"dropped")
        with pytest.raises(BlockingIOError):
            right.recv(10, socket.MSG_DONTWAIT)
        kernel.setsockopt(right.fileno(), socket.SOL_SOCKET, 27, 0)  # SO_DETACH_BPF
        left.send(b"kept")
        assert right.recv(10, socket.MSG_DONTWAIT) == b"kept"


def test_mmap_of_an_array(kernel: LinuxKernel, own: Own) -> None:
    fd = own(kernel.map_create(MapType.ARRAY, 4, 8, 16, 1 << 10))  # BPF_F_MMAPABLE
    view = kernel.mmap(fd, 4096, writable=True)
    view[8:16] = struct.pack("=Q", 99)
    value = bytearray(8)
    kernel.map_lookup_elem(fd, struct.pack("=I", 1), value)
    assert struct.unpack("=Q", value) == (99,)
    kernel.munmap(view)


def test_freeze(kernel: LinuxKernel, own: Own) -> None:
    fd = own(kernel.map_create(MapType.ARRAY, 4, 4, 1))
    kernel.map_freeze(fd)
    with pytest.raises(KernelError) as frozen:
        kernel.map_update_elem(fd, bytes(4), bytes(4))
    assert frozen.value.errno == errno.EPERM


def test_no_pin_outside_bpffs(kernel: LinuxKernel, own: Own) -> None:
    fd = own(kernel.map_create(MapType.ARRAY, 4, 4, 1))
    with pytest.raises(KernelError, match="bpffs"):
        kernel.obj_pin(fd, f"/tmp/skep-{uuid.uuid4()}")
    with pytest.raises(KernelError, match="nothing is pinned there"):
        kernel.obj_get(f"/tmp/skep-{uuid.uuid4()}")


def test_bad_arguments_are_named(kernel: LinuxKernel) -> None:
    with pytest.raises(OverflowError, match="max_entries"):
        kernel.map_create(MapType.ARRAY, 4, 4, -1)
    with pytest.raises(KernelError, match="BPF_MAP_CREATE") as refused:
        kernel.map_create(MapType.ARRAY, 3, 4, 1)
    assert refused.value.errno == errno.EINVAL and not isinstance(refused.value, NotSupported)


def test_object_names() -> None:
    assert object_name("a-b c.d_e") == b"a_b_c.d_e"
    assert object_name("x" * 40) == b"x" * 15
    assert object_name("é") == b"_"
