"""Text assembly ⇄ instructions, in the notations people know.

Each function imports what it needs, so that a caller who only lists classic code pays for that alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from skep.isa import ClassicInsn, Insn

__all__ = [
    "CLASSIC_NOTATIONS",
    "NOTATIONS",
    "assemble",
    "assemble_classic",
    "disassemble",
    "disassemble_classic",
]

#: Notations of `disassemble`.
NOTATIONS = ("linux", "llvm", "llvm-alu32", "c")
#: Notations of `disassemble_classic`.
CLASSIC_NOTATIONS = ("tcpdump", "tcpdump-dd", "tcpdump-ddd", "c")


def assemble(text: str, *, file: str | None = None) -> list[Insn]:
    """Slots of an eBPF program in Linux's, LLVM's or ubpf's notation (docs/assembly.md).

    Raises:
        AsmError: what is wrong, with line, column and what was expected.
    """
    from skep.asm.program import assemble as run

    return run(text, file=file)


def assemble_classic(text: str, *, file: str | None = None) -> list[ClassicInsn]:
    """Instructions of a classic program: `tcpdump -d`, `-dd`, `-ddd`, or bpf_asm with labels.

    Raises:
        AsmError: what is wrong, with line, column and what was expected.
    """
    from skep.asm.classic import assemble as run

    return run(text, file=file)


def disassemble(insns: Sequence[Insn], notation: str = "linux") -> list[str]:
    """Lines of text for any slots, legal or not.

    ``linux`` is bpftool's and the verifier's text, ``llvm`` what `llvm-objdump -d --no-show-raw-insn` prints,
    ``llvm-alu32`` the same with ``--mcpu=v3``, ``c`` initialisers of struct bpf_insn.
    """
    if notation == "linux":
        from skep.asm.linux import listing

        return listing(insns)
    if notation in ("llvm", "llvm-alu32"):
        from skep.asm.llvm import listing as llvm_listing

        return llvm_listing(insns, alu32=notation == "llvm-alu32")
    if notation == "c":
        from skep.asm.carray import extended

        return extended(insns)
    raise ValueError(f"notation {notation!r}: {', '.join(NOTATIONS)} exist")


def disassemble_classic(insns: Sequence[ClassicInsn], notation: str = "tcpdump") -> list[str]:
    """Lines of text for any classic instructions: ``tcpdump`` (-d), ``tcpdump-dd``, ``tcpdump-ddd``, or ``c``
    (an array of struct sock_filter)."""
    from skep.asm import tcpdump

    if notation == "tcpdump":
        return tcpdump.listing(insns)
    if notation == "tcpdump-dd":
        return tcpdump.listing_c(insns)
    if notation == "tcpdump-ddd":
        return tcpdump.listing_decimal(insns)
    if notation == "c":
        from skep.asm.carray import classic

        return classic(insns)
    raise ValueError(f"notation {notation!r}: {', '.join(CLASSIC_NOTATIONS)} exist")
