"""Comparisons with constants, as the compiler writes them out, made short: for graphs too large to simplify.

``ip[8] & 0xf = 5`` comes as "ldb [22]; st M[0]; ld #15; st M[1]; ldx M[1]; ld M[0]; and x; st M[1]; ..." and
becomes "ldb [22]; and #15; jeq #5".
"""

from __future__ import annotations

from skep.filter.ir import Stmt
from skep.filter.optimise.graph import X_BIT, atom_defined, atoms_used
from skep.isa.classic import (
    BPF_ALU,
    BPF_DIV,
    BPF_IMM,
    BPF_JEQ,
    BPF_JMP,
    BPF_LD,
    BPF_LDX,
    BPF_LSH,
    BPF_MEM,
    BPF_MOD,
    BPF_RSH,
    BPF_ST,
    BPF_SUB,
    BPF_X,
)

_JEQ_K = BPF_JMP | BPF_JEQ
_SUB_K = BPF_ALU | BPF_SUB
_PATTERN = (BPF_ST, BPF_LD | BPF_IMM, BPF_ST, BPF_LDX | BPF_MEM, BPF_LD | BPF_MEM)


def shorten(stmts: list[Stmt], code: int, k: int) -> tuple[list[Stmt], int, int, int]:
    """Shorter statements and test of a block, and the scratch words (atoms, a bit set) no longer set.

    The caller sees to it that no other block reads those words, A or X.
    """
    dropped = 0
    at = 0
    while at + 5 <= len(stmts):
        if stmts[at].code != BPF_ST:
            at += 1
            continue
        store, constant, other, index, value = stmts[at : at + 5]
        if (
            (store.code, constant.code, other.code, index.code, value.code) != _PATTERN
            or index.k != other.k
            or value.k != store.k
            or store.k == other.k
        ):
            at += 1
            continue
        words = 1 << atom_defined(store.code, store.k) | 1 << atom_defined(other.code, other.k)
        rest = stmts[at + 5 :]
        if rest and rest[0].code & 7 == BPF_ALU and rest[0].code & BPF_X:
            op, c = rest[0].code & 0xF0, constant.k
            fits = c != 0 if op in (BPF_DIV, BPF_MOD) else c < 32 if op in (BPF_LSH, BPF_RSH) else True
            if fits and not _reads(rest[1:], code, words | X_BIT):
                stmts = [*stmts[:at], Stmt(rest[0].code & ~BPF_X, c), *rest[1:]]
                dropped |= words
                continue
        elif not rest and code & 7 == BPF_JMP and code & BPF_X:
            stmts, code, k = stmts[:at], code & ~BPF_X, constant.k
            dropped |= words
        at += 1
    if code == _JEQ_K and stmts and stmts[-1].code == _SUB_K:
        k = k + stmts[-1].k & 0xFFFFFFFF
        stmts = stmts[:-1]
    return stmts, code, k, dropped


def _reads(stmts: list[Stmt], code: int, atoms: int) -> bool:
    """Whether one of ``atoms`` is read, by statements or the test ``code`` after them, before it is set."""
    for stmt in stmts:
        if atoms_used(stmt.code, stmt.k) & atoms:
            return True
        atom = atom_defined(stmt.code, stmt.k)
        if atom >= 0:
            atoms &= ~(1 << atom)
    return bool(atoms_used(code, 0) & atoms)
