"""Linux's notation against the running kernel's verifier log and `bpftool prog dump xlated`."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from skep.asm import linux
from skep.isa import Insn, decode
from skep.isa import opcodes as op
from tests.asm import corpus
from tests.isa import live
from tests.support import oracles

pytestmark = pytest.mark.live

START = [Insn(0xBF, 6, 1), *(Insn(0xB7, r, imm=1) for r in (0, 2, 3, 4, 5, 7, 8, 9))]
END = [Insn(0xB7), Insn(op.EXIT)]


def logged(log: str, pc: int) -> str | None:
    """What the verifier's log says instruction ``pc`` is."""
    found = re.search(rf"^{pc}: (\([0-9a-f]{{2}}\) .*?|BUG_\S+?)(?:\s+; .*)?$", log, re.MULTILINE)
    return found.group(1) if found else None


def test_text_equals_the_verifier_log() -> None:
    """Legal and illegal instructions; the kernel prints most before it refuses them."""
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    compared = set()
    count = 0
    for opcode in range(256):
        for _ in range(15):
            known = opcode in corpus.opcodes() and rng.random() < 0.7
            slots = corpus.legal(rng, opcode) if known else [corpus.anything(rng)._replace(opcode=opcode)]
            if opcode == op.LD_IMM64:
                slots = [slots[0]._replace(src=0), Insn(0, imm=rng.randrange(-(1 << 31), 1 << 31))]
            jump = Insn(0x15, off=len(slots))
            program = [*START, jump, *slots, *END]
            fd, log = live.load(program)
            if fd >= 0:
                os.close(fd)
            theirs = logged(log, len(START) + 1)
            if theirs is None:
                continue  # refused before the kernel printed it
            if slots[0].opcode == op.CALL and slots[0].src == op.BPF_PSEUDO_KFUNC_CALL:
                continue  # the kernel names the function
            assert linux.text(program, len(START) + 1) == theirs, slots
            compared.add(opcode)
            count += 1
    print(f"compared {count} instructions of {len(compared)} opcodes")
    assert count > 800 and len(compared) > 90


def test_helper_names_equal_the_kernel_log() -> None:
    compared = 0
    for number in range(250):
        program = [*START, Insn(op.CALL, imm=number), *END]
        fd, log = live.load(program)
        if fd >= 0:
            os.close(fd)
        theirs = logged(log, len(START))
        # A name the kernel does not have yet, or that ours does not: nothing to compare.
        if theirs and "unknown#" not in theirs and number < len(linux.HELPERS):
            assert linux.text(program, len(START)) == theirs
            compared += 1
    print(f"compared {compared} helpers")
    assert compared > 150


@pytest.mark.oracle
def test_listing_equals_bpftool(tmp_path: Path) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    tool = oracles.tool("bpftool")
    rng = random.Random(corpus.SEED)
    # bpftool 7.1 is older than v4: compare what both know. Helper calls become addresses, packet loads code.
    new = re.compile(r"\(s(8|16|32)\)|\*\(s|bswap|s/=|s%=|gotol|may_goto|nospec")
    compared = 0
    for _ in range(12):
        body = [Insn(0xBF, 1, 10)]
        while len(body) < 120:
            opcode = rng.choice(corpus.opcodes())
            slots = corpus.legal(rng, opcode)
            cls, mode = opcode & op.CLASS_MASK, opcode & op.MODE_MASK
            if cls in (op.BPF_JMP, op.BPF_JMP32):
                if opcode not in (op.CALL, op.CALLX, op.EXIT, op.MAY_GOTO, op.GOTOL, op.JA):
                    slots = [slots[0]._replace(off=0)]
                    if opcode & op.BPF_X:
                        slots = [slots[0]._replace(src=rng.randrange(2, 6))]
                    body += [slots[0]._replace(dst=rng.randrange(2, 6))]
                continue
            if opcode == op.LD_IMM64:
                body += [slots[0]._replace(src=0, dst=rng.randrange(2, 6)), slots[1]]
            elif cls in (op.BPF_ALU, op.BPF_ALU64):
                if slots[0].off == 0:
                    body += [slots[0]._replace(dst=rng.randrange(2, 6), src=slots[0].src and 7)]
            elif mode in (op.BPF_MEM, op.BPF_ATOMIC) and (slots[0].imm < 0x100 or cls == op.BPF_ST):
                base = {"src": 1} if cls == op.BPF_LDX else {"dst": 1}
                value = {"dst": 3} if cls == op.BPF_LDX else {"src": 7} if cls == op.BPF_STX else {}
                body += [slots[0]._replace(**base, **value, off=-8 * rng.randrange(1, 8))]
                body += [Insn(0xB7, 7, imm=1), Insn(0xB7, imm=1)]
        stack = [Insn(0x7A, 10, 0, -8 * slot, slot) for slot in range(1, 9)]
        fd, _ = live.load([*START, *stack, *body, *END], live.SOCKET_FILTER, log_level=0)
        assert fd >= 0, live.load([*START, *stack, *body, *END], live.SOCKET_FILTER)[1][-500:]
        try:
            number = re.search(r"prog_id:\s+(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())
            assert number is not None
            dump = [tool, "prog", "dump", "xlated", "id", number.group(1)]
            done = subprocess.run(dump, capture_output=True, text=True, check=True)
            raw = tmp_path / "xlated"
            subprocess.run([*dump, "file", raw], capture_output=True, check=True)
        finally:
            os.close(fd)
        want = done.stdout.splitlines()
        got = linux.listing(decode(raw.read_bytes()))
        assert len(got) == len(want)
        for ours, theirs in zip(got, want, strict=True):
            if not new.search(ours):
                assert ours == theirs
                compared += 1
    print(f"compared {compared} instructions")
    assert compared > 1000
