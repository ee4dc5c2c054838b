"""`skep asm`: text into bytecode."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="skep asm",
        description="Assemble eBPF (Linux's, LLVM's or ubpf's notation) or, with --classic, classic BPF "
        "(tcpdump listings or bpf_asm's language).",
    )
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="text to read; - is standard input"
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="file to write; standard output without it")
    parser.add_argument("--classic", action="store_true", help="classic BPF")
    parser.add_argument(
        "--format",
        choices=("raw", "hex", "c", "ddd"),
        help="raw bytes, hex digits, C initialisers, or (classic) tcpdump -ddd; "
        "raw into a file or pipe, hex on a terminal unless told",
    )
    parser.add_argument("--big-endian", action="store_true", help="write bytes for a big-endian machine")
    parser.add_argument("--check", action="store_true", help="refuse programs that are not legal")
    options = parser.parse_args(argv)
    if options.format == "ddd" and not options.classic:
        parser.error("--format ddd is a form of classic BPF: add --classic")
    if options.check and options.classic:
        parser.error("--check knows eBPF only")

    from skep.isa.ebpf import ByteOrder

    text = _read(options.file)
    name = None if options.file == "-" else options.file
    order: ByteOrder = "big" if options.big_endian else "little"
    lines: list[str] = []
    if options.classic:
        from skep.asm import assemble_classic, disassemble_classic
        from skep.isa import classic

        classic_insns = assemble_classic(text, file=name)
        code = classic.encode(classic_insns, order)
        if options.format in ("c", "ddd"):
            notation = "c" if options.format == "c" else "tcpdump-ddd"
            lines = disassemble_classic(classic_insns, notation)
    else:
        from skep.asm import assemble, disassemble
        from skep.isa import encode, validate

        insns = assemble(text, file=name)
        if options.check:
            validate(insns)
        code = encode(insns, order)
        if options.format == "c":
            lines = disassemble(insns, "c")
    form = options.format or ("hex" if options.output is None and sys.stdout.isatty() else "raw")
    if form == "hex":
        lines = [code[at : at + 8].hex(" ") for at in range(0, len(code), 8)]
    _write(options.output, code if form == "raw" else "".join(line + "\n" for line in lines).encode())
    return 0


def _read(file: str) -> str:
    """The text; bytes that are no UTF-8 become U+FFFD, which the assembler then refuses in its place."""
    from skep.cli.whole import read_whole

    return read_whole(file).decode("utf-8", "replace")


def _write(file: str | None, data: bytes) -> None:
    """To standard output, or to a file that is either the old one or the whole new one."""
    if file is None or file == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    from skep.cli.whole import write_whole

    write_whole(file, data)
