"""``strict=True``: what the userspace kernel needs, beyond what Linux asks of privileged programs.

Every program here is one that Linux accepts from a privileged user (the tests ask it), so that only the
stricter rule decides.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest

from skep.errors import VerifierError
from skep.verifier import check
from skep.verifier.strict import DEFAULT, Strict
from tests.support import oracles
from tests.verifier import generate
from tests.verifier.harness import cases
from tests.verifier.harness.concrete import Run, Violation
from tests.verifier.harness.kernel import lab
from tests.verifier.harness.ours import judge, subject_of
from tests.verifier.harness.question import Question

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 8


class Rule(NamedTuple):
    name: str
    text: str
    #: what strict mode says, "" when it accepts
    says: str


RULES = (
    Rule("a pointer kept in a map", """
map: m array 4 48 1
pre: r6=value(m)
code:
    *(u64 *)(r6 +0) = r10
    r0 = 0
    exit""", "R10 leaks addr into map"),
    Rule("an address returned", """
type: sched_cls
code:
    r0 = r10
    exit""", "R0 leaks addr as return value"),
    Rule("half of an address", """
type: sched_cls
code:
    w0 = w10
    w0 &= 1
    exit""", "R10 partial copy of pointer"),
    Rule("an address printed", """
type: sched_cls
code:
    *(u64 *)(r10 -8) = 0x7025
    r1 = r10
    r1 += -8
    r2 = 8
    r3 = r10
    call bpf_trace_printk
    r0 = 0
    exit""", "R3 leaks addr into helper function"),
    Rule("an address given out in a record", """
map: m array 4 8 1
code:
    *(u32 *)(r10 -4) = 0
    *(u64 *)(r10 -16) = r10
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    r1 = map m
    call bpf_map_update_elem
    r0 = 0
    exit""", "invalid read from stack R3 off -16+0 size 8"),
    Rule("two objects' distance", """
map: m array 4 48 1
type: sched_cls
pre: r6=value(m)
code:
    r6 -= r10
    r0 = 0
    exit""", "R6 pointer -= pointer prohibited"),
    Rule("the length of a packet", """
type: xdp
code:
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r3 -= r2
    r0 = 2
    if r3 < 64 goto +1
    r0 = 1
    exit""", ""),
    Rule("stack that was never written", """
type: sched_cls
code:
    r0 = *(u64 *)(r10 -8)
    r0 = 0
    exit""", "invalid read from stack R10 off=-8 size=8"),
    Rule("bytes between the fields of a value", """
map: m array 4 16 1
code:
    *(u32 *)(r10 -4) = 0
    *(u64 *)(r10 -24) = 1
    *(u32 *)(r10 -16) = 1
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -24
    r4 = 0
    r1 = map m
    call bpf_map_update_elem
    r0 = 0
    exit""", "invalid read from stack R3 off -24+12 size 16"),
    Rule("the kernel's own memory", """
type: tracing trace_raw_tp sched_process_fork
code:
    r1 = *(u64 *)(r1 +0)
    r0 = *(u32 *)(r1 +0)
    r0 = 0
    exit""", "programs of type tracing need a kernel around them"),
    Rule("a helper that walks the kernel", """
type: kprobe
code:
    call bpf_get_current_task
    r0 = 0
    exit""", "helper bpf_get_current_task#35 is not there without a kernel"),
    Rule("a map of the kernel's objects", """
type: sched_cls
map: s stack_trace 4 64 8
code:
    r1 = map s
    r0 = 0
    exit""", "maps of type stack_trace ('s') are not there without a kernel"),
    Rule("a kernel function of a task", """
type: syscall
flags: 16
code:
    r1 = 1
    call kfunc bpf_task_from_pid
    if r0 == 0 goto l
    r1 = r0
    call kfunc bpf_task_release
l:  r0 = 0
    exit""", "kernel function bpf_task_from_pid is not there without a kernel"),
    Rule("a counted loop by iterator", """
type: syscall
flags: 16
code:
    r1 = r10
    r1 += -8
    r2 = 0
    r3 = 10
    call kfunc bpf_iter_num_new
l:  r1 = r10
    r1 += -8
    call kfunc bpf_iter_num_next
    if r0 != 0 goto l
    r1 = r10
    r1 += -8
    call kfunc bpf_iter_num_destroy
    r0 = 0
    exit""", ""),
    Rule("pointer arithmetic that speculation rules forbid", """
map: m array 4 48 1
type: sched_cls
pre: r6=value(m)
code:
    r7 = *(u32 *)(r6 +0)
    r7 &= 31
    r8 = r6
    r8 += r7
    r0 = *(u8 *)(r8 +0)
    r0 = 0
    exit""", ""),
    Rule("a record filled and submitted", """
type: sched_cls
map: r ringbuf 0 0 4096
code:
    r1 = map r
    r2 = 16
    r3 = 0
    call bpf_ringbuf_reserve
    if r0 == 0 goto l
    *(u64 *)(r0 +0) = 1
    *(u64 *)(r0 +8) = 2
    r1 = r0
    r2 = 0
    call bpf_ringbuf_submit
l:  r0 = 0
    exit""", ""),
)  # fmt: skip


def question(rule: Rule) -> Question:
    return cases.parse(rule.name, f"{rule.text}\npost: accept".splitlines()).question


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name.replace(" ", "-"))
def test_what_strict_adds(rule: Rule) -> None:
    asked = question(rule)
    assert judge(asked).accepted
    found = judge(asked, strict=True)
    assert found.first == rule.says
    assert found.accepted == (not rule.says)


@pytest.mark.live
def test_linux_accepts_all_of_them() -> None:
    oracles.bpf()
    with lab() as live:
        for rule in RULES:
            found = live.ask(question(rule))
            assert found.accepted, f"{rule.name}: {found.reason}"


def test_kernel_memory_where_the_host_runs_such_programs() -> None:
    """Loads through pointers to kernel objects are refused whatever the host offers."""
    rule = next(rule for rule in RULES if rule.name == "the kernel's own memory")
    host = DEFAULT._replace(programs=DEFAULT.programs | {26})
    with pytest.raises(VerifierError, match=r"'struct task_struct' is memory of the kernel"):
        check(subject_of(question(rule)), strict=host)


def test_a_host_with_less() -> None:
    rule = next(rule for rule in RULES if rule.name == "a record filled and submitted")
    with pytest.raises(VerifierError, match=r"helper bpf_ringbuf_reserve#131 is not there without a kernel"):
        check(subject_of(question(rule)), strict=Strict(helpers=frozenset((1, 2))))


def test_strict_is_never_laxer() -> None:
    """What strict mode accepts, Linux accepts; and it runs keeping to the strict rules."""
    print(f"SKEP_SEED={SEED}")
    accepted = 0
    for seed in range(SEED * 1_000_000 + 800_000, SEED * 1_000_000 + 800_000 + COUNT):
        made = generate.question(seed)
        if made is None or not judge(made, strict=True).accepted:
            continue
        assert judge(made).accepted, seed
        accepted += 1
        for number in range(6):
            try:
                Run(made, seed * 100 + number, strict=True).run()
            except Violation as error:
                pytest.fail(f"program {seed}, inputs {seed * 100 + number}: {error}")
    assert accepted > 0.15 * COUNT


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("an address returned", "an address leaves by r0"),
        ("a pointer kept in a map", r"an address leaves by m\[0\]"),
        ("stack that was never written", "was never written"),
        ("bytes between the fields of a value", "was never written"),
    ],
)
def test_the_engine_sees_what_strict_forbids(name: str, what: str) -> None:
    asked = question(next(rule for rule in RULES if rule.name == name))
    with pytest.raises(Violation, match=what):
        for number in range(8):
            Run(asked, number, strict=True).run()
    for number in range(8):
        Run(asked, number).run()
