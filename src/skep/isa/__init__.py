"""BPF instructions, classic and extended: opcodes, values, bytes. RFC 9669 is the reference.

The names here are loaded when first used: who needs an opcode's number does not load the rest.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.isa.classic import ClassicInsn as ClassicInsn
    from skep.isa.ebpf import Insn as Insn
    from skep.isa.ebpf import decode as decode
    from skep.isa.ebpf import encode as encode
    from skep.isa.ebpf import imm64 as imm64
    from skep.isa.ebpf import ld_imm64 as ld_imm64
    from skep.isa.facts import jump_target as jump_target
    from skep.isa.legal import validate as validate

_HOMES = {
    "ClassicInsn": "skep.isa.classic",
    "Insn": "skep.isa.ebpf",
    "decode": "skep.isa.ebpf",
    "encode": "skep.isa.ebpf",
    "imm64": "skep.isa.ebpf",
    "jump_target": "skep.isa.facts",
    "ld_imm64": "skep.isa.ebpf",
    "validate": "skep.isa.legal",
}

__all__ = ["ClassicInsn", "Insn", "decode", "encode", "imm64", "jump_target", "ld_imm64", "validate"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep.isa' has no attribute {name!r}")
    found = globals()[name] = getattr(__import__(home, fromlist=[name]), name)
    return found
