"""Whatever the text, the assemblers give instructions or an AsmError that points into it, and soon."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from skep.asm import (
    CLASSIC_NOTATIONS,
    NOTATIONS,
    assemble,
    assemble_classic,
    disassemble,
    disassemble_classic,
)
from skep.errors import AsmError
from tests.asm import corpus

SPICE = [
    "r1",
    "w2",
    "r10",
    "r11",
    "=",
    "+=",
    "*(u32 *)",
    "(",
    ")",
    "[",
    "]",
    "+",
    "-",
    "goto",
    "if",
    "call",
    "lock",
    "ll",
    "0x",
    "99999999999999999999",
    "-1",
    "label:",
    "label",
    ":",
    "#",
    "#@ imm=1",
    "/*",
    "*/",
    "//",
    ";",
    "{",
    "}",
    ",",
    "jt 3 jf 4",
    "ldh",
    "[12]",
    "jeq",
    "#0x800",
    "ret",
    "M[3]",
    "x",
    "a",
    "pc+1",
    "skb[",
    "map[",
    "²",
    "٣",
    "\u2028",
    "\0",
    "\t",
    ".slot",
    ".equ",
    "exit",
    "kernel-function#",
    "9" * 5000,
    "0x" + "f" * 300,
]


def mutants(rng: random.Random, lines: Sequence[str]) -> str:
    text = [rng.choice(lines) for _ in range(rng.randrange(1, 6))]
    for _ in range(rng.randrange(1, 5)):
        row = rng.randrange(len(text))
        at = rng.randrange(len(text[row]) + 1)
        cut = rng.choice((0, 0, 1, 3, 8))
        text[row] = text[row][:at] + rng.choice(["", " "]) + rng.choice(SPICE) + text[row][at + cut :]
    return "\n".join(text)


def tried(assembler: Callable[[str], object], text: str) -> bool:
    """Whether it assembles; an error must be one line and point into the text."""
    try:
        assembler(text)
        return True
    except AsmError as error:
        assert "\n" not in str(error) and error.reason
        lines = text.splitlines() or [""]
        assert 1 <= error.line <= len(lines)
        assert error.column is not None and 0 <= error.column <= len(lines[error.line - 1])
        error.pointer()
        return False


def test_mutated_listings() -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    program = corpus.program(rng, 400)
    classic = corpus.classic_program(rng, 400)
    sources: list[tuple[Callable[[str], object], list[str]]] = [
        *((assemble, disassemble(program, notation)) for notation in NOTATIONS),
        *((assemble_classic, disassemble_classic(classic, notation)) for notation in CLASSIC_NOTATIONS),
    ]
    good = bad = 0
    for assembler, lines in sources:
        for _ in range(1500):
            if tried(assembler, mutants(rng, lines)):
                good += 1
            else:
                bad += 1
    assert good > 100 and bad > 5000


@pytest.mark.parametrize(
    "text",
    [
        "call a#1" * 30_000,
        "/* */" * 50_000,
        "/*" * 125_000,
        "(" * 250_000,
        "r1 " * 75_000,
        "a:" * 100_000,
        "- " * 100_000,
        "{" * 250_000,
        "{}," * 75_000,
        "0" * 250_000,
        "#" * 250_000,
        ("1," + "6 0 0 0," * 25_000),
        "\n" * 250_000,
        " " * 250_000 + "exit",
        "r0 = " + "-" * 225_000 + "1",
    ],
    ids=lambda text: text[:12].strip() or "space",
)
def test_much_nonsense(text: str) -> None:
    for assembler in (assemble, assemble_classic):
        tried(assembler, text)
