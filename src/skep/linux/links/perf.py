"""Programs on perf events: by bpf_link (Linux 5.15), before that by ioctl. Cookies need the link."""

from __future__ import annotations

import os

from skep.errors import KernelError
from skep.kernel.handle import forked_from
from skep.kernel.perfevent import ENABLE, SET_BPF
from skep.linux.links.common import FixedLink, absent, lacks
from skep.uapi.enums import AttachType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


class PerfLink(FixedLink):
    """A program on a perf event. ``fd`` is the link's, or without one (``kind`` "perf") the event's."""

    __slots__ = ("_after", "_maker", "event_fd")

    def __init__(
        self,
        kernel: Kernel,
        fd: int,
        event_fd: int,
        *,
        kind: str,
        target: str,
        after: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(kernel, fd, kind=kind, target=target)
        self.event_fd = event_fd
        self._after = after
        self._maker = os.getpid()

    def pin(self, path: str) -> None:
        if self.fd == self.event_fd:
            raise absent("pinning a perf event's program", "5.15")
        super().pin(path)

    def detach(self) -> None:
        if self.fd != self.event_fd:
            super().detach()
        else:
            self.close()

    def close(self) -> None:
        event, self.event_fd = self.event_fd, -1
        after, self._after = self._after, None
        try:
            if event >= 0 and event != self._fd:
                self.kernel.close(event)
            super().close()
        finally:
            if after is not None and not forked_from(self._maker):
                after()


def attach_event(
    kernel: Kernel,
    program: Program,
    event_fd: int,
    *,
    target: str,
    cookie: int = 0,
    link: bool | None = None,
    after: Callable[[], None] | None = None,
) -> PerfLink:
    """Put ``program`` on a perf event and start it. Takes the descriptor over, also when it fails.

    ``after`` is called when the link has been closed (and when this fails).
    """
    made = -1
    try:
        if link is not False:
            try:
                made = kernel.link_create(
                    program.fd, event_fd, AttachType.PERF_EVENT, perf_event__bpf_cookie=cookie
                )
            except KernelError as error:
                if link or not lacks(kernel, error, "5.15"):
                    raise
        if made < 0:
            if cookie:
                raise absent("cookies (bpf_get_attach_cookie)", "5.15")
            kernel.perf_event_ioctl(event_fd, SET_BPF, program.fd)
        kernel.perf_event_ioctl(event_fd, ENABLE, 0)
    except BaseException:
        if made >= 0:
            kernel.close(made)
        kernel.close(event_fd)
        if after is not None:
            after()
        raise
    if made < 0:
        return PerfLink(kernel, event_fd, event_fd, kind="perf", target=target, after=after)
    return PerfLink(kernel, made, event_fd, kind="bpf_link", target=target, after=after)
