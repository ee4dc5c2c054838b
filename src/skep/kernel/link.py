"""What keeps a program attached. Closing a link detaches the program, unless it is pinned."""

from __future__ import annotations

import os

from skep.errors import KernelError, NotSupported
from skep.kernel.handle import Handle, forked_from
from skep.kernel.protocol import Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from skep.kernel.program import Program

_EOPNOTSUPP = 95


class Link(Handle):
    """An attachment made by bpf(2)'s own links (``kind`` "bpf_link").

    Other mechanisms subclass it and say which they are in ``kind``: "perf" (a perf event that carries
    the program), "prog_attach" (BPF_PROG_ATTACH), "netlink", "socket", "tracefs".
    """

    __slots__ = ("kind", "target")

    def __init__(self, kernel: Kernel, fd: int, *, kind: str = "bpf_link", target: str = "") -> None:
        super().__init__(kernel, fd)
        self.kind = kind
        #: what the program is attached to, in words
        self.target = target

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self._fd}"
        return f"<{type(self).__name__} {self.kind} {self.target or '?'} {state}>"

    def update(self, program: Program, *, old: Program | None = None) -> None:
        """Replace the program atomically; with ``old``, only if that one is attached now.

        Raises:
            KernelError: EPERM when ``old`` is not the one attached.
            NotSupported: the mechanism cannot.
        """
        from skep.uapi.flags import BPF_F_REPLACE

        if old is None:
            self.kernel.link_update(self.fd, program.fd)
        else:
            self.kernel.link_update(self.fd, program.fd, BPF_F_REPLACE, old.fd)

    def pin(self, path: str) -> None:
        """Keep the attachment beyond this process, under a name in bpffs."""
        self.kernel.obj_pin(self.fd, path)

    def detach(self) -> None:
        """Detach now, even when pins or other descriptors keep the link itself alive. The link is closed.

        Raises:
            NotSupported: this kind of link goes with its last descriptor and pin only, and there are others.
        """
        if self.closed:
            return
        try:
            self.kernel.link_detach(self.fd)
        except KernelError as error:
            if error.errno != _EOPNOTSUPP:
                raise
            if self._outlives_us():
                what = f"detaching {self.target or 'this link'} while it is pinned or open elsewhere"
                raise NotSupported(_EOPNOTSUPP, what) from None
        finally:
            self.close()

    def _outlives_us(self) -> bool:
        """Close the descriptor; whether the link is still there then."""
        from skep.uapi.attr import INFO

        info = INFO["bpf_link_info"].unpack(self.kernel.obj_get_info_by_fd(self.fd, "link"))
        id = info["id"]
        assert isinstance(id, int)
        self.close()
        try:
            self.kernel.close(self.kernel.get_fd_by_id("link", id))
        except KernelError:
            return False
        return True


class ManualLink(Link):
    """An attachment that ``undo`` takes back: for mechanisms whose descriptor alone does not.

    A forked child that closes it gives back its descriptors only, as with links that are descriptors.
    """

    __slots__ = ("_maker", "_replace", "_undo")

    def __init__(
        self,
        kernel: Kernel,
        fd: int,
        undo: Callable[[], None],
        *,
        kind: str,
        target: str = "",
        replace: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(kernel, fd, kind=kind, target=target)
        self._undo: Callable[[], None] | None = undo
        self._replace = replace
        self._maker = os.getpid()

    def update(self, program: Program, *, old: Program | None = None) -> None:
        if self._replace is None or old is not None:
            raise NotSupported(_EOPNOTSUPP, f"replacing a program attached by {self.kind}")
        self._replace(program.fd)

    def pin(self, path: str) -> None:
        raise NotSupported(_EOPNOTSUPP, f"pinning an attachment made by {self.kind}")

    def keep(self) -> None:
        """Leave attached what is attached: closing gives back the descriptor only, from now on."""
        self._undo = None

    def detach(self) -> None:
        self.close()

    def close(self) -> None:
        undo, self._undo = self._undo, None
        try:
            if undo is not None and not forked_from(self._maker):
                undo()
        finally:
            super().close()
