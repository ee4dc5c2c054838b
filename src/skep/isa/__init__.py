"""BPF instructions, classic and extended: opcodes, values, bytes. RFC 9669 is the reference."""

from skep.isa.classic import ClassicInsn
from skep.isa.ebpf import Insn, decode, encode, imm64, ld_imm64
from skep.isa.facts import jump_target
from skep.isa.validate import validate

__all__ = ["ClassicInsn", "Insn", "decode", "encode", "imm64", "jump_target", "ld_imm64", "validate"]
