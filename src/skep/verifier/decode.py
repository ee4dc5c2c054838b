"""Slots to `Insn`s: every instruction becomes the object that simulates it.

What the kernel refuses before it follows any path is refused here; what it refuses only when a path gets
there becomes a `Bad` instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.isa.ebpf import Insn as RawInsn
from skep.isa.ebpf import imm64
from skep.verifier import alu, calls, jump
from skep.verifier import memory_insns as m
from skep.verifier.indirect import GOTOX, GotoX
from skep.verifier.insn import Bad, Insn, Tail
from skep.verifier.pseudo import check_pseudo
from skep.verifier.scalar import U32, Scalar
from skep.verifier.value import Value
from skep.verifier.version import FIXES

if TYPE_CHECKING:
    from skep.verifier.env import Env

_ALU_OPS: Final = frozenset(
    (
        op.BPF_ADD,
        op.BPF_SUB,
        op.BPF_MUL,
        op.BPF_DIV,
        op.BPF_OR,
        op.BPF_AND,
        op.BPF_LSH,
        op.BPF_RSH,
        op.BPF_MOD,
        op.BPF_XOR,
        op.BPF_ARSH,
    )
)
_ARENA: Final = 33
_READ_ONLY: Final = "frame pointer is read only"
_SHIFTS: Final = (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH)
_RMW: Final = frozenset(
    a | f for a in (op.BPF_ADD, op.BPF_AND, op.BPF_OR, op.BPF_XOR) for f in (0, op.BPF_FETCH)
) | {op.BPF_XCHG, op.BPF_CMPXCHG}


class _Memos:
    """What operations on numbers gave, shared by instructions that do the same."""

    def __init__(self) -> None:
        self.alu_imm: dict[tuple[int, int, int], dict[Value, Value]] = {}
        self.alu_reg: dict[int, dict[tuple[Value, Value], Scalar]] = {}
        self.jump_imm: dict[tuple[int, int], dict[Value, jump.Decision]] = {}
        self.jump_reg: dict[int, dict[tuple[Value, Value], jump.Decision]] = {}
        self.mov32: dict[Value, Scalar] = {}
        self.swap: dict[tuple[int, int], dict[Value, Scalar]] = {}


def decode(env: Env) -> list[Insn]:
    """An `Insn` for every slot."""
    from skep.isa.legal import rules

    raw = env.subject.insns
    known = rules()
    memos = _Memos()
    out: list[Insn] = []
    pc = 0
    count = len(raw)
    while pc < count:
        insn = raw[pc]
        opcode, dst, src, off, imm = insn
        env.pc = pc
        if opcode & op.CLASS_MASK == op.BPF_LDX:
            mode = opcode & op.MODE_MASK
            if mode not in (op.BPF_MEM, op.BPF_MEMSX) or imm:
                env.reject("BPF_LDX uses reserved fields")
        if opcode == op.LD_IMM64:
            if pc + 1 == count or raw[pc + 1][:4] != (0, 0, 0, 0):
                env.reject("invalid bpf_ld_imm64 insn")
            out.append(_imm64(env, pc, insn, raw))
            out.append(Tail(pc + 1, 0, 0, 0, 0, raw[pc + 1].imm))
            pc += 2
            continue
        if (known[opcode] is None and opcode != GOTOX) or opcode == op.CALLX:
            env.reject(f"unknown opcode {opcode:02x}")
        if dst > 10 or (src > 10 and opcode != op.CALL):
            out.append(Bad(pc, opcode, dst, src, off, imm, f"R{dst if dst > 10 else src} is invalid"))
        elif pc in env.too_new:
            out.append(Bad(pc, opcode, dst, src, off, imm, env.too_new[pc]))
        else:
            out.append(_one(env, pc, insn, memos))
        last = out[-1]
        if isinstance(last, Bad) and env.kernel >= (7, 0) and last.reason != _READ_ONLY and not last.reads:
            env.reject(last.reason)  # whether a path reaches it or not
        pc += 1
    return out


def _imm64(env: Env, pc: int, insn: RawInsn, raw: list[RawInsn]) -> Insn:
    opcode, dst, src, off, imm = insn
    value: Value | None = None
    if src == 0:
        value = env.scalars.const(imm64(raw, pc))
    else:
        check_pseudo(env, pc, insn, raw[pc + 1])
    if off or dst >= 10:
        reason = _READ_ONLY if dst == 10 else f"R{dst} is invalid"
        bad = Bad(pc, *insn, "BPF_LD_IMM64 uses reserved fields" if off else reason)
        bad.next = pc + 2
        return bad
    return m.LoadImm64(pc, opcode, dst, src, imm, value)


def _one(env: Env, pc: int, insn: RawInsn, memos: _Memos) -> Insn:
    opcode = insn.opcode
    cls = opcode & op.CLASS_MASK
    if cls in (op.BPF_ALU, op.BPF_ALU64):
        return _alu(env, pc, insn, memos)
    if cls in (op.BPF_JMP, op.BPF_JMP32):
        return _jump(env, pc, insn, memos)
    return _memory(env, pc, insn)


def _bad(pc: int, insn: RawInsn, reason: str, *reads: int) -> Insn:
    bad = Bad(pc, *insn, reason)
    bad.reads = reads
    return bad


def _alu(env: Env, pc: int, insn: RawInsn, memos: _Memos) -> Insn:
    opcode, dst, src, off, imm = insn
    operation = opcode & op.OP_MASK
    wide = opcode & op.CLASS_MASK == op.BPF_ALU64
    by_register = bool(opcode & op.BPF_X)
    scalars = env.scalars
    if operation == op.BPF_NEG:
        if by_register or src or off or imm:
            return _bad(pc, insn, "BPF_NEG uses reserved fields")
    elif operation == op.BPF_END:
        if src or off or imm not in (16, 32, 64) or (wide and by_register):
            return _bad(pc, insn, "BPF_END uses reserved fields")
    elif operation == op.BPF_MOV:
        problem = _mov_problem(insn, wide, by_register)
        if problem:
            return _bad(pc, insn, problem)
    elif operation not in _ALU_OPS:
        return _bad(pc, insn, f"invalid BPF_ALU opcode {operation:x}")
    else:
        signed = operation in (op.BPF_DIV, op.BPF_MOD)
        if (by_register and imm) or (not by_register and src) or off not in (0, 1) or (off and not signed):
            return _bad(pc, insn, "BPF_ALU uses reserved fields")
        if signed and not by_register and not imm:
            return _bad(pc, insn, "div by zero", dst)
        if operation in _SHIFTS and not by_register and not 0 <= imm < (64 if wide else 32):
            return _bad(pc, insn, f"invalid shift {imm}", dst)
    if dst == 10:
        return _bad(pc, insn, _READ_ONLY)
    if operation == op.BPF_MOV:
        return _mov(env, pc, insn, wide, by_register, memos)
    if (operation == op.BPF_END and env.kernel < (6, 18)) or (
        operation == op.BPF_NEG and env.kernel < (6, 17)
    ):
        return alu.Forget(pc, opcode, dst, imm)
    if operation == op.BPF_END:
        return alu.Swap(pc, opcode, dst, imm, memos.swap.setdefault((opcode, imm), {}))
    mixed = wide and env.kernel >= FIXES and any(row.type == _ARENA for row in env.subject.maps)
    if by_register:
        by_reg = alu.AluRegArena if mixed else alu.AluReg
        return by_reg(pc, opcode, dst, src, off, memos.alu_reg.setdefault(opcode, {}))
    memo = memos.alu_imm.setdefault((opcode, imm, off), {})
    by_imm = alu.AluImmArena if mixed else alu.AluImm
    return by_imm(pc, opcode, dst, off, imm, scalars.const(imm), memo)


def _mov_problem(insn: RawInsn, wide: bool, by_register: bool) -> str:
    _, _, src, off, imm = insn
    if not by_register:
        return "BPF_MOV uses reserved fields" if src or off else ""
    if wide and off == op.BPF_ADDR_SPACE_CAST:
        if imm not in (1, 1 << 16):
            return "addr_space_cast insn can only convert between address space 1 and 0"
        return ""
    widths = (0, 8, 16, 32) if wide else (0, 8, 16)
    return "BPF_MOV uses reserved fields" if off not in widths or imm else ""


def _mov(env: Env, pc: int, insn: RawInsn, wide: bool, by_register: bool, memos: _Memos) -> Insn:
    opcode, dst, src, off, imm = insn
    if not by_register:
        return alu.MovImm(pc, opcode, dst, imm, env.scalars.const(imm if wide else imm & U32))
    if wide and off == op.BPF_ADDR_SPACE_CAST:
        return alu.AddrSpaceCast(pc, opcode, dst, src, imm)
    if off:
        return alu.MovSx(pc, opcode, dst, src, off)
    if wide:
        return alu.MovReg(pc, opcode, dst, src, off, imm)
    return alu.MovReg32(pc, opcode, dst, src, memos.mov32)


def _jump(env: Env, pc: int, insn: RawInsn, memos: _Memos) -> Insn:
    opcode, dst, src, off, imm = insn
    operation = opcode & op.OP_MASK
    narrow = opcode & op.CLASS_MASK == op.BPF_JMP32
    by_register = bool(opcode & op.BPF_X)
    if operation == op.BPF_CALL:
        if by_register or narrow or dst or src > 2 or (off and src != op.BPF_PSEUDO_KFUNC_CALL):
            return _bad(pc, insn, "BPF_CALL uses reserved fields")
        if src == op.BPF_PSEUDO_CALL:
            return calls.CallSubprog(pc, opcode, imm)
        if src == op.BPF_PSEUDO_KFUNC_CALL:
            return calls.CallKfunc(pc, opcode, off, imm)
        return calls.CallHelper(pc, opcode, imm)
    if operation == op.BPF_EXIT:
        if by_register or narrow or dst or src or imm:
            return _bad(pc, insn, "BPF_EXIT uses reserved fields")
        return calls.Exit(pc, opcode, off)
    if opcode == GOTOX:
        if src or off or imm:
            return _bad(pc, insn, "BPF_JA|BPF_X uses reserved fields")
        return GotoX(pc, dst)
    if operation == op.BPF_JA:
        if by_register or src or dst or (off if narrow else imm):
            bad = _bad(pc, insn, "BPF_JA uses reserved fields")
            return bad
        return jump.Goto(pc, opcode, pc + 1 + (imm if narrow else off), off, imm)
    if opcode == op.MAY_GOTO:
        if src or dst or imm:
            return _bad(pc, insn, f"invalid may_goto imm {imm}")
        return jump.MayGoto(pc, opcode, off)
    if operation > op.BPF_JCOND or (narrow and operation == op.BPF_JCOND):
        return _bad(pc, insn, f"invalid BPF_JMP/JMP32 opcode {operation:x}")
    if by_register:
        if imm:
            return _bad(pc, insn, "BPF_JMP/JMP32 uses reserved fields")
        group = opcode | 256 if dst == src else opcode
        return jump.JumpReg(pc, opcode, dst, src, off, memos.jump_reg.setdefault(group, {}))
    if src:
        return _bad(pc, insn, "BPF_JMP/JMP32 uses reserved fields")
    memo = memos.jump_imm.setdefault((opcode, imm), {})
    return jump.JumpImm(pc, opcode, dst, off, imm, env.scalars.const(imm), memo)


def _memory(env: Env, pc: int, insn: RawInsn) -> Insn:
    opcode, dst, src, off, imm = insn
    cls = opcode & op.CLASS_MASK
    mode = opcode & op.MODE_MASK
    size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
    if cls == op.BPF_LDX:
        if dst == 10:
            return _bad(pc, insn, _READ_ONLY)
        return m.Load(pc, opcode, dst, src, off, size, mode == op.BPF_MEMSX)
    if cls == op.BPF_ST:
        if mode != op.BPF_MEM or src:
            return _bad(pc, insn, "BPF_ST uses reserved fields")
        return m.StoreImm(pc, opcode, dst, off, imm, size, env.scalars.const(imm))
    if cls == op.BPF_STX:
        if mode == op.BPF_ATOMIC:
            return _atomic(pc, insn, size)
        if mode != op.BPF_MEM or imm:
            return _bad(pc, insn, "BPF_STX uses reserved fields")
        return m.Store(pc, opcode, dst, src, off, size)
    if mode in (op.BPF_ABS, op.BPF_IND):
        if dst or off or size == 8 or (mode == op.BPF_ABS and src):
            return _bad(pc, insn, "BPF_LD_[ABS|IND] uses reserved fields")
        return m.LoadPacket(pc, opcode, src, imm, size)
    return _bad(pc, insn, "invalid BPF_LD mode")


def _atomic(pc: int, insn: RawInsn, size: int) -> Insn:
    opcode, dst, src, off, imm = insn
    if imm == op.BPF_LOAD_ACQ:
        if dst == 10:
            return _bad(pc, insn, _READ_ONLY)
        return m.LoadAcquire(pc, opcode, dst, src, off, size, False)
    if imm == op.BPF_STORE_REL:
        return m.StoreRelease(pc, opcode, dst, src, off, size)
    if imm not in _RMW:
        return _bad(pc, insn, f"BPF_ATOMIC uses invalid atomic opcode {imm & U32:02x}")
    if imm & op.BPF_FETCH and imm != op.BPF_CMPXCHG and src == 10:
        return _bad(pc, insn, _READ_ONLY)
    return m.Atomic(pc, opcode, dst, src, off, imm, size)
