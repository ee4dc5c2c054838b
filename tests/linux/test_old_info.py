"""What older kernels refuse to be asked: `make test-kernels` has them, here one is played."""

from __future__ import annotations

import errno
import struct
from ctypes import string_at
from typing import Any

import pytest

from skep.btf import BtfBuilder
from skep.btf.types import Int
from skep.errors import KernelError
from skep.linux.kernel import LinuxKernel
from skep.uapi.enums import Cmd
from tests.support import oracles

pytestmark = pytest.mark.live

#: struct bpf_btf_info of Linux 5.10: btf, btf_size, id
_KNOWN = 16


class Old(LinuxKernel):
    """A kernel whose struct bpf_btf_info ends before the name: what follows must be zero."""

    def _bpf(self, cmd: Cmd, attr: bytearray | bytes, pinned: Any, *, what: str = "") -> int:
        if cmd == Cmd.OBJ_GET_INFO_BY_FD:
            _, length, at = struct.unpack_from("=IIQ", attr)
            if any(string_at(at, length)[_KNOWN:]):
                raise KernelError(errno.E2BIG, cmd="BPF_OBJ_GET_INFO_BY_FD")
        return super()._bpf(cmd, attr, pinned, what=what)


def test_types_without_names() -> None:
    oracles.bpf()
    builder = BtfBuilder()
    builder.add(Int("int", 4, 1))
    kernel = Old()
    fd = kernel.btf_load(builder.build())
    try:
        name = bytearray(64)
        about = kernel.obj_get_info_by_fd(fd, "btf", {"name": name, "name_len": len(name)})
        assert struct.unpack_from("=QII", about)[2] > 0, "an id"
        assert not any(name)
        with pytest.raises(KernelError):
            kernel.obj_get_info_by_fd(fd, "btf", {"kernel_btf": 1})
    finally:
        kernel.close(fd)
