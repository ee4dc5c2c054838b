"""Pinning in bpffs, mounting it where the user names a folder that is none."""

from __future__ import annotations

import errno
import os

from skep.cli.noun.command import Call
from skep.errors import KernelError, SkepError

_BPF_FS = 0xCAFE4A11


def pin(call: Call, fd: int, path: str) -> None:
    """Pin a descriptor's object at ``path``.

    As in bpftool, a folder that is on no bpffs has one mounted on it, unless ``--nomount``; an existing
    folder with files in it would be hidden by that, so then the error stays.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        call.kernel.obj_pin(fd, path)
    except KernelError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL) or is_bpffs(folder):
            raise
        ensure(call, folder)
        call.kernel.obj_pin(fd, path)


def ensure(call: Call, folder: str) -> None:
    """Have a bpffs at ``folder``, as `pin` does."""
    if is_bpffs(folder):
        return
    if "nomount" in call.options:
        raise SkepError(f"{folder} is no bpffs and --nomount is given")
    _mount(folder)


def is_bpffs(folder: str) -> bool:
    import ctypes

    buffer = (ctypes.c_long * 32)()
    libc = ctypes.CDLL(None, use_errno=True)
    return not libc.statfs(os.fsencode(folder), buffer) and buffer[0] == _BPF_FS


def _mount(folder: str) -> None:
    import ctypes

    if os.listdir(folder):
        raise SkepError(f"{folder} is no bpffs and not empty: mount -t bpf bpf DIR")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(folder), b"bpf", 0, b"mode=0700"):
        code = ctypes.get_errno()
        raise SkepError(f"cannot mount bpffs on {folder}: {os.strerror(code)}")
