"""Cases as text: what is known before, the code, the verdict.

    == an array's value ends after value_size bytes
    rule: access to a map value stays within [0, value_size)
    map:  m array 4 48 1
    pre:  r6=value(m)
    code:
        r0 = *(u64 *)(r6 +41)
        exit
    post: reject invalid access to map value, value_size=48 off=41 size=8

Fields (all but the first, ``code`` and ``post`` may be left out):

- ``since: RELEASE COMMIT``: the first Linux that accepts the program, and the commit that taught it to.
- ``type: PROG_TYPE [ATTACH_TYPE [TARGET]]``, names as in `skep.uapi.enums`, lower case, by
  default socket_filter.
- ``map: NAME TYPE KEY VALUE ENTRIES [flags=N] [extra=N] [inner=NAME] [data=HEX]``: KEY and VALUE are
  bytes, or the name of a struct in ``btf``. ``data`` makes it a frozen read-only map. May come again.
- ``btf:`` C definitions of structs. ``license:``, ``flags:`` as in a load.
- ``pre:`` facts that `prelude` makes true, in that order.
- ``code:`` skep's assembler, and: ``r1 = map NAME``, ``r1 = value NAME+8``, ``r1 = func NAME``,
  ``r1 = struct NAME`` (its BTF id), ``call kfunc NAME``, ``fn PROTOTYPE:`` before the first instruction of a
  function that has types, ``repeat N: LINE``.
- ``post: accept`` or ``post: reject TEXT``, TEXT a part of the kernel's words; ``post[unprivileged]`` is
  the verdict where the process has no capability at all, ``post[strict]`` that of ``check(strict=True)``,
  ``post[7.2]`` that of another kernel.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from skep.asm import assemble
from skep.isa import Insn
from skep.isa import opcodes as op
from skep.obj import MapSpec
from skep.uapi.enums import AttachType, MapType, ProgType
from tests.verifier.harness import ctypes, prelude
from tests.verifier.harness.question import Question, Types

_FIELD = re.compile(r"^(rule|since|type|map|btf|license|flags|pre|code|post(?:\[[\w.]+\])?|note):[ \t]*(.*)$")
_KFUNC = 0x7F000000
_FUNC_MARK = 1000
_RDONLY_PROG = 1 << 7


class Verdict(NamedTuple):
    """``text``: a part of the refusal, "" for any (or for acceptance)."""

    accepted: bool
    text: str


class Case(NamedTuple):
    name: str
    file: str
    line: int
    rule: str
    question: Question
    verdicts: dict[str, Verdict]
    #: the first release that accepts it, where the case says it
    since: tuple[int, int] | None = None

    @property
    def verdict(self) -> Verdict:
        return self.verdicts[""]


class CaseError(ValueError):
    """A case that is no case."""


@functools.cache
def read_file(path: Path) -> tuple[Case, ...]:
    """The cases of one file."""
    return tuple(_read(path))


def _read(path: Path) -> Iterator[Case]:
    text = path.read_text()
    start, name, body = 0, "", list[str]()
    for number, line in enumerate([*text.splitlines(), "=="], 1):
        if line.startswith("=="):
            if name:
                try:
                    yield parse(name, body, path.name, start)
                except Exception as error:
                    raise CaseError(f"{path.name}:{start}: {name}: {error}") from error
            start, name, body = number, line[2:].strip(), []
        elif name:
            body.append(line)


def parse(name: str, lines: list[str], file: str = "", number: int = 0) -> Case:
    """One case from its lines."""
    fields: dict[str, list[str]] = {}
    maps: list[str] = []
    current: list[str] = []
    for line in lines:
        found = _FIELD.match(line)
        if found:
            if found[1] == "map":
                current = [found[2]]
                maps.append(found[2])
                continue
            current = fields.setdefault(found[1], [])
            if found[2]:
                current.append(found[2])
        elif line.strip() and not line.startswith("#"):
            current.append(line)
    verdicts = {}
    for field, text in fields.items():
        if field.startswith("post"):
            verdicts[field[5:-1]] = _verdict(" ".join(part.strip() for part in text))
    if "" not in verdicts or "code" not in fields:
        raise CaseError("code and post are needed")
    question = _question(fields, maps)
    release = " ".join(fields.get("since", [])).partition(" ")[0]
    since = _release(release) if release else None
    return Case(name, file, number, " ".join(fields.get("rule", [])), question, verdicts, since)


def _release(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _verdict(text: str) -> Verdict:
    word, _, rest = text.partition(" ")
    if word not in ("accept", "reject"):
        raise CaseError(f"post: {text!r}")
    return Verdict(word == "accept", rest.strip())


def _question(fields: dict[str, list[str]], maps: list[str]) -> Question:
    words = " ".join(fields.get("type", ["socket_filter"])).split()
    prog_type = ProgType[words[0].upper()]
    attach_type = AttachType[words[1].upper()] if len(words) > 1 else None
    attach_to = words[2] if len(words) > 2 else ""
    names = [line.split()[0] for line in maps]
    code, prototypes = _with_functions(fields["code"])
    types = None
    if prototypes or "btf" in fields:
        main = "int skep_main(void *ctx)"
        types = ctypes.types("\n".join(fields.get("btf", [])), (main, *prototypes) if prototypes else (main,))
    specs = map_specs(maps, types)
    facts = " ".join(fields.get("pre", []))
    before, after = prelude.prelude(facts, prog_type, dict(zip(names, specs, strict=True)))
    structs = types.structs if types is not None else {}
    labels = [ctypes._name(one) for one in prototypes]
    insns, kfuncs, starts = assembled(before, code, after, names, labels, structs)
    alone = types is not None and not any(i.opcode == op.CALL and i.src == 1 for i in insns)
    functions: tuple[tuple[int, str], ...] = ()
    if prototypes or alone:
        functions = tuple(sorted([(0, "skep_main"), *zip(starts, labels, strict=True)]))
    return Question(
        insns, prog_type, attach_type, attach_to, tuple(specs),
        " ".join(fields.get("license", ["GPL"])), int(" ".join(fields.get("flags", ["0"])), 0),
        types, functions, tuple(kfuncs),
    )  # fmt: skip


def _with_functions(code: list[str]) -> tuple[list[str], list[str]]:
    out: list[str] = []
    prototypes: list[str] = []
    for line in code:
        found = re.match(r"\s*fn\s+(.*\))\s*:\s*$", line)
        repeat = re.match(r"\s*repeat\s+(\d+):(.*)$", line)
        if found:
            prototypes.append(found[1])
            out.append(f"{ctypes._name(found[1])}:")
        elif repeat:
            out += [repeat[2]] * int(repeat[1])
        else:
            out.append(line)
    return out, prototypes


def assembled(
    before: list[str],
    code: list[str],
    after: list[str],
    maps: list[str],
    functions: list[str],
    structs: dict[str, int],
) -> tuple[list[Insn], list[tuple[int, str]], list[int]]:
    """Slots, kernel functions, first slots of ``functions``."""
    kfuncs: list[str] = []
    called = {found[1] for line in code if (found := re.search(r"\bcall (\w+)\s*$", line))}
    main = next((i for i, line in enumerate(code) if _label(line) in (called | set(functions))), len(code))
    if any(line.startswith("skep_out:") for line in code):
        after = []
    lines = [*before, *code[:main], *after, *code[main:], *(f"call {name}" for name in functions)]
    text = "\n".join(_line(line, maps, kfuncs, structs) for line in lines)
    insns = assemble(text)
    starts: list[int] = []
    if functions:
        starts += [pc + 1 + insns[pc].imm for pc in range(len(insns) - len(functions), len(insns))]
        insns = insns[: -len(functions)]
    out: list[Insn] = []
    used: list[tuple[int, str]] = []
    for pc, insn in enumerate(insns):
        if insn.opcode == op.CALL and insn.src == 2 and insn.imm & ~0xFFFF == _KFUNC:
            used.append((pc, kfuncs[insn.imm & 0xFFFF]))
            insn = insn._replace(imm=0)
        elif insn.opcode == op.CALL and insn.src == 1 and insn.off >= _FUNC_MARK:
            insn = Insn(op.LD_IMM64, insn.off - _FUNC_MARK, 4, 0, insn.imm)
        out.append(insn)
    return out, used, starts


def _label(line: str) -> str:
    found = re.match(r"\s*(\w+):", line)
    return found[1] if found else ""


def _line(line: str, maps: list[str], kfuncs: list[str], structs: dict[str, int]) -> str:
    if found := re.match(r"(\s*\w+:)\s+(\S.*)$", line):
        return f"{found[1]}\n{_line(found[2], maps, kfuncs, structs)}"
    if found := re.match(r"(\s*)r(\d+) = map (\w+)\s*$", line):
        return f"{found[1]}ld_pseudo r{found[2]}, 1, {maps.index(found[3])}"
    if found := re.match(r"(\s*)r(\d+) = value (\w+)(?:\s*\+\s*(\w+))?\s*$", line):
        offset = int(found[4] or "0", 0)
        return f".slot 0x18, {found[2]}, 2, 0, {maps.index(found[3])}\n.slot 0, 0, 0, 0, {offset}"
    if found := re.match(r"(\s*)r(\d+) = func (\w+)\s*$", line):
        return f"call {found[3]} #@ off={_FUNC_MARK + int(found[2])}\n.slot 0, 0, 0, 0, 0"
    if found := re.match(r"(\s*r\d+ = )struct (\w+)\s*$", line):
        return f"{found[1]}{structs[found[2]]} ll"
    if found := re.match(r"(\s*)call kfunc (\w+)\s*$", line):
        kfuncs.append(found[2])
        return f".slot 0x85, 0, 2, 0, {_KFUNC + len(kfuncs) - 1:#x}"
    return line


def map_specs(lines: list[str], types: Types | None) -> list[MapSpec]:
    made: dict[str, MapSpec] = {}
    for line in lines:
        name, kind, key, value, entries, *more = line.split()
        options = dict(word.split("=", 1) for word in more)
        data = bytearray.fromhex(options["data"]) if "data" in options else None
        key_size, key_id = _size(key, types)
        value_size, value_id = _size(value, types)
        if value_id and not key_id and key_size == 4:
            key_id = _int(types)
        made[name] = MapSpec(
            name,
            MapType[kind.upper()],
            key_size,
            value_size,
            int(entries, 0),
            int(options.get("flags", "0"), 0) | (_RDONLY_PROG if data is not None else 0),
            key_type_id=key_id,
            value_type_id=value_id,
            inner=made[options["inner"]] if "inner" in options else None,
            extra=int(options.get("extra", "0"), 0),
            data=data,
            section=".rodata" if data is not None else "",
        )
    return list(made.values())


def _size(word: str, types: Types | None) -> tuple[int, int]:
    if word.isdigit():
        return int(word), 0
    from skep.btf import Btf
    from skep.btf.types import Struct

    assert types is not None
    id = types.structs[word]
    value = Btf(types.data)[id]
    assert isinstance(value, Struct)
    return value.size, id


def _int(types: Types | None) -> int:
    from skep.btf import Btf

    assert types is not None
    return Btf(types.data).find("unsigned int", 1) or Btf(types.data).find("int", 1) or 0
