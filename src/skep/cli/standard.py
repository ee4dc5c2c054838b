"""Standard streams that whoever started us has closed (``>&-``)."""

from __future__ import annotations

import os
import sys


def repair() -> None:
    """Take the place of closed standard streams.

    Left alone, the next file opened would become standard output, and messages to a missing standard
    error would go to standard output (`print` takes a file of None for that). Input is empty, writing
    to standard output fails, messages vanish.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open as long as we run
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open as long as we run
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - open as long as we run
