"""Calls of kernel functions with arguments of every kind: our verdict, the kernel's words.

As in test_helper_arguments: values of each kind are made first, then functions are called with some of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from skep.btf import types as t
from skep.isa import Insn
from skep.obj import MapSpec
from skep.uapi.enums import AttachType, MapType, ProgType
from skep.verifier.facts import kfuncs as kf
from skep.verifier.facts.btfwalk import skip_modifiers
from skep.verifier.facts.kfunc_table import KFUNCS
from tests.support import oracles
from tests.verifier.harness.kernel import Lab, kernel_types, lab
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Question

SEED = int(os.environ.get("SKEP_SEED", "518"))
PROGRAMS = int(os.environ.get("SKEP_PROGRAMS", "400"))
MAPS = (MapSpec("values", MapType.ARRAY, 4, 48, 4), MapSpec("hash", MapType.HASH, 4, 16, 4))
TYPES = (
    (ProgType.TRACING, AttachType.TRACE_RAW_TP, "sched_process_fork", 0),
    (ProgType.TRACING, AttachType.TRACE_ITER, "task", 0),
    (ProgType.TRACING, AttachType.TRACE_ITER, "cgroup", 0),
    (ProgType.SCHED_CLS, None, "", 0),
    (ProgType.XDP, None, "", 0),
    (ProgType.SYSCALL, None, "", 16),
)
UNKNOWN, SMALL, ARG0, ARG1, WALKED, BUFFER, FRESH = -8, -16, -24, -32, -40, -128, -320
#: functions that end the program, want BTF of its own, or differ between builds
SKIPPED = (
    "bpf_throw",
    "crash_kexec",
    "bpf_obj_new_impl",
    "bpf_percpu_obj_new_impl",
    "tcp_",
    "scx_",
    "__bpf_trap",
)


def names() -> list[str]:
    found = [line.split()[0] for line in KFUNCS.strip().split("\n") if line[0] != "@"]
    return [n for n in found if not n.startswith(SKIPPED) and kernel_types().find(n, t.FUNC)]


def prologue(kind: ProgType, attach: AttachType | None) -> tuple[list[Insn], list[str]]:
    out = [Insn(0xBF, 6, 1), Insn(0x85, imm=7), Insn(0x7B, 10, 0, UNKNOWN)]
    out += [Insn(0x57, 0, imm=31), Insn(0x07, 0, imm=1), Insn(0x7B, 10, 0, SMALL)]
    out += [Insn(0x7A, 10, 0, off, 0) for off in range(BUFFER, BUFFER + 64, 8)]
    have = ["unknown", "small"]
    if kind == ProgType.TRACING:
        out += [Insn(0x79, 0, 6, 0), Insn(0x7B, 10, 0, ARG0), Insn(0x79, 0, 6, 8)]
        if attach == AttachType.TRACE_ITER:
            out += [Insn(0x55, 0, 0, 2), Insn(0xB7), Insn(0x95)]
        out += [Insn(0x7B, 10, 0, ARG1)]
        have += ["arg0", "arg1"]
    return out, have


PLACES = {"unknown": UNKNOWN, "small": SMALL, "arg0": ARG0, "arg1": ARG1, "walked": WALKED}


def put(reg: int, what: str) -> list[Insn]:
    if what == "ctx":
        return [Insn(0xBF, reg, 6)]
    if what.startswith("map"):
        return [Insn(0x18, reg, 1, 0, int(what[3:])), Insn(0)]
    if what in ("buffer", "fresh"):
        off = BUFFER if what == "buffer" else FRESH
        return [Insn(0xBF, reg, 10), Insn(0x07, reg, imm=off)]
    if what == "returned":
        return [Insn(0xBF, reg, 7)]
    if what in PLACES:
        return [Insn(0x79, reg, 10, PLACES[what])]
    return [Insn(0xB7, reg, imm=int(what))]


def fitting(name: str, type_id: int, rng: random.Random, have: list[str]) -> str:
    btf = kernel_types()
    value = btf[skip_modifiers(btf, type_id)]
    if value[0] != t.PTR:
        return rng.choice(["0", "1", "4", "8", "16", "64", "small", "unknown"])
    struct = btf[skip_modifiers(btf, value[2])]
    if struct[1] in ("__sk_buff", "xdp_md"):
        return "ctx"
    if struct[1] == "bpf_map":
        return rng.choice(["map0", "map1"])
    if struct[1] == "bpf_dynptr" or struct[1].startswith("bpf_iter"):
        return rng.choice(["fresh", "fresh", "buffer"])
    if struct[0] == t.STRUCT:
        return rng.choice([*(w for w in have if w.startswith("arg")), "buffer", "0"])
    return rng.choice(["buffer", "buffer", "fresh", "0"])


def call(name: str, rng: random.Random, have: list[str], code: list[Insn]) -> tuple[int, str]:
    """Add a call; (its slot, how it reads)."""
    btf = kernel_types()
    proto = btf[btf[btf.require(name, t.FUNC)][2]]
    chosen = []
    every = ["ctx", "buffer", "fresh", "0", "1", "64", "map0", *have]
    for index, (param, type_id) in enumerate(proto[3][:5]):
        what = fitting(param, type_id, rng, have) if rng.random() < 0.85 else rng.choice(every)
        chosen.append(what)
        code += put(index + 1, what)
    code.append(Insn(0x85, 0, 2, 0, 0))
    return len(code) - 1, f"{name}({', '.join(chosen)})"


def question(rng: random.Random) -> tuple[Question, str]:
    kind, attach, target, flags = rng.choice(TYPES)
    code, have = prologue(kind, attach)
    every = names()
    allowed = [n for n in every if kf.allowed(n, kind)]
    calls = []
    texts = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        name = rng.choice(allowed if rng.random() < 0.93 else every)
        related = [
            n
            for n in allowed
            if texts and n.rpartition("_")[0] == texts[-1].partition("(")[0].rpartition("_")[0]
        ]
        if related and rng.random() < 0.6:
            name = rng.choice(related)
        slot, text = call(name, rng, have, code)
        calls.append((slot, name))
        texts.append(text)
        if rng.random() < 0.7:
            code.append(Insn(0xBF, 7, 0))
            if "returned" not in have:
                have.append("returned")
        if rng.random() < 0.3:
            code += [Insn(0x55, 0, 0, 2), Insn(0xB7), Insn(0x95)]
    if rng.random() < 0.4:
        code.append(Insn(0x79, 1, 0, 0))
    code += [Insn(0xB7, 0), Insn(0x95)]
    asked = Question(code, kind, attach, target, maps=MAPS, flags=flags, kfuncs=tuple(calls))
    return asked, f"{kind.name} {target} {'; '.join(texts)}"


@pytest.fixture(scope="module")
def live() -> Iterator[Lab]:
    oracles.bpf()
    with lab() as made:
        yield made


@pytest.mark.live
def test_calls_of_kernel_functions(live: Lab) -> None:
    rng = random.Random(SEED)
    accepted = 0
    wrong = []
    for number in range(PROGRAMS):
        asked, text = question(rng)
        theirs = live.ask(asked)
        ours = judge(asked)
        accepted += theirs.accepted
        if ours.accepted != theirs.accepted or (
            not theirs.accepted and ours.reason.partition("\n")[0] not in theirs.reason.split("\n")
        ):
            wrong.append(
                f"seed {SEED} program {number}: {text}\n"
                f"    kernel: {'accepts' if theirs.accepted else theirs.first}\n"
                f"    we:     {'accept' if ours.accepted else ours.reason}"
            )
    print(f"{PROGRAMS} programs, {accepted} accepted by the kernel")
    assert not wrong, f"{len(wrong)} of {PROGRAMS} differ\n" + "\n".join(wrong)
