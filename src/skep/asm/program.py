"""From text to slots: labels, directives, numbers of listings, and the two grammars of a statement."""

from __future__ import annotations

from typing import Final

from skep.asm import lex, listing
from skep.asm.carray import read_extended
from skep.asm.emit import Emitter
from skep.asm.lex import Line
from skep.asm.mnemonic import mnemonic, mnemonics
from skep.asm.statement import statement
from skep.errors import AsmError
from skep.isa.ebpf import Insn

#: Compiler output that says nothing about the code itself.
_IGNORED: Final = frozenset(
    [
        ".text",
        ".globl",
        ".global",
        ".type",
        ".size",
        ".p2align",
        ".align",
        ".file",
        ".addrsig",
        ".addrsig_sym",
        ".ident",
    ]
)


def assemble(text: str, *, file: str | None = None) -> list[Insn]:
    """Slots of the program in ``text``: Linux's, LLVM's or ubpf's notation, mixed as you like.

    Raises:
        AsmError: a line that is no instruction, a label missing or defined twice, a number out of range;
            with line, column and what was expected.
    """
    out = Emitter(text, file)
    lines = list(lex.blank_comments(text, (";", "#", "//"), file))
    if lines and "{" in lines[0][1]:
        return read_extended([(number, line) for number, line, _ in lines], text, file)
    raws: list[tuple[int, str]] = []  # first slot and bytes of lines that have some
    for number, original, annotation in lines:
        line, hint, raw = original, None, None
        if symbol := listing.SYMBOL.match(line):
            out.label(symbol.group(1), number, symbol.start(1))
            continue
        if listing.is_heading(line):
            continue
        if found := listing.RELOCATION.match(line):
            raise AsmError(
                f"a relocation, {found.group(1)}: the listing is of an object that is not linked yet",
                file=file,
                source=text,
                line=number,
                column=found.start(1),
                end_column=found.end(),
                hint="list it without -r to assemble the bytes as they are",
            )
        if found := listing.SLOT_NUMBER.match(line):
            line = _blank(line, found.end())
            if raw := listing.RAW_BYTES.match(line):
                line = _blank(line, raw.end())
        if found := listing.OPCODE.match(line):
            hint = int(found.group(1), 16)
            line = _blank(line, found.end())
        if line.partition(".")[1] and line.split(None, 1)[0] in _IGNORED:
            continue
        tokens = Line(line, number, text, file)
        while tokens.token.kind == "word" and tokens.peek().text == ":":
            out.label(tokens.token.text, number, tokens.token.column)
            tokens.at += 2
        if tokens.token.kind == "end":
            continue
        if tokens.token.text.startswith("."):
            _directive(tokens, out)
            continue
        start = len(out.insns)
        word = tokens.token.text.lower()
        if hint is None and word in mnemonics():
            mnemonic(tokens, out)
        else:
            statement(tokens, out, hint)
        tokens.end()
        if raw is not None:
            raws.append((start, raw.group(1)))
        if annotation:
            out.annotate(start, annotation, tokens)
    insns = out.finish()
    if raws:
        listing.complete(insns, raws)
    return insns


def _blank(line: str, end: int) -> str:
    return " " * end + line[end:]


def _directive(line: Line, out: Emitter) -> None:
    name = line.take()
    if name.text == ".equ":
        word = line.take()
        if word.kind != "word":
            line.fail("expected a name to define", word)
        line.expect(",")
        out.constants[word.text] = line.number_token()
    elif name.text == ".slot":
        fields = [_field(line, 0, 255, "an opcode")]
        for low, high, what in (
            (0, 15, "dst, 0 to 15"),
            (0, 15, "src, 0 to 15"),
            (-(1 << 15), (1 << 15) - 1, "a signed 16-bit offset"),
            (-(1 << 31), (1 << 32) - 1, "a 32-bit immediate"),
        ):
            line.expect(",")
            fields.append(_field(line, low, high, what))
        imm = fields[4] - (1 << 32) if fields[4] > 0x7FFFFFFF else fields[4]
        out.emit(Insn(fields[0], fields[1], fields[2], fields[3], imm))
    else:
        line.fail(f"directive {name.text} is not known", name, ".equ and .slot are")
    line.end()


def _field(line: Line, low: int, high: int, what: str) -> int:
    token = line.token
    value = line.number_token(what)
    if not low <= value <= high:
        line.fail(f"expected {what}", token)
    return value
