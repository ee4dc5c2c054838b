"""A loaded program."""

from __future__ import annotations

from skep.errors import KernelError
from skep.kernel.handle import Handle
from skep.kernel.protocol import Buffer, Kernel, TestRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.kernel.link import Link
    from skep.obj.spec import ProgramSpec


class Program(Handle):
    """A verified program in a kernel. ``spec`` says how it is meant to be attached."""

    __slots__ = ("attach_type", "log", "name", "spec")

    def __init__(
        self, kernel: Kernel, fd: int, spec: ProgramSpec, *, log: str = "", attach_type: int = 0
    ) -> None:
        super().__init__(kernel, fd)
        self.spec = spec
        self.name = spec.name
        #: what the verifier wrote, "" unless asked for
        self.log = log
        #: the attach type that it was loaded for, as far as known
        self.attach_type = attach_type

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self._fd}"
        return f"<Program {self.name} {self.spec.type.name} {state}>"

    @property
    def info(self) -> dict[str, int | bytes]:
        """What the kernel says of the program: struct bpf_prog_info, by field (run_cnt and run_time_ns count
        while statistics are on)."""
        from skep.uapi.attr import INFO

        return INFO["bpf_prog_info"].unpack(self.kernel.obj_get_info_by_fd(self.fd, "prog"))

    @property
    def id(self) -> int:
        return int(self.info["id"])

    def attach(self, *target: Any, **options: Any) -> Link:
        """Attach where ``target`` says, or without one where the section name says.

        What ``target`` and ``options`` are depends on the hook: docs/hooks.md. Errors name the program and
        its section.
        """
        try:
            return self.kernel.attach(self, *target, **options)
        except KernelError as error:
            if self.name not in error.reason:
                where = f" ({self.spec.section})" if self.spec.section else ""
                error.reason = f"program {self.name}{where}: {error.reason}"
            raise

    def run(
        self, data: Buffer = b"", *, ctx: Buffer = b"", repeat: int = 1, data_out: int = 0, flags: int = 0
    ) -> TestRun:
        """Run once (or ``repeat`` times) on ``data`` without attaching: BPF_PROG_TEST_RUN."""
        return self.kernel.prog_test_run(
            self.fd, data, ctx=ctx, repeat=repeat, data_out=data_out, flags=flags
        )

    def pin(self, path: str) -> None:
        self.kernel.obj_pin(self.fd, path)
