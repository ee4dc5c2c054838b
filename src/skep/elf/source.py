"""A file's bytes, mapped when that pays."""

from __future__ import annotations

import mmap
import os
import stat

from skep.errors import FormatError

MAP_FROM = 1 << 20
"""Smaller files are read: touching a mapping of a file that another process cuts short raises SIGBUS."""

_MAX_STREAM = 1 << 30


def file_bytes(path: str | os.PathLike[str], error: type[FormatError]) -> memoryview:
    """The contents of ``path``, read-only.

    Large files and sysfs's kernel BTF are mapped privately (the kernel refuses a shared mapping of it),
    the rest is read. Pipes are read up to 1 GiB. Raises ``error`` naming the file when it cannot be read.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_size >= MAP_FROM:
                try:
                    return memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
                except (OSError, ValueError):
                    pass  # sysfs before Linux 6.16, or a file system without mappings
            return memoryview(_read_all(fd, name, error))
        finally:
            os.close(fd)
    except OSError as failure:
        raise error(failure.strerror or str(failure), path=name) from None


def _read_all(fd: int, name: str, error: type[FormatError]) -> bytes:
    pieces: list[bytes] = []
    total = 0
    while piece := os.read(fd, 1 << 20):
        pieces.append(piece)
        total += len(piece)
        if total > _MAX_STREAM:
            raise error("more than 1 GiB from a file that cannot be mapped", path=name)
    return b"".join(pieces)
