"""What a program's instructions need of the kernel: refused when the version asked about is older."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.verifier.facts.limits import FEATURES, limits

if TYPE_CHECKING:
    from skep.isa.ebpf import Insn
    from skep.verifier.env import Env

_JMP: Final = 0x05
_JMP32: Final = 0x06
_ALU: Final = 0x04
_ALU64: Final = 0x07
_LDX: Final = 0x01
_STX: Final = 0x03
_NEW_JUMPS: Final = (0xA0, 0xB0, 0xC0, 0xD0)
_LD_IMM64: Final = 0x18
_PSEUDO: Final = {
    2: "map values addressed directly",
    3: "kernel variables by BTF id",
    4: "callbacks",
    5: "maps named by index",
    6: "maps named by index",
}
_ATOMIC_ADD: Final = 0x00
_LOAD_ACQUIRE: Final = 0x100
_STORE_RELEASE: Final = 0x110
_TAIL_CALL: Final = 12


def needs(insn: Insn) -> str:
    """The feature (a key of `FEATURES`) that an instruction needs, "" for what there always was."""
    code = insn.opcode
    kind, bits = code & 7, code & 0xF0
    if code == _LD_IMM64:
        return _PSEUDO.get(insn.src, "")
    if kind == _JMP32:
        return "jumps with 32-bit offsets" if bits == 0 else "32-bit jumps"
    if kind == _JMP:
        if bits in _NEW_JUMPS:
            return "JLT, JLE, JSLT, JSLE"
        if bits == 0xE0:
            return "may_goto"
        if bits == 0 and code & 8:
            return "indirect jumps"
        if bits == 0x80:
            return {1: "bpf-to-bpf calls", 2: "calls of kernel functions"}.get(insn.src, "")
        return ""
    if kind in (_ALU, _ALU64):
        if bits == 0xD0 and kind == _ALU64:
            return "byte swaps of either order"
        if bits == 0xB0 and insn.off:
            return "address space casts" if insn.off == 1 else "sign-extending loads and moves"
        if bits in (0x30, 0x90) and insn.off:
            return "signed division"
        return ""
    if kind == _LDX and code & op.MODE_MASK == 0x80:
        return "sign-extending loads and moves"
    if kind == _STX and code & op.MODE_MASK == 0xC0:
        if insn.imm in (_LOAD_ACQUIRE, _STORE_RELEASE):
            return "load-acquire and store-release"
        return "" if insn.imm == _ATOMIC_ADD else "atomic fetch, exchange and compare"
    return ""


def check_features(env: Env) -> None:
    """Refuse what the kernel that was asked about does not know."""
    kernel = env.kernel
    insns = env.subject.insns
    allowed = limits(kernel, env.bpf).program
    if len(insns) > allowed and allowed == 4096:
        text = f"program of {len(insns)} instructions, {allowed} are the limit"
        env.reject(f"{text} (Linux 5.2 takes a million)" if env.bpf else text)
    calls = tails = False
    for pc, insn in enumerate(insns):
        name = needs(insn)
        if name:
            since = FEATURES[name]
            if since > kernel:
                text = f"{name} are unknown (Linux {since[0]}.{since[1]} has them)"
                if insn.opcode & 7 not in (_ALU, _ALU64):
                    env.pc = pc
                    env.reject(text)
                env.too_new[pc] = text  # looked at when a path is there
        if insn.opcode == 0x85:
            calls = calls or insn.src == 1
            tails = tails or (insn.src == 0 and insn.imm == _TAIL_CALL)
    if calls and tails and kernel < FEATURES["tail calls in subprograms"]:
        env.reject("tail_calls are not allowed in programs with bpf-to-bpf calls (Linux 5.10 allows them)")
    if kernel < FEATURES["bounded loops"]:
        _refuse_loops(env)


def _refuse_loops(env: Env) -> None:
    """Before 5.3 no jump may lead back to where a path has been."""
    insns = env.subject.insns
    count = len(insns)
    state = bytearray(count)  # 1: on the path, 2: done
    starts = [0] + [pc + 1 + i.imm for pc, i in enumerate(insns) if i.opcode == 0x85 and i.src == 1]
    for start in starts:
        if not 0 <= start < count or state[start]:
            continue
        state[start] = 1
        path: list[tuple[int, list[int]]] = [(start, _after(insns, start))]
        while path:
            pc, left = path[-1]
            if not left:
                state[pc] = 2
                path.pop()
                continue
            to = left.pop()
            if not 0 <= to < count:
                continue
            if state[to] == 1:
                env.pc = pc
                env.reject(f"back-edge from insn {pc} to {to} (Linux 5.3 takes bounded loops)")
            if not state[to]:
                state[to] = 1
                path.append((to, _after(insns, to)))


def _after(insns: list[Insn], pc: int) -> list[int]:
    insn = insns[pc]
    code = insn.opcode
    if code == 0x95:
        return []
    if code == _LD_IMM64:
        return [pc + 2]
    if code & 7 in (_JMP, _JMP32) and code & 0xF0 not in (0x80, 0x90):
        far = code == 0x06
        to = pc + 1 + (insn.imm if far else insn.off)
        return [to] if code & 0xF0 == 0 else [pc + 1, to]
    return [pc + 1]
