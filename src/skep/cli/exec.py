"""`skep exec`: run raw bytecode once and print r0.

The program comes as bytes from FILE or standard input, or as hexadecimal digits with ``--hex``; it runs in
one of the machines of docs/machine.md. r0 goes to standard output, in hexadecimal without a prefix. Helpers
are those that need no kernel: ktime_get_ns (5), get_prandom_u32 (7), get_smp_processor_id (8) and
ktime_get_boot_ns (125).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skep.errors import DecodeError, ExecutionError, FormatError

if TYPE_CHECKING:
    from skep.vm import Helper, Machine, Step

#: What a run may cost unless told otherwise, in either engine: an endless loop ends within seconds even when
#: it is interpreted, and `may_goto` may take all of its 8,388,608 turns of up to four instructions.
DEFAULT_BUDGET = 1 << 25


def main(argv: Sequence[str]) -> int:
    """Run the command; see the module's text."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.trace and args.engine == "jit":
        parser.error("--trace needs --engine interp: native code cannot be stepped")
    program = _program(args.file, args.hex)
    memory = bytearray(_digits(args.memory, "--memory")) if args.memory is not None else None
    packet = _digits(args.packet, "--packet") if args.packet is not None else None

    from skep.isa import decode

    insns = decode(program)
    try:
        if args.engine == "jit":
            from skep.jit import compile as compile_native

            result = compile_native(insns, helpers=_helpers()).run(memory, packet=packet, budget=args.budget)
        else:
            from skep.vm import Machine

            machine = Machine(insns, memory, packet=packet, helpers=_helpers(), budget=args.budget)
            result = _trace(machine) if args.trace else machine.run()
    except ExecutionError as error:
        if not error.reason.startswith("the budget"):
            raise
        raise ExecutionError(
            f"the budget of {args.budget} instructions is used up: an endless loop? --budget N allows more",
            pc=error.pc,
            registers=error.registers,
        ) from None
    print(f"{result:x}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skep exec", description="Run raw eBPF bytecode once and print r0 in hexadecimal."
    )
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="the program (default: stdin)")
    parser.add_argument("--hex", action="store_true", help="the program is hexadecimal text, blanks allowed")
    parser.add_argument("--memory", metavar="HEX", help="bytes that r1 points to; r2 is their number")
    parser.add_argument("--packet", metavar="HEX", help="bytes that LD_ABS and LD_IND read (default: memory)")
    parser.add_argument("--engine", choices=("interp", "jit"), default="interp")
    parser.add_argument(
        "--budget",
        type=_count,
        default=DEFAULT_BUDGET,
        metavar="N",
        help=f"stop a program whose jumps back cover more than N instructions (default: {DEFAULT_BUDGET})",
    )
    parser.add_argument(
        "--trace", action="store_true", help="print each instruction and what it did on stderr (interp)"
    )
    return parser


def _count(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 2**64 - 1")
    return value


def _program(file: str, is_text: bool) -> bytes:
    """The program's bytes.

    Raises:
        FormatError: ``is_text`` and there is something that is not a hexadecimal digit.
    """
    from skep.cli.whole import read_whole

    data = read_whole(file)
    name = "standard input" if file == "-" else file
    if is_text:
        data = _digits(data.decode("ascii", "replace"), name)
    if not data:
        raise DecodeError("there is no program", path=name)
    return data


def _digits(text: str, name: str) -> bytes:
    """Bytes written as hexadecimal digits, blanks and one leading 0x allowed."""
    digits = "".join(text.split())
    if digits[:2] in ("0x", "0X"):
        digits = digits[2:]
    try:
        return bytes.fromhex(digits)
    except ValueError:
        pass
    for at, char in enumerate(text):
        if char not in "0123456789abcdefABCDEF" and not char.isspace():
            raise FormatError(f"expected hexadecimal digits, found {char!r}", path=name, offset=at)
    raise FormatError(f"{len(digits)} hexadecimal digits, half a byte at the end", path=name)


def _helpers() -> dict[int, Helper]:
    """Helpers that need no kernel, by number."""
    import time

    def ktime_get_ns(*_: int) -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def get_prandom_u32(*_: int) -> int:
        return int.from_bytes(os.urandom(4), sys.byteorder)

    def get_smp_processor_id(*_: int) -> int:
        return min(os.sched_getaffinity(0))

    def ktime_get_boot_ns(*_: int) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    return {5: ktime_get_ns, 7: get_prandom_u32, 8: get_smp_processor_id, 125: ktime_get_boot_ns}


def _trace(machine: Machine) -> int:
    """Run to the end, one line on stderr for each instruction."""
    from skep.asm import disassemble

    names = {line.lstrip().partition(":")[0]: line for line in disassemble(machine.insns)}
    for step in machine.steps():
        effects = "  ".join(_effects(machine, step))
        print(f"{names[str(step.pc)]:<44} {effects}".rstrip(), file=sys.stderr)
    return machine.registers[0]


def _effects(machine: Machine, step: Step) -> list[str]:
    """What an instruction did, in words: registers changed, memory read and written, packet bytes read."""
    from skep.isa.opcodes import LD_IMM64

    out = []
    if step.read is not None:
        out.append(f"read {machine.where(step.read[0])}: {step.read[1].hex(' ')}")
    if step.packet is not None:
        offset, data = step.packet
        out.append(f"packet {offset}: {data.hex(' ')}" if not machine.ended else f"packet {offset}: outside")
    out += [f"r{number}={machine.where(step.registers[number])}" for number in step.changed if number != 10]
    if step.written is not None:
        out.append(f"wrote {machine.where(step.written[0])}: {step.written[1].hex(' ')}")
    if step.next_pc >= 0 and step.next_pc != step.pc + (2 if step.insn.opcode == LD_IMM64 else 1):
        out.append(f"-> {step.next_pc}")
    return out
