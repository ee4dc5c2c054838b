"""`skep prog dump`: a program's instructions as the kernel holds them."""

from __future__ import annotations

from skep.cli.gen.save import save
from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.hextext import json_bytes, plain_bytes
from skep.cli.noun.words import Usage, Words
from skep.errors import SkepError
from skep.isa import opcodes as op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.btf import Btf
    from skep.isa.ebpf import Insn


def dump(call: Call, words: Words) -> None:
    kernel = call.kernel
    if words.accept("jited"):
        jited = True
    elif words.accept("xlated"):
        jited = False
    else:
        raise Usage(f"expected xlated or jited, got {words.peek()!r}")
    fds = objects.programs(kernel, words)
    with objects.closing(kernel, *fds):
        file = None
        opcodes = linum = visual = False
        if words.accept("file"):
            file = words.take("FILE")
        else:
            while words:
                if words.accept("opcodes"):
                    opcodes = True
                elif not jited and words.accept("visual"):
                    visual = True
                elif words.accept("linum"):
                    linum = True
                else:
                    break
        words.end()
        if visual and call.json:
            raise Usage("visual is a graph for dot(1), not JSON")
        if len(fds) > 1 and (file is not None or visual):
            raise SkepError(f"{len(fds)} programs match; name one by its id")
        answers: list[Any] = []
        for fd in fds:
            code = Code(call, fd, jited=jited)
            if file is not None:
                save(file, code.image, 0o600)
                answers.append(None)
            elif visual:
                from skep.cli.prog.graph import dot

                call.write(dot(code, opcodes, linum))
            elif jited:
                from skep.cli.prog.jited import listing

                answers.append(listing(call, code, opcodes, linum, header=len(fds) > 1))
            elif call.json:
                answers.append(_with_header(code, len(fds), xlated_json(code, opcodes, linum)))
            else:
                call.write(_plain_header(code, len(fds)) + xlated_plain(code, opcodes, linum))
                if len(fds) > 1 and fd != fds[-1]:
                    call.write("\n")
        if call.json:
            call.emit(answers if len(answers) > 1 else answers[0])


class Code:
    """A program's image and what goes with it: functions, lines, kernel symbols."""

    def __init__(self, call: Call, fd: int, *, jited: bool) -> None:
        kernel = call.kernel
        about = objects.info(kernel, fd, "prog")
        length = about["jited_prog_len" if jited else "xlated_prog_len"]
        if not length:
            raise SkepError(
                "the program is not compiled to native code here"
                if jited
                else "the kernel shows no instructions: see sysctl kernel.kptr_restrict"
            )
        image = bytearray(length)
        func_info = bytearray(about["nr_func_info"] * about["func_info_rec_size"])
        line_info = bytearray(about["nr_line_info"] * about["line_info_rec_size"])
        jited_lines = bytearray(8 * about["nr_jited_line_info"])
        ksyms = bytearray(8 * about["nr_jited_ksyms"])
        lens = bytearray(4 * about["nr_jited_func_lens"])
        part = "jited" if jited else "xlated"
        about = objects.info(
            kernel,
            fd,
            "prog",
            **{f"{part}_prog_len": length, f"{part}_prog_insns": image},
            nr_func_info=about["nr_func_info"],
            func_info_rec_size=about["func_info_rec_size"],
            func_info=func_info,
            nr_line_info=about["nr_line_info"],
            line_info_rec_size=about["line_info_rec_size"],
            line_info=line_info,
            nr_jited_line_info=about["nr_jited_line_info"],
            jited_line_info_rec_size=about["jited_line_info_rec_size"],
            jited_line_info=jited_lines,
            nr_jited_ksyms=about["nr_jited_ksyms"],
            jited_ksyms=ksyms,
            nr_jited_func_lens=about["nr_jited_func_lens"],
            jited_func_lens=lens,
        )
        if not about[f"{part}_prog_insns"]:
            raise SkepError(
                "the kernel hides the instructions: sysctl kernel.kptr_restrict or bpf_jit_harden"
            )
        self.call = call
        self.about = about
        self.image = bytes(image)
        self.ksyms: list[int] = list(memoryview(ksyms).cast("Q"))
        self.lens: list[int] = list(memoryview(lens).cast("I"))
        self.jited_lines: list[int] = list(memoryview(jited_lines).cast("Q"))
        self.functions: list[tuple[int, int]] = _records(func_info, about["func_info_rec_size"], 2)
        #: (slot, file name, line, line number << 10 | column), the middle two as BTF string offsets
        self.lines = [(a, b, c, d) for a, b, c, d in _records(line_info, about["line_info_rec_size"], 4)]
        self.btf: Btf | None = None
        if about["btf_id"]:
            from skep.cli.noun.kernel_btf import load

            self.btf = load(kernel, about["btf_id"])
        self._symbols: Symbols | None = None

    @property
    def symbols(self) -> Symbols:
        if self._symbols is None:
            self._symbols = Symbols()
        return self._symbols

    def proto(self, type_id: int) -> str:
        from skep.cli.noun.typed import signature

        return signature(self.btf, type_id) if self.btf is not None else ""

    def source(self, record: tuple[int, int, int, int]) -> tuple[str, str, int, int]:
        """(text, file, line number, column) of a line record."""
        _, file, line, place = record
        strings = self.btf.strings if self.btf is not None else {0: ""}
        return strings[line].lstrip(), strings[file], place >> 10, place & 0x3FF


def _records(data: bytearray, size: int, count: int) -> list[Any]:
    if not size:
        return []
    words = memoryview(data).cast("I")
    step = size // 4
    return [tuple(words[i : i + count]) for i in range(0, len(words), step)]


class Symbols:
    """/proc/kallsyms by address."""

    __slots__ = ("_data", "call_base")

    def __init__(self) -> None:
        try:
            with open("/proc/kallsyms", "rb") as file:
                self._data = b"\n" + file.read()
        except OSError:
            self._data = b""
        at = self._data.find(b" __bpf_call_base\n")
        start = self._data.rfind(b"\n", 0, at) + 1 if at >= 0 else 0
        self.call_base = int(self._data[start : start + 16], 16) if at >= 0 else 0
        if not self.call_base:  # addresses are hidden from us: all are zero
            self._data = b""

    def name(self, address: int) -> str | None:
        at = self._data.find(b"\n%016x " % address)
        if at < 0:
            return None
        return self._data[at + 20 : at + 220].split(None, 1)[0].decode(errors="replace")


# --- xlated ------------------------------------------------------------------------------------


def insn_text(code: Code, insns: list[Insn], pc: int) -> str:
    """One instruction in the kernel's notation, calls with the symbols they go to."""
    from skep.asm.linux import text

    insn = insns[pc]
    if insn.opcode != op.CALL:
        return text(insns, pc)
    if insn.src == op.BPF_PSEUDO_CALL:
        if not code.ksyms:
            return f"({insn.opcode:02x}) call pc{insn.off:+d}"
        number = insn.imm & 0xFFFFFFFF
        address = code.ksyms[number] if number < len(code.ksyms) else 0
        name = code.symbols.name(address) if address else None
        return f"({insn.opcode:02x}) call pc{insn.off:+d}#{name or f'0x{address:x}'}"
    if insn.src == 0:
        from skep.asm.helpers import HELPERS

        if 0 <= insn.imm < len(HELPERS):
            return text(insns, pc)
    address = (code.symbols.call_base + insn.imm) & 0xFFFFFFFFFFFFFFFF
    name = code.symbols.name(address) or f"0x{address:x}"
    return f"({insn.opcode:02x}) call {name}#{insn.imm}"


def _walk(code: Code) -> Any:
    """(slot, proto or "", line record or None) of every instruction, with the decoded slots."""
    from skep.isa.ebpf import decode

    insns = list(decode(code.image))
    functions = iter(code.functions)
    function = next(functions, None)
    lines = iter(code.lines)
    line = next(lines, None)
    pc = 0
    while pc < len(insns):
        proto = ""
        if function is not None and function[0] == pc:
            proto = code.proto(function[1])
            function = next(functions, None)
        while line is not None and line[0] < pc:
            line = next(lines, None)
        here = None
        if line is not None and line[0] == pc:
            here, line = line, next(lines, None)
        yield insns, pc, proto, here
        pc += 2 if insns[pc].opcode == op.LD_IMM64 else 1


def xlated_json(code: Code, opcodes: bool, linum: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for insns, pc, proto, line in _walk(code):
        row: dict[str, Any] = {}
        if proto:
            row["proto"] = proto
        if line is not None:
            row |= line_json(code, line, linum)
        row["disasm"] = insn_text(code, insns, pc)
        if opcodes:
            raw = code.image[8 * pc : 8 * pc + (16 if insns[pc].opcode == op.LD_IMM64 else 8)]
            row["opcodes"] = {
                "code": f"0x{raw[0]:02x}",
                "src_reg": f"0x{insns[pc].src:x}",
                "dst_reg": f"0x{insns[pc].dst:x}",
                "off": json_bytes(raw[2:4]),
                "imm": json_bytes(raw[4:]),
            }
        rows.append(row)
    return rows


def line_json(code: Code, line: tuple[int, int, int, int], linum: bool) -> dict[str, Any]:
    text, file, number, column = code.source(line)
    row: dict[str, Any] = {"src": text}
    if linum:
        row["file"] = file
        if number:
            row["line_num"] = number
        if column:
            row["line_col"] = column
    return row


def line_plain(code: Code, line: tuple[int, int, int, int], linum: bool) -> str:
    text, file, number, column = code.source(line)
    return f"; {text} [file:{file} line_num:{number} line_col:{column}]\n" if linum else f"; {text}\n"


def xlated_plain(code: Code, opcodes: bool, linum: bool) -> str:
    out: list[str] = []
    for insns, pc, proto, line in _walk(code):
        if proto:
            out.append(f"{proto}:\n")
        if line is not None:
            out.append(line_plain(code, line, linum))
        out.append(f"{pc:4d}: {insn_text(code, insns, pc)}\n")
        if opcodes:
            wide = insns[pc].opcode == op.LD_IMM64
            parts = [code.image[8 * i : 8 * i + 8] for i in (pc, pc + 1)[: 2 if wide else 1]]
            out.append("       " + " ".join(plain_bytes(part) for part in parts) + "\n")
    return "".join(out)


# --- several programs, files -------------------------------------------------------------------


def _with_header(code: Code, count: int, insns: list[dict[str, Any]]) -> Any:
    if count == 1:
        return insns
    return header_json(code) | {"insns": insns}


def header_json(code: Code) -> dict[str, Any]:
    from skep.cli.noun import names

    about = code.about
    row: dict[str, Any] = {"id": about["id"], "type": names.prog_type(about["type"])}
    if about["name"][0]:
        row["name"] = objects.object_name(about["name"])
    row |= {"tag": about["tag"].hex(), "gpl_compatible": about["gpl_compatible"]}
    if about["run_time_ns"]:
        row |= {"run_time_ns": about["run_time_ns"], "run_cnt": about["run_cnt"]}
    return row


def _plain_header(code: Code, count: int) -> str:
    if count == 1:
        return ""
    row = header_json(code)
    name = f"name {row['name']}  " if "name" in row else ""
    return f"{row['id']}: {row['type']}  {name}tag {row['tag']}{'  gpl' if row['gpl_compatible'] else ''}\n"
