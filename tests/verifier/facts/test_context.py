"""Contexts and kernel structs, held against the running kernel: random accesses of every kind of program."""

from __future__ import annotations

import os
import random
import re
from typing import Any

import pytest

from skep.btf import Btf
from skep.errors import KernelError
from skep.isa import Insn, encode
from skep.linux.kernel import LinuxKernel
from skep.uapi.enums import AttachType, ProgType
from skep.verifier import kinds as k
from skep.verifier.facts import btfwalk, context
from skep.verifier.facts.btf_context import attach_target
from skep.verifier.subject import Subject
from tests.support import oracles

SEED = int(os.environ.get("SKEP_SEED", "518"))
LOADS = {8: 0x79, 4: 0x61, 2: 0x69, 1: 0x71}
STORES = {8: 0x7B, 4: 0x63, 2: 0x6B, 1: 0x73}
BY_BTF = (ProgType.TRACING, ProgType.LSM, ProgType.STRUCT_OPS)
pytestmark = pytest.mark.live


class Asker:
    """Loads programs and reads the log."""

    def __init__(self) -> None:
        oracles.bpf()
        self.kernel = LinuxKernel()
        major, minor = self.kernel.version
        self.kern_version = major << 16 | minor << 8

    def log(self, kind: int, insns: list[Insn], **attr: Any) -> tuple[bool, str]:
        if kind == ProgType.KPROBE:
            attr["kern_version"] = self.kern_version
        if kind == ProgType.SYSCALL:
            attr["prog_flags"] = 16
        try:
            fd, log = self.kernel.prog_load(kind, encode(insns), "GPL", log_level=2, **attr)
        except KernelError as error:
            return False, error.log
        self.kernel.close(fd)
        return True, log


def kind_in_r0(log: str, insn: int) -> str:
    """The kind that instruction ``insn`` left in r0, as the log writes it."""
    lines = log.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(f"{insn}: (")), len(lines))
    for line in lines[start:]:
        if line.startswith((f"{insn}: (", f"{insn + 1}: R")):
            found = re.search(r"\bR0(?:_\w+)?=([a-z_A-Z0-9]+)", line)
            if found:
                return found[1] if not found[1].isdigit() else "scalar"
    return "?"


def test_accesses_of_contexts() -> None:
    asker = Asker()
    rng = random.Random(SEED)
    rows = list(context._blocks())
    compared = allowed = 0
    for _ in range(3000):
        kind, attach = rng.choice(rows)
        size = rng.choice((1, 2, 4, 8))
        write = rng.random() < 0.3
        places = [p for p in context._places(kind, attach) if p[1:] == (size, write)]
        if places and rng.random() < 0.6:
            off = rng.choice(places)[0]
        else:
            off = rng.randrange(-8, 272)
        if off < 0 and kind == ProgType.TRACEPOINT:
            continue  # Linux up to 6.18 at least lets these through
        subject = Subject.from_insns([], kind, attach_type=attach, types=Btf.kernel)
        said = context.ctx_access(subject, off, size, write, asker.kernel.version)
        start = [Insn(0xB7)] if write else []
        access = Insn(STORES[size], 1, 0, off) if write else Insn(LOADS[size], 0, 1, off)
        code = [*start, access, Insn(0xB7), Insn(0x95)]
        ok, log = asker.log(kind, code, expected_attach_type=attach)
        if "(95) exit" not in log and not log.count("bpf_context access"):
            continue  # the type is not there, or what it returns matters
        took = ok or "invalid bpf_context access" not in log
        name = f"seed {SEED}: {ProgType(kind).name}/{attach} off={off} size={size} write={write}"
        assert took == (said is not None), f"{name}: kernel {took}, we {said}\n{log}"
        if said is not None and not write:
            told = kind_in_r0(log, 0)
            ours = k.kind_name(said.kind)
            assert told.startswith(ours) if ours.endswith("ptr_") else told == ours, (
                f"{name}: {told}, we {ours}"
            )
        compared += 1
        allowed += said is not None
    print(f"{compared} accesses compared, {allowed} allowed")
    assert compared > 2000
    assert allowed > 500


def tracepoints(btf: Btf) -> list[str]:
    return [row[1] for _, row in btf.items() if row[0] == 8 and row[1].startswith("btf_trace_")]


def test_arguments_of_tracepoints_and_structs_behind_them() -> None:
    """Loads of arguments, then of members of the structs they point to."""
    asker = Asker()
    btf = Btf.kernel()
    rng = random.Random(SEED)
    names = tracepoints(btf)
    arguments = members = pointers = 0
    for _ in range(500):
        name = rng.choice(names)
        id = btf.require(name, 8)
        subject = Subject.from_insns([], ProgType.TRACING, attach_type=AttachType.TRACE_RAW_TP, types=btf)
        subject.attach_btf_id = id
        attr = {"expected_attach_type": int(AttachType.TRACE_RAW_TP), "attach_btf_id": id}
        off, size = rng.choice((0, 0, 8, 8, 16, 24, 32, 4, 96)), rng.choice((8, 8, 8, 8, 8, 8, 4, 2, 1))
        log_lines: list[str] = []
        said = context.ctx_access(subject, off, size, False, asker.kernel.version, log=log_lines)
        code = [Insn(LOADS[size], 0, 1, off), Insn(0xB7), Insn(0x95)]
        ok, log = asker.log(ProgType.TRACING, code, **attr)
        if "func#0" not in log:
            continue
        where = f"seed {SEED}: {name} off={off} size={size}"
        assert ok == (said is not None), f"{where}: kernel {ok}, we {said}\n{log}"
        for line in log_lines:
            assert line in log, f"{where}: {line}\n{log}"
        arguments += 1
        if said is None:
            continue
        shown = kind_in_r0(log, 0)
        ours = k.kind_name(said.kind)
        if said.kind & k.BASE_MASK == k.PTR_TO_BTF_ID:
            assert isinstance(said.btf, Btf)
            ours += btfwalk.struct_name(said.btf, said.btf_id)
        assert shown == ours, f"{where}\n{log}"
        if said.kind != k.PTR_TO_BTF_ID | k.PTR_TRUSTED:
            continue
        struct = btf[said.btf_id]
        for _ in range(4):
            size2 = rng.choice((8, 8, 8, 4, 2, 1))
            off2 = rng.randrange(0, struct[2] + 8) // rng.choice((size2, 8)) * rng.choice((size2, 8))
            if struct[3] and rng.random() < 0.7:
                off2 = rng.choice(struct[3])[2] // 8
            found = btfwalk.struct_access(btf, said.btf_id, off2, size2, kernel=asker.kernel.version)
            code = [Insn(0x79, 0, 1, off), Insn(LOADS[size2], 0, 0, off2), Insn(0xB7), Insn(0x95)]
            ok, log = asker.log(ProgType.TRACING, code, **attr)
            where = f"seed {SEED}: {name} {struct[1]} off={off2} size={size2}"
            assert ok == (found.what != btfwalk.ERROR), f"{where}: kernel {ok}, we {found}\n{log}"
            if not ok:
                assert found.reason in log, f"{where}: {found.reason}\n{log}"
            elif found.what == btfwalk.POINTER:
                assert kind_in_r0(log, 1).endswith("ptr_" + btfwalk.struct_name(btf, found.btf_id)) or (
                    kind_in_r0(log, 1).endswith("ptr_or_null_" + btfwalk.struct_name(btf, found.btf_id))
                ), f"{where}\n{log}"
                pointers += 1
            else:
                ours = "rdonly_untrusted_mem" if found.what == btfwalk.UNTRUSTED else "scalar"
                assert kind_in_r0(log, 1) == ours, f"{where}\n{log}"
            members += 1
    print(f"{arguments} arguments and {members} members compared, {pointers} pointers")
    assert arguments > 300
    assert members > 200


def test_a_program_attached_to_nothing_has_five_numbers() -> None:
    subject = Subject.from_insns([], ProgType.TRACING, attach_type=AttachType.TRACE_FENTRY)
    assert attach_target(subject) is None
    assert context.ctx_access(subject, 32, 8, False) == context.SCALAR
    assert context.ctx_access(subject, 40, 8, False) is None
