"""One run: load, attach, follow, detach."""

from __future__ import annotations

import gc
import os
import select
import sys
import time

from skep.cli.run import note
from skep.errors import LinkError, SkepError
from skep.uapi.enums import ProgType

try:
    # what `signal` wraps into enums, which take 3 ms to come
    from _signal import SIG_DFL, SIGINT, SIGTERM, set_wakeup_fd, signal  # type: ignore[import-not-found, unused-ignore]  # has no stubs
except ImportError:  # pragma: no cover - other Pythons than CPython
    from signal import SIG_DFL, SIGINT, SIGTERM, set_wakeup_fd, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

    from skep.cli.run.options import Options
    from skep.cli.run.stream import Source
    from skep.kernel.object import Object
    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel
    from skep.obj.spec import ObjectSpec

#: constants that tools keep the process in that they look at; CMD's, unless --set says otherwise
_OF_COMMAND = ("only_pid", "target_pid", "targ_pid", "filter_pid")
#: no exit status yet
_RUNNING = -1000
#: how long the reader sleeps at most: records that were written without a wake-up are found then
_TICK_MS = 100


def run(options: Options, command: list[str]) -> int:
    from skep.loading import load, open_kernel

    with Undo() as undo:
        # Until it follows events nothing it makes is garbage; looking for some takes a twentieth of a start.
        if gc.isenabled():
            undo.later(gc.enable)
            gc.disable()
        # The sooner it is forked, the less there is to copy.
        child = Child(command) if command else None
        if child is not None:
            undo.later(child.abandon)
        spec = _read(options.file)
        kernel = open_kernel()
        made = load(
            spec,
            kernel=kernel,
            programs=options.programs or None,
            targets=_replaced(kernel, spec, options, undo),
            variables=_variables(options.set, child, spec),
            max_entries={name: _number(value, name) for name, value in _pairs(options.max_entries, "MAP=N")},
            pin_root=options.pin_root,
            offload=_card(options),
        )
        undo.later(made.close)
        from skep.cli.run.stream import sources

        readers = sources(made, options)
        for reader in readers:
            undo.later(reader.close)
        from skep.cli.run.attach import Attached

        attached = Attached(made, options)
        undo.later(attached.close)
        stop = Stop(undo, child)
        attached.attach_all()
        if not options.quiet:
            for line in attached.described:
                note(False, line)
        if child is not None:
            child.go()
        gc.enable()
        if attached.keeps or readers:
            _follow(readers, options, child, stop)
        attached.close()
        for reader in readers:
            reader.drain()
        _finish(made, readers, options)
        return child.status() if child is not None else 0


class Undo:
    """What is to be undone at the end of a run, however it comes; the last thing first."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def later(self, step: Callable[..., object], *args: Any) -> None:
        self._steps.append((step, args))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._steps:
            step, args = self._steps.pop()
            try:
                step(*args)
            except BaseException:
                self.__exit__(None, None, None)  # the others all the same
                raise


def _replaced(kernel: Kernel, spec: ObjectSpec, options: Options, undo: Undo) -> dict[str, Program]:
    """The program that --replace names, for each freplace program that is to be loaded."""
    wanted = options.programs
    names = [
        program.name
        for program in spec.programs.values()
        if program.type == ProgType.EXT and (program.name in wanted if wanted else program.autoload)
    ]
    word = options.replace
    if not names:
        if word is not None:
            raise SkepError("--replace: the object has no freplace programs")
        return {}
    if word is None:
        raise SkepError(f"{names[0]} (freplace) needs --replace PROG: the program whose function it replaces")
    from skep.cli.run.targets import program_of

    target = program_of(kernel, word)
    undo.later(target.close)
    return dict.fromkeys(names, target)


def _card(options: Options) -> str | None:
    """The interface whose card is to run the programs."""
    if options.xdp_mode != "offload":
        return None
    if not options.iface or len(options.iface) > 1:
        raise SkepError("--xdp-mode offload needs one --iface NAME: programs are loaded for one card")
    return options.iface[0]


def _read(path: str) -> ObjectSpec:
    if path.endswith(".py"):
        from skep.cli.python import compiled

        return compiled(path)
    from skep.obj import read

    return read(path)


def _finish(made: Object, readers: list[Source], options: Options) -> None:
    if options.maps:
        from skep.cli.run.maps import show

        show(made, options)
    sys.stdout.flush()
    for reader in readers:
        if line := reader.summary():
            note(options.quiet and not reader.has_lost(), line)


def _follow(readers: list[Source], options: Options, child: Child | None, stop: Stop) -> None:
    """Print what comes until it is enough."""
    poller = select.poll()
    by_fd: dict[int, Source] = {}
    for reader in readers:
        for fd in reader.fds():
            by_fd[fd] = reader
            poller.register(fd, select.POLLIN)
    poller.register(stop.fd, select.POLLIN)
    if child is not None and child.pidfd >= 0:
        poller.register(child.pidfd, select.POLLIN)
    deadline = time.monotonic() + options.duration if options.duration is not None else None
    while not stop.asked:
        wait = _TICK_MS if readers else 1000
        if deadline is not None:
            wait = min(wait, max(0, int((deadline - time.monotonic()) * 1000)))
        poller.poll(wait)
        printed = 0
        for reader in readers:
            printed += reader.pump(_left(options, readers))
        if printed:
            sys.stdout.flush()
        if _left(options, readers) == 0 or (deadline is not None and time.monotonic() >= deadline):
            return
        if child is not None and child.ended():
            return


def _left(options: Options, readers: list[Source]) -> int | None:
    """How many events --count still allows; None without it."""
    if options.count is None:
        return None
    return int(max(0, options.count - sum(reader.shown for reader in readers)))


class Stop:
    """Ctrl-C and SIGTERM, seen between two events and never inside one.

    With a command, the first Ctrl-C is the command's; the run ends when it does, or at the second.
    """

    def __init__(self, undo: Undo, child: Child | None) -> None:
        self.asked = False
        self._child = child
        self._count = 0
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        undo.later(os.close, self.fd)
        undo.later(os.close, self._write)
        for number in (SIGINT, SIGTERM):
            before = signal(number, self._ask)
            undo.later(signal, number, before)
        before_fd = set_wakeup_fd(self._write, warn_on_full_buffer=False)
        undo.later(set_wakeup_fd, before_fd)

    def _ask(self, number: int, frame: object) -> None:
        self._count += 1
        if number == SIGINT and self._child is not None and self._count < 2:
            return
        self.asked = True


class Child:
    """The command, forked and held until everything is attached."""

    def __init__(self, command: list[str]) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if not self.pid:
            _child(command, read, write)
        os.close(read)
        self._gate = write
        self._status = _RUNNING
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):
            self.pidfd = -1

    def go(self) -> None:
        os.write(self._gate, b"!")
        os.close(self._gate)
        self._gate = -1

    def ended(self) -> bool:
        if self._status == _RUNNING:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status != _RUNNING

    def status(self) -> int:
        """Its exit status, 128 + N when signal N ended it; 0 when it is still running."""
        if not self.ended():
            return 0
        return self._status if self._status >= 0 else 128 - self._status

    def abandon(self) -> None:
        """Give up a command that was never started; leave a running one alone."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
            if not self.ended():
                os.waitpid(self.pid, 0)
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _child(command: list[str], read: int, write: int) -> None:
    """In the forked process: wait for the word, become the command. Never returns."""
    try:
        os.close(write)
        if not os.read(read, 1):
            os._exit(0)
        signal(SIGINT, SIG_DFL)
        _become(command)
    except OSError as error:
        os.write(2, f"skep run: {command[0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    finally:
        os._exit(126)


def _become(command: list[str]) -> None:
    """As `os.execvp`, which imports modules first: programs would see files opened that are not CMD's."""
    name = command[0]
    if "/" in name:
        os.execv(name, command)
    failed: OSError = FileNotFoundError(2, os.strerror(2))
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        try:
            os.execv(f"{folder or '.'}/{name}", command)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            failed = error
    raise failed


# --- values on the command line ----------------------------------------------------------------


def _pairs(words: list[str], form: str) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for word in words:
        name, mark, value = word.partition("=")
        if not (name and mark):
            raise SkepError(f"{word!r} is not {form}")
        out.append((name, value))
    return out


def _number(text: str, name: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise SkepError(f"{name}: {text!r} is no number") from None


def _variables(words: list[str], child: Child | None, spec: ObjectSpec) -> dict[str, object]:
    """``NAME=VALUE``: numbers, true and false; else text."""
    out: dict[str, object] = {}
    for name, value in _pairs(words, "NAME=VALUE"):
        if "{pid}" in value:
            if child is None:
                raise LinkError(f"{name}={value}: there is no command whose process id it could be")
            value = value.replace("{pid}", str(child.pid))
        if value in ("true", "false"):
            out[name] = int(value == "true")
            continue
        try:
            out[name] = int(value, 0)
        except ValueError:
            out[name] = value
    if child is not None:
        for name in _OF_COMMAND:
            if name not in out and _is_constant(spec, name):
                out[name] = child.pid
    return out


def _is_constant(spec: ObjectSpec, name: str) -> bool:
    """Whether ``name`` is a variable of .rodata."""
    from skep.btf import types as t

    btf = spec.btf
    id = btf.find(name, t.VAR) if btf is not None else None
    section = btf.find(".rodata", t.DATASEC) if btf is not None else None
    if btf is None or id is None or section is None:
        return False
    return any(row[0] == id for row in btf[section][3])
