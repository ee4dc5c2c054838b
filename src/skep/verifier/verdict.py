"""The check as a whole, and its answer."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

from skep.errors import VerifierError
from skep.isa.opcodes import BPF_PSEUDO_KFUNC_CALL, CALL
from skep.verifier import explore
from skep.verifier.admission import check_program
from skep.verifier.annotate import Annotation, Recorder
from skep.verifier.cfg import analyse, check_cfg
from skep.verifier.decode import decode
from skep.verifier.depth import GLOBALS_START, check_depth, refuse_recursion
from skep.verifier.env import Env
from skep.verifier.facts.args import ARG_ANYTHING
from skep.verifier.live import Liveness
from skep.verifier.prune import Loops
from skep.verifier.refusal import WALK_AGAIN, explained
from skep.verifier.retrace import retraced
from skep.verifier.rights import CAPABILITIES, Rights
from skep.verifier.scalar import Scalars
from skep.verifier.state import Frame, State
from skep.verifier.strict import DEFAULT, Strict
from skep.verifier.subject import Subject
from skep.verifier.subprogs import check_references, dangling, find_subprogs
from skep.verifier.version import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_PROGRAM: Final = 1_000_000
#: global functions that nothing calls are left alone
LAZY_GLOBALS: Final = (6, 8)


class Verdict:
    """A program that Linux would load: how much was simulated to know it.

    ``processed`` instructions, ``states`` checkpoints made, ``peak_states`` held at once; ``log`` is the
    kernel-style log asked for. ``annotations`` has, if asked for, an `Annotation` for every slot that some
    path reaches (None for others), ``stack_depths`` the bytes of stack of each function.
    """

    __slots__ = ("annotations", "log", "peak_states", "processed", "stack_depths", "states")

    def __init__(self, env: Env) -> None:
        self.processed = env.insn_processed
        self.states = env.total_states
        self.peak_states = env.peak_states
        self.stack_depths = tuple(sub.stack_depth for sub in env.subprogs)
        self.log = env.text()
        self.annotations: list[Annotation | None] = env.recorder.slots if env.recorder is not None else []

    def __repr__(self) -> str:
        return f"Verdict(processed={self.processed}, states={self.states}, peak_states={self.peak_states})"


def check(
    subject: Subject,
    *,
    kernel: str | tuple[int, int] = "6.18",
    privileged: bool = True,
    capabilities: Iterable[str] | None = None,
    strict: bool | Strict = False,
    log_level: int = 0,
    max_insns: int = 1_000_000,
    annotate: bool = False,
) -> Verdict:
    """What Linux ``kernel`` says of a program.

    ``privileged`` is CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, else none of them; ``capabilities`` says which
    the loader has ("bpf", "perfmon", "net_admin"). ``strict`` asks for all that the userspace
    kernel needs (`strict.Strict` says what another host offers).
    ``log_level`` 1 and 2 keep the kernel's log. Raises VerifierError with the kernel's reason, the
    instruction and its source line when the program is refused.
    """
    version = parse(kernel)
    if capabilities is None:
        capabilities = CAPABILITIES if privileged else ()
    rights = Rights.of(capabilities)
    host = strict if isinstance(strict, Strict) else DEFAULT if strict else None

    def walk(level: int, annotate: bool = annotate) -> Env | VerifierError:
        env = Env(subject, kernel=version, rights=rights, strict=host, log_level=level)
        env.max_insns = min(max_insns, env.max_insns)
        if annotate:
            env.recorder = Recorder(len(subject.insns))
        refused = _walk(env)
        if refused is None and env.recorder is None and env.bpf and dangling(env):
            return walk(level, annotate=True)  # what is reached decides
        if refused is None:
            return env
        if not level and max(env.insn_processed, len(subject.insns)) <= WALK_AGAIN:
            return walk(1)
        return explained(subject, refused, refused.log if level else retraced(env, refused))

    answer = walk(log_level)
    if isinstance(answer, VerifierError):
        raise answer
    return Verdict(answer)


def _walk(env: Env) -> VerifierError | None:
    """Check the program; why it is refused, or None."""
    collecting = gc.isenabled()
    gc.disable()  # states have no cycles; collecting while they are made costs a fifth
    try:
        _check(env)
        _let_go(env)
    except VerifierError as error:
        return env.refused(error)
    except RecursionError:
        return VerifierError("types nested too deep")
    finally:
        if collecting:
            gc.enable()
    return None


def _let_go(env: Env) -> None:
    """Drop what the paths made, before garbage is collected again: that would look at every object of it."""
    env.code = []
    env.pending = []
    env.state = State.start()
    env.sccs = Loops(env)
    env.live = Liveness(env)
    env.scalars = Scalars()
    env.spills.clear()
    env.narrow_memo.clear()


def _check(env: Env) -> None:
    subject = env.subject
    count = len(subject.insns)
    if not count or count > MAX_PROGRAM:
        env.reject(f"a program has 1 to {MAX_PROGRAM} instructions, this one has {count}")
    if len(subject.maps) > 64 and len(_used_maps(subject.insns)) > 64:
        env.reject("The total number of maps per program has reached the limit of 64")
    check_program(env)
    find_subprogs(env)
    if any(insn.opcode == CALL and insn.src == BPF_PSEUDO_KFUNC_CALL for insn in subject.insns):
        from skep.verifier.kfunc_call import check_device

        check_device(env)
    env.code = decode(env)
    check_cfg(env)
    analyse(env)
    if env.kernel >= GLOBALS_START:
        refuse_recursion(env)
    env.live = Liveness(env)
    env.start = _start
    if env.kernel < LAZY_GLOBALS:
        for number, sub in enumerate(env.subprogs):
            if number and sub.is_global:
                explore.run(env, number)
        explore.run(env, 0)
    else:
        explore.run(env, 0)
        _check_globals(env)
    check_depth(env)
    if env.recorder is not None and env.bpf and dangling(env):
        check_references(env, env.recorder.reached(subject.insns))


def _used_maps(insns: Sequence[tuple[int, int, int, int, int]]) -> set[int]:
    return {row[4] for row in insns if row[0] == 0x18 and row[2] in (1, 2, 5, 6)}


def _start(env: Env, frame: Frame, subprog: int) -> None:
    """The registers at a function's entry."""
    from skep.uapi.enums import ProgType

    if subprog or env.subject.prog_type == ProgType.EXT:
        from skep.verifier.globals import enter_arguments, prepare

        args = prepare(env, subprog)
        if subprog and env.subprogs[subprog].is_exception:
            frame.in_exception = True
            if len(args) != 1 or args[0].kind != ARG_ANYTHING:
                env.reject("exception cb only supports single integer argument")
        enter_arguments(env, frame, args)
        return
    frame.regs[1] = env.ptrs.make(2)
    env.hold_ctx_refs()


def _check_globals(env: Env) -> None:
    """Global functions that something calls, each by itself."""
    done: set[int] = set()
    while True:
        todo = [
            number
            for number, sub in enumerate(env.subprogs)
            if number and sub.is_global and sub.called and number not in done
        ]
        if not todo:
            return
        for number in todo:
            done.add(number)
            sub = env.subprogs[number]
            if env.log_level:
                env.printer.line(f"Validating {sub.name}() func#{number}...")
            explore.run(env, number)
            if env.log_level:
                env.printer.line(
                    f"Func#{number} ('{sub.name}') is safe for any args that match its prototype"
                )
