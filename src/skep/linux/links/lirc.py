"""Infrared receivers: BPF_PROG_ATTACH on /dev/lircN (Linux 4.18)."""

from __future__ import annotations

import os

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import Attachment, bad
from skep.uapi.enums import AttachType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


def attach(kernel: Kernel, program: Program, device: str | None = None) -> Link:
    """Attach to ``device`` ("/dev/lirc0"), beside the programs there."""
    if device is None:
        bad(f"{program.name}: give the receiver: attach('/dev/lirc0')")
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, f"{device}: {error.strerror}") from None
    try:
        kernel.prog_attach(fd, program.fd, AttachType.LIRC_MODE2)
    except KernelError:
        os.close(fd)
        raise

    def undo(old: int) -> None:
        try:
            kernel.prog_detach(fd, old, AttachType.LIRC_MODE2)
        finally:
            os.close(fd)

    return Attachment(kernel, program.fd, kind="prog_attach", target=device, undo=undo)
