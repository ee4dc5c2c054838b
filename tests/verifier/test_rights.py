"""Loaders with some capabilities: our verdict, and the running kernel's in a process that has just those.

``SKEP_SEED`` moves to other generated programs.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import struct
import traceback
from collections.abc import Iterator

import pytest

from skep.errors import PermissionDenied, VerifierError
from skep.isa import Insn
from skep.isa import opcodes as op
from skep.uapi.enums import ProgType
from skep.verifier import Subject, check
from tests.support import oracles
from tests.verifier import generate
from tests.verifier.harness import differ
from tests.verifier.harness.cases import parse, read_file
from tests.verifier.harness.kernel import lab
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Answer, Question
from tests.verifier.test_cases import FILES

SEED = int(os.environ.get("SKEP_SEED", "1"))
NUMBERS = {"net_admin": 12, "perfmon": 38, "bpf": 39}
SETS = (("bpf",), ("bpf", "net_admin"), ("bpf", "perfmon"))


@functools.cache
def asked() -> tuple[tuple[str, Question], ...]:
    """Cases of every kind of rule (two of three, to be quick), and generated programs."""
    return tuple(row for at, row in enumerate(_all()) if at % 3)


def _all() -> Iterator[tuple[str, Question]]:
    for file in FILES:
        for case in read_file(file):
            if "million" not in case.name:
                yield f"{case.file}: {case.name}", case.question
    for seed in range(SEED * 1_000_000 + 900_000, SEED * 1_000_000 + 900_100):
        made = generate.question(seed)
        if made is not None:
            yield f"seed {seed}", made


def keep_only(names: tuple[str, ...]) -> None:
    """Give up every capability but these, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    low = high = 0
    for name in names:
        number = NUMBERS[name]
        low |= (1 << number) & 0xFFFF_FFFF
        high |= 1 << number >> 32
    header = struct.pack("=Ii", 0x2008_0522, 0)
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def kernel_says(names: tuple[str, ...]) -> dict[str, Answer]:
    """The kernel's answers to a child with only these capabilities; the maps are made before."""
    reading, writing = os.pipe()
    with lab() as live:
        questions = []
        for name, question in asked():
            live.code(question)
            if question.types is not None:
                live._btf_fd(question.types.data)
            questions.append((name, question))
        pid = os.fork()
        if not pid:
            os.close(reading)
            status = 1
            try:
                keep_only(names)
                with os.fdopen(writing, "w") as file:
                    for name, question in questions:
                        try:
                            answer = live.ask(question)
                        except PermissionDenied as error:  # before the verifier looks
                            answer = Answer(False, str(error), error.errno or 0)
                        row = (answer.accepted, answer.reason, answer.errno, answer.processed)
                        file.write(json.dumps([name, row]) + "\n")
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as file:
            found = {name: Answer(*row) for name, row in map(json.loads, file)}
        assert os.waitpid(pid, 0)[1] == 0
    return found


@pytest.mark.live
@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_verdicts_with_some_capabilities(names: tuple[str, ...]) -> None:
    oracles.bpf()
    print(f"SKEP_SEED={SEED}")
    theirs = kernel_says(names)
    tally = differ.Tally()
    for name, question in asked():
        if theirs[name].processed <= differ.MOST:
            tally.add(differ.judged(theirs[name], judge(question, capabilities=names)), name)
    report = tally.table()
    print(report)
    assert tally.accepted > 40 and tally.rejected > 150, report
    assert not tally.kinds[differ.UNSAFE], report
    assert tally.kinds[differ.STRICT] <= 0.01 * tally.accepted, report


TWO_MAPS = """
== one tail call, two maps
map: first prog_array 4 4 4
map: second prog_array 4 4 4
code:
    r6 = *(u32 *)(r1 +8)
    if r6 != 0 goto +3
    r2 = map first
    goto +2
    r2 = map second
    r3 = 7
    call bpf_tail_call
    r0 = 1
    exit
post: accept
"""


@pytest.mark.live
def test_a_tail_call_takes_one_map_without_perfmon() -> None:
    """Of maps that the same process made: what CAP_PERFMON makes may be mixed."""
    question = parse("one tail call, two maps", TWO_MAPS.splitlines()[2:]).question
    assert judge(question, capabilities=("bpf", "perfmon")).accepted
    ours = judge(question, capabilities=("bpf",))
    assert ours.first == "tail_call abusing map_ptr"
    oracles.bpf()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            keep_only(("bpf",))
            with lab() as live, os.fdopen(writing, "w") as file:
                file.write(live.ask(question).log)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        log = file.read()
    os.waitpid(pid, 0)
    assert ours.first in log


EXIT = [Insn(op.BPF_ALU64 | op.BPF_MOV, 0), Insn(op.EXIT)]


@pytest.mark.parametrize(
    ("kind", "names", "kernel", "needs"),
    [
        (ProgType.XDP, ("bpf",), "6.18", "CAP_NET_ADMIN"),
        (ProgType.XDP, ("bpf", "net_admin"), "6.18", ""),
        (ProgType.XDP, ("perfmon", "net_admin"), "6.18", "CAP_BPF"),
        (ProgType.XDP, ("net_admin",), "5.7", "CAP_SYS_ADMIN"),
        (ProgType.KPROBE, ("bpf", "net_admin"), "6.18", "CAP_PERFMON"),
        (ProgType.KPROBE, ("bpf", "perfmon"), "6.18", ""),
        (ProgType.KPROBE, ("CAP_SYS_ADMIN",), "6.18", ""),
        (ProgType.SOCKET_FILTER, (), "6.18", ""),
        (ProgType.SK_REUSEPORT, ("bpf",), "6.18", ""),
    ],
)
def test_what_a_program_type_asks_for(
    kind: ProgType, names: tuple[str, ...], kernel: str, needs: str
) -> None:
    attach = 39 if kind == ProgType.SK_REUSEPORT else 0
    subject = Subject.from_insns(EXIT, kind, attach_type=attach)
    if not needs:
        check(subject, capabilities=names, kernel=kernel)
        return
    with pytest.raises(VerifierError, match=rf"need {needs}\b"):
        check(subject, capabilities=names, kernel=kernel)


def test_a_capability_that_decides_nothing() -> None:
    with pytest.raises(VerifierError, match="'net_raw' decides nothing here"):
        check(Subject.from_insns(EXIT), capabilities=("net_raw",))
