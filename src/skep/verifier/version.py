"""A release of Linux as it is written, and as it is compared."""

from __future__ import annotations

from typing import Final

from skep.errors import VerifierError

#: stable releases that took over much of what later ones know of the stack
STABLE: Final = ((5, 10), (5, 15), (6, 1))

#: what no release should have taken is refused from these on
MENDED: Final = (7, 2)
FIXES: Final = (7, 3)


def parse(kernel: str | tuple[int, int]) -> tuple[int, int]:
    """``"6.18"`` or ``"6.18.3"`` as (6, 18). Raises VerifierError for what is no release."""
    if isinstance(kernel, tuple):
        return kernel
    try:
        major, minor = kernel.split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        raise VerifierError(
            f"kernel version {kernel!r} is not of the form 6.18", hint="give major.minor"
        ) from None
