"""What the hooks share: falling back on older kernels, links that cannot change, several links as one."""

from __future__ import annotations

import errno

from skep.errors import KernelError, NotSupported
from skep.kernel.link import Link, ManualLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final, NoReturn

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

#: what a kernel says about a command, link or field that it does not know
_UNKNOWN: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.E2BIG, errno.ENOTTY, 524})


def older(kernel: Kernel, since: str) -> bool:
    """Whether the kernel calls itself older than ``since`` ("5.9")."""
    major, minor = since.split(".")
    return kernel.version < (int(major), int(minor))


def lacks(kernel: Kernel, error: KernelError, since: str) -> bool:
    """Whether ``error`` means that the feature is unknown here.

    A distribution may carry a feature into an older kernel, so it is always tried; only its failure on a
    kernel of before ``since`` counts as absence.
    """
    return error.errno in _UNKNOWN and older(kernel, since)


def bad(reason: str) -> NoReturn:
    """Refuse an argument: nothing was attached."""
    raise KernelError(errno.EINVAL, reason)


def absent(feature: str, since: str | None = None, *, cmd: str | None = None) -> NotSupported:
    return NotSupported(errno.EOPNOTSUPP, feature, since=since, cmd=cmd)


class FixedLink(Link):
    """A link whose program the kernel does not let be replaced."""

    __slots__ = ()

    def update(self, program: Program, *, old: Program | None = None) -> None:
        raise absent(
            f"replacing the program of {self.target or 'this link'} (attach the new one, then close)"
        )


class Attachment(ManualLink):
    """An attachment without a descriptor of its own; ``fd`` is one of the program attached.

    ``undo(prog_fd)`` detaches it, ``replace(new_fd, old_fd)`` puts another program in its place at once.
    """

    __slots__ = ()

    def __init__(
        self,
        kernel: Kernel,
        prog_fd: int,
        *,
        kind: str,
        target: str,
        undo: Callable[[int], None],
        replace: Callable[[int, int], None] | None = None,
    ) -> None:
        def swap(fd: int) -> None:
            assert replace is not None
            replace(fd, self.fd)
            before, self._fd = self.fd, kernel.dup(fd)
            kernel.close(before)

        def take_back() -> None:
            try:
                undo(self.fd)
            except KernelError as error:
                # The interface, its namespace or the attachment itself is gone: so is what we would undo.
                if error.errno not in (errno.ENODEV, errno.ENOENT):
                    raise

        super().__init__(
            kernel,
            kernel.dup(prog_fd),
            take_back,
            kind=kind,
            target=target,
            replace=swap if replace is not None else None,
        )


class GroupLink(Link):
    """Several links that stand or fall together: one perf event for each CPU, one uprobe for each place."""

    __slots__ = ("links",)

    def __init__(self, links: Sequence[Link], *, target: str) -> None:
        first = links[0]
        super().__init__(first.kernel, first.kernel.dup(first.fd), kind=first.kind, target=target)
        self.links = list(links)

    def update(self, program: Program, *, old: Program | None = None) -> None:
        raise absent(f"replacing the program of {self.target} (attach the new one, then close)")

    def pin(self, path: str) -> None:
        if len(self.links) != 1:
            raise absent(f"pinning {len(self.links)} links under one name")
        self.links[0].pin(path)

    def detach(self) -> None:
        self.close()

    def close(self) -> None:
        close_all(self.links)
        self.links = []
        super().close()


def close_all(links: Sequence[Link]) -> None:
    """Close every link, also when one fails; the first failure is raised at the end."""
    failure: Exception | None = None
    for link in reversed(links):
        try:
            link.close()
        except Exception as error:  # raised when all are closed
            failure = failure or error
    if failure is not None:
        raise failure


def group(links: Sequence[Link], *, target: str) -> Link:
    """One link for all of ``links``."""
    return links[0] if len(links) == 1 else GroupLink(links, target=target)
