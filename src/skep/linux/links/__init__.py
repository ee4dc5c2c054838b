"""Attaching on the live kernel: one module for each hook, chosen by the program's type."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from skep.errors import NotSupported

if TYPE_CHECKING:
    from skep.kernel.link import Link
    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


def attach(kernel: Kernel, program: Program, *target: Any, **options: Any) -> Link:
    """Attach ``program``; the hook's own module documents ``target`` and ``options``."""
    raise NotSupported(errno.EOPNOTSUPP, f"attaching {program.spec.type.name} programs")
