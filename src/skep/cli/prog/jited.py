"""`skep prog dump jited`: the machine code, disassembled by capstone where that is installed."""

from __future__ import annotations

import os

from skep.cli.noun.command import Call
from skep.cli.prog.dump import Code, line_json, line_plain
from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def listing(call: Call, code: Code, opcodes: bool, linum: bool, *, header: bool) -> Any:
    """The JSON of one program (None after printing text): functions with their instructions.

    Shape as bpftool's: ``[{"proto", "name", "insns": [{"pc", "operation", "operands", "opcodes"}]}]``.
    """
    machine = _capstone()
    lens = code.lens or [len(code.image)]
    functions: list[dict[str, Any]] = []
    at = 0
    lines = dict(zip(code.jited_lines, code.lines, strict=False))
    for number, length in enumerate(lens):
        base = code.ksyms[number] if number < len(code.ksyms) else 0
        image = code.image[at : at + length]
        at += length
        row: dict[str, Any] = {}
        if number < len(code.functions) and (proto := code.proto(code.functions[number][1])):
            row["proto"] = proto
        row["name"] = (code.symbols.name(base) if base else None) or f"0x{base:016x}"
        row["insns"] = [_insn(code, item, image, base, lines, opcodes, linum) for item in machine(image)]
        functions.append(row)
    if call.json:
        return functions
    out: list[str] = []
    for row in functions:
        if "proto" in row:
            out.append(f"{row['proto']}:\n")
        out.append(f"{row['name']}:\n")
        for insn in row["insns"]:
            if "_line" in insn:
                out.append(line_plain(code, insn["_line"], linum))
            words = " ".join([insn["operation"], ",".join(filter(None, insn["operands"]))]).rstrip()
            out.append(f"{int(insn['pc'], 16):4x}:\t{words}\n")
            if "opcodes" in insn:
                out.append("\t" + " ".join(byte.removeprefix("0x") for byte in insn["opcodes"]) + "\n")
        out.append("\n")
    call.write("".join(out))
    return None


def _insn(
    code: Code,
    item: tuple[int, int, str, str],
    image: bytes,
    base: int,
    lines: dict[int, tuple[int, int, int, int]],
    opcodes: bool,
    linum: bool,
) -> dict[str, Any]:
    offset, length, mnemonic, operands = item
    row: dict[str, Any] = {}
    line = lines.get(base + offset)
    if line is not None:
        if code.call.json:
            row |= line_json(code, line, linum)
        else:
            row["_line"] = line
    row |= {"pc": f"0x{offset:x}", "operation": mnemonic}
    row["operands"] = operands.replace(", ", ",").split(",") if operands else [None]
    if opcodes:
        row["opcodes"] = [f"0x{byte:02x}" for byte in image[offset : offset + length]]
    return row


def _capstone() -> Any:
    """A function: machine code -> (offset, length, mnemonic, operands) of each instruction."""
    try:
        import capstone
    except ImportError:
        raise SkepError(
            "disassembling machine code needs capstone: pip install capstone; or use `file FILE`"
        ) from None
    modes = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }
    machine = os.uname().machine
    if machine not in modes:
        raise SkepError(f"disassembling the code of {machine} is not supported; use `file FILE`")
    made = capstone.Cs(*modes[machine])
    if machine == "x86_64":
        made.syntax = capstone.CS_OPT_SYNTAX_ATT
    return lambda image: (
        list(made.disasm_lite(image, 0))
        and [
            (address, size, mnemonic, operands)
            for address, size, mnemonic, operands in made.disasm_lite(image, 0)
        ]
    )
