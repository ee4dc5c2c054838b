"""A loaded program."""

from __future__ import annotations

from skep.errors import KernelError, LinkError
from skep.kernel.handle import Handle
from skep.kernel.protocol import Buffer, Kernel, TestRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.kernel.codec import Codec
    from skep.kernel.link import Link
    from skep.obj.spec import ObjectSpec, ProgramSpec

_PTR = 2


class Program(Handle):
    """A verified program in a kernel. ``spec`` says how it is meant to be attached."""

    __slots__ = ("attach_type", "function", "log", "name", "spec")

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
        #: its object and the id of its function in that one's types, as far as known
        self.function: tuple[ObjectSpec, int] | None = None

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
        self, data: Buffer = b"", *, ctx: Any = b"", repeat: int = 1, data_out: int = 0, flags: int = 0
    ) -> TestRun:
        """Run once (or ``repeat`` times) on ``data`` without attaching: BPF_PROG_TEST_RUN.

        ``ctx`` is bytes, or, where the object's BTF names the struct that the program is given (a syscall
        program's), a mapping, tuple or value of that; ``.ctx`` of the result is what the program left, in
        the same form.
        """
        if isinstance(ctx, (bytes, bytearray, memoryview)):
            return self.kernel.prog_test_run(
                self.fd, data, ctx=ctx, repeat=repeat, data_out=data_out, flags=flags
            )
        codec = self._context()
        try:
            given = codec.encode(ctx)
        except (TypeError, ValueError) as error:
            raise LinkError(f"program {self.name}: its context: {error}") from None
        done = self.kernel.prog_test_run(
            self.fd, data, ctx=given, repeat=repeat, data_out=data_out, flags=flags
        )
        return done._replace(ctx=codec.decode(done.ctx) if len(done.ctx) == codec.size else done.ctx)

    def _context(self) -> Codec:
        """The codec of the struct that the program's first parameter points to."""
        from skep.kernel.typed import Codecs

        btf, id = (self.function[0].btf, self.function[1]) if self.function is not None else (None, 0)
        if btf is not None:
            parameters = btf[btf[id][2]][3]
            pointer = btf[btf.resolve(parameters[0][1])] if parameters else None
            if pointer is not None and pointer[0] == _PTR and pointer[2]:
                return Codecs(btf).of(pointer[2])
        raise LinkError(f"program {self.name}: no BTF says what its context is: give it as bytes")

    def pin(self, path: str) -> None:
        self.kernel.obj_pin(self.fd, path)
