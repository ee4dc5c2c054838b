"""Files that are read whole, with a bound; output files that are either the old one or the whole new one."""

from __future__ import annotations

import os
import sys

#: Bytes of a text or program that is read whole: programs have a million slots at most.
MOST = 64 << 20


def read_whole(path: str, *, most: int = MOST) -> bytes:
    """All of a file ("-": standard input), which may be a device or pipe that never ends.

    Raises:
        FormatError: there are more than ``most`` bytes.
        OSError: it cannot be read.
    """
    if path == "-":
        data = sys.stdin.buffer.read(most + 1)
    else:
        with open(path, "rb") as stream:
            data = stream.read(most + 1)
    if len(data) > most:
        from skep.errors import FormatError

        name = "standard input" if path == "-" else path
        raise FormatError(f"larger than {most >> 20} MiB, which is read no further", path=name)
    return data


def write_whole(path: str, data: bytes) -> None:
    """Write a file beside ``path`` and put it in its place.

    Pipes and devices are written to, links followed.

    Raises:
        OSError: with ``path`` as its file name.
    """
    target = os.path.realpath(path)
    beside = f"{target}.{os.getpid()}.part"
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as stream:  # it cannot be replaced
                stream.write(data)
            return
        try:
            with open(beside, "xb") as stream:
                stream.write(data)
            if os.path.exists(target):
                os.chmod(beside, os.stat(target).st_mode & 0o7777)
            os.replace(beside, target)
        except BaseException:
            if os.path.exists(beside):
                os.unlink(beside)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
