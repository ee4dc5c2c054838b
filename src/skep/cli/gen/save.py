"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress


def save(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write ``data`` beside ``path``, then put it in its place; pipes and devices are written to."""
    whole = not os.path.exists(path) or os.path.isfile(path)
    target = f"{path}.{os.getpid()}.tmp" if whole else path
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        if whole:
            os.replace(target, path)
    except BaseException:
        if whole:
            with suppress(OSError):
                os.unlink(target)
        raise
