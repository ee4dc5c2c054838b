"""`skep disasm`: bytecode as text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

_PRINTABLE = bytes(range(32, 127)) + b"\t\n\r"


def main(argv: Sequence[str]) -> int:
    from skep.asm import CLASSIC_NOTATIONS, NOTATIONS

    parser = argparse.ArgumentParser(
        prog="skep disasm",
        description="List eBPF or, with --classic, classic BPF bytecode, legal or not. Classic code may be "
        "the text, too, that tcpdump -d, -dd or -ddd prints.",
    )
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="bytecode; - is standard input")
    parser.add_argument(
        "--hex",
        action="store_true",
        help="the input is hex digits, spaced as you like, or what llvm-objdump -d prints",
    )
    parser.add_argument("--classic", action="store_true", help="classic BPF")
    parser.add_argument(
        "--notation",
        choices=(*NOTATIONS, *(name for name in CLASSIC_NOTATIONS if name not in NOTATIONS)),
        help=f"eBPF: {', '.join(NOTATIONS)} (linux unless told); classic: {', '.join(CLASSIC_NOTATIONS)}",
    )
    parser.add_argument("--big-endian", action="store_true", help="the bytes are a big-endian machine's")
    options = parser.parse_args(argv)
    notation = options.notation or ("tcpdump" if options.classic else "linux")
    if notation not in (CLASSIC_NOTATIONS if options.classic else NOTATIONS):
        kind, other = ("eBPF", "without") if options.classic else ("classic BPF", "with")
        parser.error(f"--notation {notation} is for {kind}: run {other} --classic")

    from skep.isa.ebpf import ByteOrder

    code = _read(options.file, options.hex)
    order: ByteOrder = "big" if options.big_endian else "little"
    if options.classic:
        from skep.asm import assemble_classic, disassemble_classic
        from skep.isa import classic

        text = None if options.hex else _text(code)
        insns = (
            classic.decode(code, order) if text is None else assemble_classic(text, file=_name(options.file))
        )
        lines = disassemble_classic(insns, notation)
    else:
        from skep.asm import disassemble
        from skep.isa import decode

        if not options.hex and _text(code) is not None:
            from skep.errors import DecodeError

            reason = (
                "this is text, not bytecode: `skep asm` assembles it, --hex reads hex digits and listings"
            )
            raise DecodeError(reason, path=_name(options.file))
        lines = disassemble(decode(code, order), notation)
    sys.stdout.write("".join(line + "\n" for line in lines))
    return 0


def _name(file: str) -> str | None:
    return None if file == "-" else file


def _text(data: bytes) -> str | None:
    """What is printable from its first to its last byte, as a string: no bytecode is, `tcpdump -ddd` is."""
    if not data or data.translate(None, _PRINTABLE):
        return None
    return data.decode("ascii")


def _read(file: str, hexadecimal: bool) -> bytes:
    from skep.cli.whole import read_whole

    data = read_whole(file)
    name = _name(file)
    if hexadecimal:
        from skep.asm.listing import raw_bytes

        return from_hex((raw_bytes(data.decode("latin-1")) or "").encode() or data, name)
    if data[:4] == b"\x7fELF":  # no legal instruction begins so
        from skep.errors import DecodeError

        reason = (
            "an ELF object, not raw bytecode; cut its section out with `llvm-objcopy -O binary -j SECTION`"
        )
        raise DecodeError(reason, path=name, offset=0)
    return data


def from_hex(data: bytes, file: str | None) -> bytes:
    """Bytes of hex digits; white space anywhere, ``0x`` and commas between bytes allowed.

    Raises:
        AsmError: another character, or half a byte, with its line and column.
    """
    text = data.decode("utf-8", "replace")
    digits: list[str] = []
    line, column = 1, 0
    place = (1, 0)
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\n":
            line, column = line + 1, -1
        elif char in "0123456789abcdefABCDEF":
            if char == "0" and text[at + 1 : at + 2] in ("x", "X") and len(digits) % 2 == 0:
                at, column = at + 1, column + 1
            else:
                digits.append(char)
                place = (line, column)
        elif not (char.isspace() or char == ","):
            _fail(f"expected hex digits, found {char!r}", text, file, (line, column))
        at, column = at + 1, column + 1
    if len(digits) % 2:
        _fail("the last byte has one hex digit only", text, file, place)
    return bytes.fromhex("".join(digits))


def _fail(reason: str, text: str, file: str | None, place: tuple[int, int]) -> None:
    from skep.errors import AsmError

    raise AsmError(reason, file=file, source=text, line=place[0], column=place[1], end_column=place[1] + 1)
