"""Opcode bytes of extended BPF (RFC 9669, and what Linux has added since).

An opcode is ``class | source | operation`` for arithmetic and jumps, ``class | size | mode`` for
loads and stores. Plain integers, not an enum: decoding and execution compare them millions of times.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


# Instruction classes: the low three bits.
BPF_LD: Final = 0x00
BPF_LDX: Final = 0x01
BPF_ST: Final = 0x02
BPF_STX: Final = 0x03
BPF_ALU: Final = 0x04
BPF_JMP: Final = 0x05
BPF_JMP32: Final = 0x06  # classic BPF: BPF_RET
BPF_ALU64: Final = 0x07  # classic BPF: BPF_MISC
CLASS_MASK: Final = 0x07

# Operand source of arithmetic and jumps.
BPF_K: Final = 0x00
BPF_X: Final = 0x08

# Arithmetic operations.
BPF_ADD: Final = 0x00
BPF_SUB: Final = 0x10
BPF_MUL: Final = 0x20
BPF_DIV: Final = 0x30
BPF_OR: Final = 0x40
BPF_AND: Final = 0x50
BPF_LSH: Final = 0x60
BPF_RSH: Final = 0x70
BPF_NEG: Final = 0x80
BPF_MOD: Final = 0x90
BPF_XOR: Final = 0xA0
BPF_MOV: Final = 0xB0
BPF_ARSH: Final = 0xC0
BPF_END: Final = 0xD0
OP_MASK: Final = 0xF0

# Byte swaps: the source bit of BPF_END in class BPF_ALU; BPF_END in BPF_ALU64 swaps always.
BPF_TO_LE: Final = 0x00
BPF_TO_BE: Final = 0x08

# Jump operations.
BPF_JA: Final = 0x00
BPF_JEQ: Final = 0x10
BPF_JGT: Final = 0x20
BPF_JGE: Final = 0x30
BPF_JSET: Final = 0x40
BPF_JNE: Final = 0x50
BPF_JSGT: Final = 0x60
BPF_JSGE: Final = 0x70
BPF_CALL: Final = 0x80
BPF_EXIT: Final = 0x90
BPF_JLT: Final = 0xA0
BPF_JLE: Final = 0xB0
BPF_JSLT: Final = 0xC0
BPF_JSLE: Final = 0xD0
BPF_JCOND: Final = 0xE0  # may_goto (Linux 6.9)

# Load and store sizes.
BPF_W: Final = 0x00
BPF_H: Final = 0x08
BPF_B: Final = 0x10
BPF_DW: Final = 0x18
SIZE_MASK: Final = 0x18
SIZE_BYTES: Final = {BPF_B: 1, BPF_H: 2, BPF_W: 4, BPF_DW: 8}

# Load and store modes.
BPF_IMM: Final = 0x00
BPF_ABS: Final = 0x20
BPF_IND: Final = 0x40
BPF_MEM: Final = 0x60
BPF_MEMSX: Final = 0x80
BPF_ATOMIC: Final = 0xC0
MODE_MASK: Final = 0xE0

# Atomic operations, in the immediate: an ALU operation, or one of these; BPF_FETCH returns the old value.
BPF_FETCH: Final = 0x01
BPF_XCHG: Final = 0xE0 | BPF_FETCH
BPF_CMPXCHG: Final = 0xF0 | BPF_FETCH
BPF_LOAD_ACQ: Final = 0x100
BPF_STORE_REL: Final = 0x110

# Source register of a 64-bit immediate load.
BPF_PSEUDO_MAP_FD: Final = 1
BPF_PSEUDO_MAP_VALUE: Final = 2
BPF_PSEUDO_BTF_ID: Final = 3
BPF_PSEUDO_FUNC: Final = 4
BPF_PSEUDO_MAP_IDX: Final = 5
BPF_PSEUDO_MAP_IDX_VALUE: Final = 6

# Source register of a call.
BPF_PSEUDO_CALL: Final = 1
BPF_PSEUDO_KFUNC_CALL: Final = 2

# Source register of BPF_JCOND.
BPF_MAY_GOTO: Final = 0

# Source register of an address-space cast: BPF_ALU64 | BPF_MOV | BPF_X with this offset (Linux 6.9).
BPF_ADDR_SPACE_CAST: Final = 1

LD_IMM64: Final = BPF_LD | BPF_IMM | BPF_DW  # 0x18, the only two-slot instruction
EXIT: Final = BPF_JMP | BPF_EXIT  # 0x95
CALL: Final = BPF_JMP | BPF_CALL  # 0x85
CALLX: Final = BPF_JMP | BPF_CALL | BPF_X  # 0x8d, target in a register; only LLVM emits it
JA: Final = BPF_JMP | BPF_JA  # 0x05, 16-bit offset
GOTOL: Final = BPF_JMP32 | BPF_JA  # 0x06, 32-bit offset in imm
MAY_GOTO: Final = BPF_JMP | BPF_JCOND  # 0xe5

STACK_SIZE: Final = 512  # bytes of stack in a frame
MAX_FRAMES: Final = 8
