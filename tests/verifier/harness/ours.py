"""Our verifier's answer to a question, in the same form as the kernel's."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from skep.btf import Btf
from skep.errors import VerifierError
from skep.isa import opcodes as op
from skep.obj import MapSpec
from skep.uapi.enums import AttachType, ProgType
from skep.verifier import FuncFacts, MapFacts, Subject
from tests.verifier.harness.question import Answer, Question

_PREFIX = {
    AttachType.TRACE_RAW_TP: ("btf_trace_", 8),
    AttachType.LSM_MAC: ("bpf_lsm_", 12),
    AttachType.LSM_CGROUP: ("bpf_lsm_", 12),
    AttachType.TRACE_ITER: ("bpf_iter_", 12),
}


def _types() -> Btf:
    from tests.verifier.harness.kernel import kernel_types

    found: Btf = kernel_types()
    return found


def _map(spec: MapSpec, btf: Btf | None) -> MapFacts:
    constant = spec.data is not None and spec.section.startswith(".rodata")
    return MapFacts(
        spec.name, spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags,
        inner=_map(spec.inner, btf) if spec.inner is not None else None,
        contents=bytes(spec.data) if constant and spec.data is not None else None,
        btf=btf if spec.value_type_id else None,
        key_type=spec.key_type_id, value_type=spec.value_type_id, extra=spec.extra,
    )  # fmt: skip


def subject_of(question: Question) -> Subject:
    """The question as our verifier takes it."""
    btf = Btf(question.types.data) if question.types is not None else None
    insns = list(question.insns)
    for pc, name in question.kfuncs:
        insns[pc] = insns[pc]._replace(imm=_types().find(name, 12) or 0)
    funcs = []
    if question.types is not None:
        funcs = [FuncFacts(slot, name, question.types.functions[name]) for slot, name in question.functions]
    attach_id = 0
    if question.attach_to and question.prog_type in (ProgType.TRACING, ProgType.LSM):
        prefix, kind = _PREFIX.get(question.attach_type or AttachType.TRACE_FENTRY, ("", 12))
        attach_id = _types().find(prefix + question.attach_to, kind) or 0
    return Subject(
        insns, question.prog_type, name="prog",
        attach_type=int(question.attach_type or 0), license=question.license, prog_flags=question.flags,
        maps=[_map(spec, btf) for spec in question.maps], btf=btf, funcs=funcs, types=_types,
        attach_btf_id=attach_id, attach_name=question.attach_to,
    )  # fmt: skip


class TookTooLong(Exception):
    """No verdict in the processor time that any program may take."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the body after so many seconds of processor time (main thread)."""

    def late(*_: object) -> None:
        raise TookTooLong(f"no verdict after {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def judge(question: Question, *, log_level: int = 0, seconds: float = 30, **options: Any) -> Answer:
    """The verdict of `skep.verifier.check`; anything but a VerifierError comes out as it is."""
    from skep.verifier import check

    try:
        with at_most(seconds):
            verdict = check(subject_of(question), log_level=log_level, **options)
    except VerifierError as error:
        return Answer(False, error.reason, 13, log=error.log)
    return Answer(True, "", 0, verdict.processed, verdict.states, verdict.peak_states, verdict.log)


def uses_maps(question: Question) -> bool:
    """Whether an instruction names a map."""
    return any(i.opcode == op.LD_IMM64 and i.src in (1, 2) for i in question.insns)
