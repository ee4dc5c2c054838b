"""Calls of every helper with arguments of every kind, mostly nearly right: our verdict, the kernel's words.

A program first makes one value of each kind and keeps them on its stack; then r1 to r5 are loaded with some
of them and a helper is called. What the call returns is looked at by a load through r0 in half of the
programs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from skep.isa import Insn
from skep.obj import MapSpec
from skep.uapi import availability
from skep.uapi.enums import AttachType, MapType, ProgType
from skep.uapi.helpers import helpers
from skep.verifier import kinds as k
from skep.verifier.facts import args as a
from skep.verifier.facts.protos import proto
from tests.support import oracles
from tests.uapi.test_availability import BY_CONFIG
from tests.verifier.harness.kernel import Lab, lab
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Question

SEED = int(os.environ.get("SKEP_SEED", "518"))
PROGRAMS = int(os.environ.get("SKEP_PROGRAMS", "400"))

MAPS = (
    MapSpec("values", MapType.ARRAY, 4, 48, 4),
    MapSpec("hash", MapType.HASH, 4, 16, 4),
    MapSpec("percpu", MapType.PERCPU_ARRAY, 4, 16, 4),
    MapSpec("progs", MapType.PROG_ARRAY, 4, 4, 4),
    MapSpec("events", MapType.PERF_EVENT_ARRAY, 4, 4, 0),
    MapSpec("ring", MapType.RINGBUF, 0, 0, 4096),
    MapSpec("stacks", MapType.STACK_TRACE, 4, 8 * 16, 4),
    MapSpec("queue", MapType.QUEUE, 0, 16, 4),
    MapSpec("trie", MapType.LPM_TRIE, 8, 8, 4, 1),
    MapSpec("socks", MapType.SOCKMAP, 4, 4, 4),
    MapSpec("devices", MapType.DEVMAP, 4, 4, 4),
    MapSpec("cgroups", MapType.CGROUP_ARRAY, 4, 4, 4),
    MapSpec("bloom", MapType.BLOOM_FILTER, 0, 8, 4),
)
TYPES = (
    (ProgType.SOCKET_FILTER, None),
    (ProgType.SCHED_CLS, None),
    (ProgType.XDP, None),
    (ProgType.KPROBE, None),
    (ProgType.TRACEPOINT, None),
    (ProgType.RAW_TRACEPOINT, None),
    (ProgType.PERF_EVENT, None),
    (ProgType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS),
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT),
    (ProgType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS),
    (ProgType.SK_MSG, AttachType.SK_MSG_VERDICT),
    (ProgType.SK_SKB, None),
    (ProgType.SK_LOOKUP, AttachType.SK_LOOKUP),
    (ProgType.LWT_XMIT, None),
    (ProgType.FLOW_DISSECTOR, None),
)
#: (offsets of data and data_end in the context, load)
PACKETS = {
    ProgType.SCHED_CLS: (76, 80, 0x61),
    ProgType.XDP: (0, 4, 0x61),
    ProgType.LWT_XMIT: (76, 80, 0x61),
    ProgType.SK_SKB: (76, 80, 0x61),
    ProgType.CGROUP_SKB: (76, 80, 0x61),
    ProgType.SK_MSG: (0, 8, 0x79),
}
SOCKETS = {ProgType.SCHED_CLS: 168, ProgType.CGROUP_SKB: 168, ProgType.SOCKET_FILTER: 168}
#: slots of the kept values, and where buffers are
VALUE, UNKNOWN, SMALL, PACKET, OR_NULL, SOCK, BUFFER, FRESH = -8, -16, -24, -32, -40, -48, -128, -300
PLACES = {
    "value": VALUE,
    "unknown": UNKNOWN,
    "small": SMALL,
    "packet": PACKET,
    "or_null": OR_NULL,
    "sock": SOCK,
}


def load_map(reg: int, index: int) -> list[Insn]:
    return [Insn(0x18, reg, 1, 0, index), Insn(0)]


def prologue(kind: ProgType) -> tuple[list[Insn], list[str]]:
    """r6 is the context; the other values are on the stack."""
    out = [Insn(0xBF, 6, 1), Insn(0x85, imm=7), Insn(0x7B, 10, 0, UNKNOWN)]
    out += [Insn(0x57, 0, imm=31), Insn(0x07, 0, imm=1), Insn(0x7B, 10, 0, SMALL)]
    out += [Insn(0x7A, 10, 0, off, 0) for off in range(BUFFER, BUFFER + 64, 8)]
    keys = [Insn(0x62, 10, 0, -60, 9), Insn(0xBF, 2, 10), Insn(0x07, 2, imm=-60)]
    out += [*keys, *load_map(1, 0), Insn(0x85, imm=1), Insn(0x7B, 10, 0, OR_NULL)]
    out += [*keys, *load_map(1, 0), Insn(0x85, imm=1), Insn(0x55, 0, 0, 2), Insn(0xB7), Insn(0x95)]
    out += [Insn(0x7B, 10, 0, VALUE)]
    have = ["value", "unknown", "small", "or_null"]
    if kind in PACKETS:
        data, end, code = PACKETS[kind]
        out += [Insn(code, 2, 6, data), Insn(code, 3, 6, end), Insn(0xBF, 4, 2), Insn(0x07, 4, imm=40)]
        out += [Insn(0x3D, 3, 4, 2), Insn(0xB7), Insn(0x95), Insn(0x7B, 10, 2, PACKET)]
        have.append("packet")
    if kind in SOCKETS:
        out += [Insn(0x79, 2, 6, SOCKETS[kind]), Insn(0x55, 2, 0, 2), Insn(0xB7), Insn(0x95)]
        out += [Insn(0x7B, 10, 2, SOCK)]
        have.append("sock")
    return out, have


def fitting(kind: int, rng: random.Random) -> str:
    """The name of a value that an argument of ``kind`` would take, probably."""
    base = kind & k.BASE_MASK
    if base == a.ARG_CONST_MAP_PTR:
        return f"map{rng.randrange(len(MAPS))}"
    if base == a.ARG_PTR_TO_CTX:
        return "ctx"
    if base in (a.ARG_CONST_SIZE, a.ARG_CONST_SIZE_OR_ZERO, a.ARG_CONST_ALLOC_SIZE_OR_ZERO):
        return rng.choice(["4", "8", "16", "20", "40", "48", "64", "small", "0", "unknown"])
    if base in (a.ARG_PTR_TO_MEM, a.ARG_PTR_TO_MAP_KEY, a.ARG_PTR_TO_MAP_VALUE):
        choices = ["buffer", "buffer", "value", "fresh", "packet", "0"]
        return rng.choice(choices)
    if base in (a.ARG_PTR_TO_SOCK_COMMON, a.ARG_PTR_TO_BTF_ID_SOCK_COMMON, a.ARG_PTR_TO_SOCKET):
        return "sock"
    if base == a.ARG_PTR_TO_DYNPTR:
        return rng.choice(["fresh", "buffer"])
    return rng.choice(["0", "1", "8", "unknown", "small"])


def put(reg: int, what: str) -> list[Insn]:
    if what == "ctx":
        return [Insn(0xBF, reg, 6)]
    if what.startswith("map"):
        return load_map(reg, int(what[3:]))
    if what in ("buffer", "fresh"):
        off = BUFFER if what == "buffer" else FRESH
        return [Insn(0xBF, reg, 10), Insn(0x07, reg, imm=off)]
    if what in PLACES:
        return [Insn(0x79, reg, 10, PLACES[what])]
    return [Insn(0xB7, reg, imm=int(what))]


def question(rng: random.Random) -> tuple[Question, str]:
    kind, attach = rng.choice(TYPES)
    known = helpers()
    number = rng.choice(list(known))
    if rng.random() < 0.9:
        number = rng.choice(
            [n for n in known if availability.allowed(kind, n, int(attach) if attach else None)]
        )
    code, have = prologue(kind)
    found = proto(kind, number, int(attach or 0))
    every = ["ctx", "buffer", "fresh", "0", "1", "64", "map0", "map1", *have]
    chosen = []
    for reg in range(1, 6):
        want = found.args[reg - 1].kind if found is not None else 0
        if not want:
            continue
        what = fitting(want, rng) if rng.random() < 0.85 else rng.choice(every)
        if want & k.BASE_MASK == a.ARG_SCALAR:
            what = rng.choice(["8", "small", "unknown"])  # only newer kernels mind a pointer in bpf_loop
        if what in PLACES and what not in have:
            what = "buffer"
        if what == "packet" and kind in PACKETS and rng.random() < 0.2:
            what = "value"
        chosen.append(what)
        code += put(reg, what)
        if what in ("value", "packet", "buffer", "ctx", "or_null") and rng.random() < 0.1:
            code.append(Insn(0x07, reg, imm=rng.choice((4, 8, 12, 40))))
    code.append(Insn(0x85, imm=number))
    if rng.random() < 0.5:
        code.append(Insn(rng.choice((0x71, 0x79)), 1, 0, rng.choice((0, 0, 8, 40))))
    code += [Insn(0xB7, 0, imm=int(kind not in (ProgType.FLOW_DISSECTOR,))), Insn(0x95)]
    text = f"{kind.name} {known[number].name}({', '.join(chosen)})"
    license = "GPL" if rng.random() < 0.9 else "MIT"
    return Question(code, kind, attach, maps=MAPS, license=license), text


@pytest.fixture(scope="module")
def live() -> Iterator[Lab]:
    oracles.bpf()
    with lab() as made:
        yield made


@pytest.mark.live
def test_calls_of_helpers(live: Lab) -> None:
    rng = random.Random(SEED)
    accepted = 0
    wrong = []
    for number in range(PROGRAMS):
        asked, text = question(rng)
        theirs = live.ask(asked)
        if not theirs.accepted and any(
            f"cannot use helper bpf_{name}#" in theirs.first for name in BY_CONFIG
        ):
            continue
        ours = judge(asked)
        accepted += theirs.accepted
        if ours.accepted != theirs.accepted or (
            not theirs.accepted and ours.reason.partition("\n")[0] != theirs.first
        ):
            wrong.append(
                f"seed {SEED} program {number}: {text}\n"
                f"    kernel: {'accepts' if theirs.accepted else theirs.first}\n"
                f"    we:     {'accept' if ours.accepted else ours.reason}"
            )
    print(f"{PROGRAMS} programs, {accepted} accepted by the kernel")
    assert not wrong, f"{len(wrong)} of {PROGRAMS} differ\n" + "\n".join(wrong)
    assert accepted > PROGRAMS // 20
