"""The classic assembler: listings of `tcpdump -d`, `-dd`, `-ddd`, and bpf_asm's language with labels.

    ldh [12]                        (000) ldh      [12]
    jne #0x800, drop                (001) jeq      #0x800           jt 2	jf 3
    ret #-1                         (002) ret      #262144
    drop: ret #0                    (003) ret      #0

Targets are labels, or slot numbers where a listing gives them (`jt 2 jf 3`, `ja 5`).
"""

from __future__ import annotations

import re
from typing import Final

from skep.asm import lex
from skep.asm.carray import read_classic
from skep.asm.lex import Line, Token
from skep.errors import AsmError
from skep.isa import classic as c
from skep.isa.classic import ClassicInsn

#: Ancillary loads by bpf_asm's names and libpcap's.
ANCILLARY: Final = {
    "proto": c.SKF_AD_PROTOCOL,
    "type": c.SKF_AD_PKTTYPE,
    "ifidx": c.SKF_AD_IFINDEX,
    "nla": c.SKF_AD_NLATTR,
    "nlan": c.SKF_AD_NLATTR_NEST,
    "mark": c.SKF_AD_MARK,
    "queue": c.SKF_AD_QUEUE,
    "hatype": c.SKF_AD_HATYPE,
    "rxhash": c.SKF_AD_RXHASH,
    "cpu": c.SKF_AD_CPU,
    "xor_x": c.SKF_AD_ALU_XOR_X,
    "vlan_tci": c.SKF_AD_VLAN_TAG,
    "vlan_avail": c.SKF_AD_VLAN_TAG_PRESENT,
    "vlan_pr": c.SKF_AD_VLAN_TAG_PRESENT,
    "vlanp": c.SKF_AD_VLAN_TAG_PRESENT,
    "poff": c.SKF_AD_PAY_OFFSET,
    "random": c.SKF_AD_RANDOM,
    "rand": c.SKF_AD_RANDOM,
    "vlan_tpid": c.SKF_AD_VLAN_TPID,
}
_LOADS: Final = {"ld": c.BPF_W, "ldh": c.BPF_H, "ldb": c.BPF_B}
_ALU: Final = {
    "add": c.BPF_ADD,
    "sub": c.BPF_SUB,
    "mul": c.BPF_MUL,
    "div": c.BPF_DIV,
    "mod": c.BPF_MOD,
    "and": c.BPF_AND,
    "or": c.BPF_OR,
    "xor": c.BPF_XOR,
    "lsh": c.BPF_LSH,
    "rsh": c.BPF_RSH,
}
#: mnemonic -> (operation, whether the first label is where it goes when the test fails)
_JUMPS: Final = {
    "jeq": (c.BPF_JEQ, False),
    "jgt": (c.BPF_JGT, False),
    "jge": (c.BPF_JGE, False),
    "jset": (c.BPF_JSET, False),
    "jne": (c.BPF_JEQ, True),
    "jneq": (c.BPF_JEQ, True),
    "jlt": (c.BPF_JGE, True),
    "jle": (c.BPF_JGT, True),
}
_BARE: Final = {
    "neg": c.BPF_ALU | c.BPF_NEG,
    "tax": c.BPF_MISC | c.BPF_TAX,
    "txa": c.BPF_MISC | c.BPF_TXA,
}
_LISTING: Final = re.compile(r"\s*\(([0-9]{3,})\)\s")
_U32: Final = 0xFFFFFFFF


class _Program:
    __slots__ = ("fixups", "insns", "labels")

    def __init__(self) -> None:
        self.insns: list[ClassicInsn] = []
        self.labels: dict[str, int] = {}
        self.fixups: list[tuple[int, str, Token, Line]] = []


def assemble(text: str, *, file: str | None = None) -> list[ClassicInsn]:
    """Instructions of the classic program in ``text``.

    Raises:
        AsmError: a line that is no instruction, a label missing or defined twice, a jump too far or back;
            with line, column and what was expected.
    """
    lines = [
        (number, line)
        for number, line, _ in lex.blank_comments(text, (";", "//"), file)
        if not line.lstrip().startswith("#")
    ]
    if lines and "{" in lines[0][1]:
        return read_classic(lines, text, file)
    if lines and re.fullmatch(r"\s*[0-9]+\s*(,.*)?", lines[0][1]):
        return _decimal(lines, text, file)
    program = _Program()
    for number, original in lines:
        found = _LISTING.match(original)
        line = Line(" " * found.end() + original[found.end() :] if found else original, number, text, file)
        while line.token.kind == "word" and line.peek().text == ":":
            if line.token.text in program.labels:
                line.fail(f"label {line.token.text} is defined twice")
            program.labels[line.token.text] = len(program.insns)
            line.at += 2
        if line.token.kind != "end":
            _statement(line, program)
            line.end()
    for slot, field, name, line in program.fixups:
        _resolve(program, slot, field, name, line)
    return program.insns


def _decimal(lines: list[tuple[int, str]], source: str, file: str | None) -> list[ClassicInsn]:
    """`tcpdump -ddd`, and bpf_asm's form of it with commas for line ends."""
    insns: list[ClassicInsn] = []
    count: int | None = None
    for number, whole in lines:
        for piece in re.finditer(r"[^,]+", whole):
            words = piece.group().split()
            column = piece.start() + len(piece.group()) - len(piece.group().lstrip())
            if not words:
                continue
            numbers = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 32]
            limits = (0xFFFF, 0xFF, 0xFF, _U32)
            wrong = (
                len(numbers) != len(words)
                or len(words) != (1 if count is None else 4)
                or (count is not None and any(n > limit for n, limit in zip(numbers, limits, strict=True)))
            )
            if wrong:
                what = "the number of instructions" if count is None else "four numbers: code jt jf k"
                _fail(f"expected {what}", number, column, piece.group().strip(), source, file)
            if count is None:
                count = numbers[0]
            else:
                insns.append(ClassicInsn(*numbers))
    if count != len(insns):
        _fail(
            f"the first line promises {count} instructions, {len(insns)} follow",
            lines[0][0], 0, lines[0][1], source, file,
        )  # fmt: skip
    return insns


def _fail(reason: str, line: int, column: int, span: str, source: str, file: str | None) -> None:
    raise AsmError(reason, file=file, source=source, line=line, column=column, end_column=column + len(span))


def _statement(line: Line, program: _Program) -> None:
    token = line.take()
    word = token.text.lower()
    if word in _LOADS:
        _load(line, program, _LOADS[word])
    elif word in ("ldx", "ldxb"):
        _load_x(line, program, word)
    elif word in ("ldi", "ldxi"):
        line.skip("#")
        _put(program, (c.BPF_LD if word == "ldi" else c.BPF_LDX) | c.BPF_IMM, _number(line))
    elif word in ("st", "stx"):
        _put(program, c.BPF_ST if word == "st" else c.BPF_STX, _scratch(line))
    elif word in _ALU:
        _operand(line, program, c.BPF_ALU | _ALU[word])
    elif word in _BARE:
        _put(program, _BARE[word])
    elif word in _JUMPS:
        _jump(line, program, *_JUMPS[word])
    elif word in ("ja", "jmp"):
        _target(line, program, "k")
        _put(program, c.BPF_JMP | c.BPF_JA)
    elif word == "ret":
        _return(line, program)
    elif word == "unimp":
        opcode = line.token
        code = _number(line)
        if code > 0xFFFF:
            line.fail("expected an opcode of 16 bits", opcode)
        _jump_numbers(line, program)
        _put(program, code)
    else:
        line.fail(f"expected an instruction, found {token.text!r}", token)


def _put(program: _Program, code: int, k: int = 0) -> None:
    program.insns.append(ClassicInsn(code, 0, 0, k & _U32))


def _number(line: Line) -> int:
    token = line.token
    value = line.number_token()
    if not -(1 << 31) <= value <= _U32:
        line.fail(f"{value} is out of 32 bits", token)
    return value & _U32


def _scratch(line: Line) -> int:
    line.expect("m")
    line.expect("[")
    token = line.token
    slot = line.number_token("a word of scratch memory")
    if not 0 <= slot < c.BPF_MEMWORDS:
        line.fail(f"scratch memory has words 0 to {c.BPF_MEMWORDS - 1}", token)
    line.expect("]")
    return slot


def _is_x(line: Line) -> bool:
    return line.skip("x") or line.skip("%x")


def _operand(line: Line, program: _Program, code: int) -> None:
    """`#5` or `x`."""
    if line.skip("#"):
        _put(program, code, _number(line))
    elif _is_x(line):
        _put(program, code | c.BPF_X)
    else:
        line.fail(f"expected #NUMBER or x, found {line.found()}")


def _load(line: Line, program: _Program, size: int) -> None:
    if line.skip("["):
        if _is_x(line):
            k = 0
            if line.token.text in ("+", "-"):
                k = -_number(line) if line.take().text == "-" else _number(line)
            _put(program, c.BPF_LD | c.BPF_IND | size, k)
        elif line.token.kind == "word":
            _put(program, c.BPF_LD | c.BPF_ABS | size, c.SKF_AD_OFF + _ancillary(line))
        else:
            _put(program, c.BPF_LD | c.BPF_ABS | size, _number(line))
        line.expect("]")
        return
    if size == c.BPF_W and line.token.text.lower() == "m":
        _put(program, c.BPF_LD | c.BPF_MEM, _scratch(line))
        return
    marked = line.skip("#")
    if marked and line.token.kind != "word" and size == c.BPF_W:
        _put(program, c.BPF_LD | c.BPF_IMM, _number(line))
    elif size == c.BPF_W and (line.skip("len") or line.skip("pktlen")):
        _put(program, c.BPF_LD | c.BPF_W | c.BPF_LEN)
    elif line.token.kind == "word":
        _put(program, c.BPF_LD | c.BPF_ABS | size, c.SKF_AD_OFF + _ancillary(line))
    else:
        line.fail(
            f"expected [OFFSET], [x + OFFSET]{', #NUMBER, M[N]' * (not size)} or a name, found {line.found()}"
        )


def _ancillary(line: Line) -> int:
    token = line.take()
    found = ANCILLARY.get(token.text.lower())
    if found is None:
        line.fail(f"no ancillary data {token.text!r}", token, " ".join(sorted(ANCILLARY)))
    return found


def _load_x(line: Line, program: _Program, word: str) -> None:
    if word == "ldx" and line.token.text.lower() == "m":
        _put(program, c.BPF_LDX | c.BPF_MEM, _scratch(line))
    elif word == "ldx" and (line.skip("len") or line.skip("pktlen")):
        _put(program, c.BPF_LDX | c.BPF_W | c.BPF_LEN)
    elif word == "ldx" and line.skip("#"):
        if line.skip("len") or line.skip("pktlen"):
            _put(program, c.BPF_LDX | c.BPF_W | c.BPF_LEN)
        else:
            _put(program, c.BPF_LDX | c.BPF_IMM, _number(line))
    elif line.token.kind == "number":
        start = line.token
        four = line.number_token()
        for mark in ("*", "(", "["):
            line.expect(mark)
        k = _number(line)
        for mark in ("]", "&"):
            line.expect(mark)
        mask = line.number_token()
        line.expect(")")
        if (four, mask) != (4, 0xF):
            line.fail("only 4*([K]&0xf) exists, the length of an IPv4 header", start)
        _put(program, c.BPF_LDX | c.BPF_MSH | c.BPF_B, k)
    else:
        line.fail(f"expected 4*([K]&0xf){', #NUMBER or M[N]' * (word == 'ldx')}, found {line.found()}")


def _return(line: Line, program: _Program) -> None:
    if line.skip("#"):
        _put(program, c.BPF_RET | c.BPF_K, _number(line))
    elif line.skip("x") or line.skip("%x"):
        _put(program, c.BPF_RET | c.BPF_X)
    elif line.skip("a") or line.skip("%a") or line.token.kind == "end":
        _put(program, c.BPF_RET | c.BPF_A)  # tcpdump -d prints nothing for A
    else:
        line.fail(f"expected #NUMBER, a or x, found {line.found()}")


def _jump(line: Line, program: _Program, operation: int, inverted: bool) -> None:
    slot = len(program.insns)
    _operand(line, program, c.BPF_JMP | operation)
    insn = program.insns.pop()
    if line.token.text == "jt":
        if inverted:
            line.fail("expected a label: `jt N jf N` belongs to jeq, jgt, jge and jset")
        _jump_numbers(line, program)
    else:
        line.expect(",")
        first, second = ("jf", "jt") if inverted else ("jt", "jf")
        _target(line, program, first)
        if line.skip(","):
            _target(line, program, second)
    assert len(program.insns) == slot
    program.insns.append(insn)


def _jump_numbers(line: Line, program: _Program) -> None:
    """`jt 2 jf 3`, slot numbers of a listing."""
    if line.skip("jt"):
        _target(line, program, "jt")
        line.expect("jf")
        _target(line, program, "jf")


def _target(line: Line, program: _Program, field: str) -> None:
    token = line.take()
    sign = ""
    if token.text in ("-", "+"):
        sign, token = token.text, line.take()
    if token.kind == "word" and not sign:
        program.fixups.append((len(program.insns), field, token, line))
    elif token.kind == "number":
        program.fixups.append(
            (len(program.insns), field, Token("number", sign + token.text, token.column), line)
        )
    else:
        line.fail("expected a label or, as listings have, a slot number", token)


def _resolve(program: _Program, slot: int, field: str, name: Token, line: Line) -> None:
    if name.kind == "number":
        target = int(name.text, 0)
    elif name.text in program.labels:
        target = program.labels[name.text]
    else:
        line.fail(f"no label {name.text}", name, "write NAME: before the instruction it stands for")
    distance = target - slot - 1
    if field == "k":
        program.insns[slot] = program.insns[slot]._replace(k=distance & _U32)
    elif 0 <= distance <= 255:
        program.insns[slot] = program.insns[slot]._replace(**{field: distance})
    else:
        way = "back" if distance < 0 else f"{distance} instructions ahead, over 255"
        line.fail(f"{name.text} is {way}: conditional jumps only go ahead", name, "jump to a `ja` nearer by")
