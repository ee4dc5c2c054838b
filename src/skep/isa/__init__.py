"""BPF instructions, classic and extended: opcodes, values, bytes. RFC 9669 is the reference."""

from skep.isa.classic import ClassicInsn
from skep.isa.ebpf import Insn, decode, encode, imm64, ld_imm64

__all__ = ["ClassicInsn", "Insn", "decode", "encode", "imm64", "ld_imm64"]
