"""Tracepoints with a stable layout, through a perf event (Linux 4.7): "category:name"."""

from __future__ import annotations

from skep.kernel.link import Link
from skep.kernel.perfevent import TRACEPOINT, open_event
from skep.linux.links.common import bad
from skep.linux.links.perf import attach_event
from skep.linux.links.tracefs import Tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


def attach(
    kernel: Kernel, program: Program, name: str | None = None, *, cookie: int = 0, link: bool | None = None
) -> Link:
    """Attach to ``name``, "category:event" or "category/event"; by default the section's.

    The event's number is read from tracefs, which need not be mounted.

    Raises:
        KernelError: ENOENT, no such tracepoint.
        NotSupported: ``cookie`` before Linux 5.15.
    """
    name = name or program.spec.attach_to
    category, mark, event = name.replace("/", ":").partition(":")
    if not (category and mark and event):
        bad(f"{program.name}: a tracepoint is category:name, not {name!r}")
    with Tracefs() as tracefs:
        number = tracefs.event_id(category, event)
    fd = open_tracepoint(kernel, number)
    return attach_event(
        kernel, program, fd, target=f"tracepoint {category}:{event}", cookie=cookie, link=link
    )


def open_tracepoint(kernel: Kernel, number: int, *, pid: int = -1) -> int:
    """A perf event of tracepoint ``number``. Programs on it run for every CPU whatever CPU it is of."""
    cpu = 0 if pid == -1 else -1
    return open_event(kernel, pid=pid, cpu=cpu, type=TRACEPOINT, config=number)
