"""Static linking held against `bpftool gen object`: what is in the objects, what the kernel makes of it."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from skep import obj
from skep.btf import Btf, BtfExt, raw_dump
from skep.elf import Elf, ElfBuilder
from skep.elf import constants as c
from skep.errors import LinkError
from skep.isa import Insn, encode, ld_imm64
from tests.obj.support import bpftool_load, compiled, load, written
from tests.support import oracles

_TABLES = {"", ".strtab", ".symtab", ".shstrtab"}


def reference(out: Path, *paths: Path) -> Path:
    """What bpftool links."""
    done = subprocess.run(
        [oracles.tool("bpftool"), "gen", "object", out, *paths], capture_output=True, text=True
    )
    if done.returncode:
        raise LinkError(done.stderr)
    return out


def sections(elf: Elf) -> dict[str, tuple[Any, ...]]:
    skipped = {s.index for s in elf.sections if s.name in _TABLES or s.name.startswith((".rel", ".BTF"))}
    return {
        s.name: (s.type, s.flags, s.size, max(s.addralign, 1), bytes(s.data))
        for s in elf.sections
        if s.index not in skipped
    }


def symbols(elf: Elf) -> list[tuple[Any, ...]]:
    def name(index: int) -> str:
        return elf.sections[index].name if index > 0 else str(index)

    return sorted(
        (s.name, name(s.section), s.value, s.size, s.bind, s.type, s.visibility) for s in elf.symbols
    )


def relocations(elf: Elf) -> list[tuple[Any, ...]]:
    found = []
    for section in elf.sections:
        for row in elf.relocations(section):
            symbol = elf.symbols[row.symbol]
            where = elf.sections[symbol.section].name if symbol.section > 0 else ""
            found.append((section.name, row.offset, row.type, symbol.name, where, symbol.value))
    return sorted(found)


def records(path: Path) -> dict[str, Any]:
    """.BTF.ext with types in words, as ids may differ."""
    btf, ext = BtfExt.open(path)
    return {
        "funcs": {n: [(r.offset, btf[r.type].name) for r in rows] for n, rows in ext.funcs.items()},
        "lines": ext.lines,
        "relos": {
            n: [(r.offset, btf.describe(r.type), r.access, r.kind) for r in rows]
            for n, rows in ext.relos.items()
        },
    }


def corrected(dump: Iterable[str], elf: Elf) -> list[str]:
    """A dump with the offsets that the symbol table has.

    libbpf 1.1 keeps offset 0 for a map that was declared in an object before the one that defines it, so that
    it meets another map there.
    """
    values = {s.name: s.value for s in elf.symbols if s.bind and s.section > 0}

    def offset(match: re.Match[str]) -> str:
        return f"offset={values.get(match[3], int(match[1]))}{match[2]}(VAR '{match[3]}')"

    return [re.sub(r"offset=(\d+)( .*)\(VAR '(\w+)'\)", offset, line) for line in dump]


def compare(ours: Path, theirs: Path) -> None:
    one, other = Elf.open(ours), Elf.open(theirs)
    assert sections(one) == sections(other)
    assert symbols(one) == symbols(other)
    assert relocations(one) == relocations(other)
    assert list(raw_dump(Btf.open(ours))) == corrected(raw_dump(Btf.open(theirs)), other)
    assert records(ours) == records(theirs)


@pytest.mark.parametrize("clang", ["14", "19"])
@pytest.mark.parametrize("order", list(itertools.permutations(["link_a.c", "link_b.c"])))
def test_two_objects(clang: str, order: tuple[str, ...], tmp_path: Path) -> None:
    paths = [compiled(name, tmp_path, clang) for name in order]
    theirs = reference(tmp_path / "app.bpf.o", *paths)
    (tmp_path / "ours").mkdir()
    ours = tmp_path / "ours" / "app.bpf.o"
    obj.static_link(paths, ours)
    compare(ours, theirs)


def test_one_object_and_its_own_result(tmp_path: Path) -> None:
    path = compiled("whole.c", tmp_path)
    theirs = reference(tmp_path / "r.o", reference(tmp_path / "q.o", path))
    obj.static_link([path], tmp_path / "a.o")
    obj.static_link([tmp_path / "a.o"], tmp_path / "b.o")
    compare(tmp_path / "b.o", theirs)


def test_loads_as_libbpfs(tmp_path: Path) -> None:
    oracles.bpf()
    paths = [compiled(name, tmp_path) for name in ("link_a.c", "link_b.c")]
    theirs = bpftool_load(reference(tmp_path / "app.o", *paths), tmp_path)
    (tmp_path / "ours").mkdir()
    ours = tmp_path / "ours" / "app.o"
    obj.static_link(paths, ours)
    with load(obj.read(ours)) as loaded:
        for name, code in theirs.programs.items():
            assert loaded.xlated(name) == code, name


_STRONG = 'SEC("socket") int prog(void *ctx) { return 1; }\n'


_MAP = "struct { __uint(type, HASH); __uint(max_entries, %d); __type(key, u32); __type(value, u32); } m"


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("int x = 1;", "int x = 2;", "'x' is defined in"),
        ("int x = 1;", "extern long long x; long long *g(void) { return &x; }", "against"),
        ("int f(int a) { return a; }", "extern int f(int, int); int g(void) { return f(1, 2); }", "param"),
        ("LICENSE;", 'char _license[] SEC("license") = "BSD";', "license"),
        (
            _MAP % 3 + ' SEC(".maps");',
            "extern " + _MAP % 4 + ' SEC(".maps"); void *g(void) { return &m; }',
            "max_entries 3 against 4",
        ),
    ],
)
def test_what_does_not_fit(one: str, other: str, message: str, tmp_path: Path) -> None:
    paths = [
        compiled(written(tmp_path, f"{name}.c", text + "\n" + extra), tmp_path)
        for name, text, extra in (("one", one, _STRONG), ("other", other, "int other_f(void) { return 0; }"))
    ]
    with pytest.raises(LinkError):
        reference(tmp_path / "theirs.o", *paths)
    with pytest.raises(LinkError, match=message):
        obj.static_link(paths, tmp_path / "ours.o")
    assert not (tmp_path / "ours.o").exists()


def test_without_types(tmp_path: Path) -> None:
    paths = [
        compiled(
            written(tmp_path, "a.c", "extern int f(int); " + _STRONG.replace("1;", "f(4);")),
            tmp_path,
            debug=False,
        ),
        compiled(written(tmp_path, "b.c", "int f(int x) { return x * 2; }"), tmp_path, debug=False),
    ]
    obj.static_link(paths, tmp_path / "out.o")
    linked = obj.link_program(obj.read(tmp_path / "out.o"), "prog")
    assert [name for _, name in linked.subprogs] == ["prog", "f"]


_FUNCTION = {
    "strong": "int it(int x) { return x + %d; }",
    "weak": "__weak int it(int x) { return x + %d; }",
    "hidden": "__hidden int it(int x) { return x + %d; }",
    "weak hidden": "__weak __hidden int it(int x) { return x + %d; }",
    "declared": "extern int it(int x); int use_%d(int x) { return it(x); }",
    "declared weak": "extern int it(int x) __weak; int use_%d(int x) { return it ? it(x) : 0; }",
}
_VARIABLE = {
    "strong": "int it = %d;",
    "weak": "__weak int it = %d;",
    "hidden": "__hidden int it = %d;",
    "declared": "extern int it; int use_%d(void) { return it; }",
    "declared weak": "extern int it __weak; int use_%d(void) { return &it ? it : 0; }",
}


@pytest.mark.parametrize("forms", [_FUNCTION, _VARIABLE], ids=["function", "variable"])
def test_every_pair_of_bindings(forms: dict[str, str], tmp_path: Path) -> None:
    """Whatever bpftool makes of two forms of one name, or refuses to, is the same here."""
    objects: dict[tuple[str, int], Path] = {}
    for number in (1, 2):
        for kind, text in forms.items():
            own = f'SEC("socket") int prog_{number}(void *ctx) {{ return {number}; }}'
            name = f"{kind.replace(' ', '_')}_{number}.c"
            objects[kind, number] = compiled(
                written(tmp_path, name, f"{text % number}\n{own}\nLICENSE;"), tmp_path
            )
    agreed = 0
    for one, other in itertools.product(forms, forms):
        paths = [objects[one, 1], objects[other, 2]]
        theirs, ours = tmp_path / "theirs.out", tmp_path / "ours.out"
        try:
            reference(theirs, *paths)
        except LinkError:
            with pytest.raises(LinkError):
                obj.static_link(paths, ours)
            continue
        obj.static_link(paths, ours)
        compare(ours, theirs)
        agreed += 1
    assert agreed >= len(forms) * 2


@pytest.mark.parametrize("addend", [1 << 31, -(1 << 31) - 1, 1 << 40, -(1 << 63)])
def test_addends_beyond_an_instruction(addend: int, tmp_path: Path) -> None:
    elf = ElfBuilder()
    code = elf.section(
        "socket", encode([*ld_imm64(1, 0), Insn(0xB7), Insn(0x95)]), flags=c.SHF_ALLOC | c.SHF_EXECINSTR
    )
    elf.symbol("prog", section=code, size=32, type=c.STT_FUNC, bind=c.STB_GLOBAL)
    data = elf.section(".data", bytes(8), flags=c.SHF_ALLOC | c.SHF_WRITE)
    variable = elf.symbol("x", section=data, size=8, type=c.STT_OBJECT, bind=c.STB_GLOBAL)
    elf.relocation(code, 0, c.R_BPF_64_64, variable, addend=addend)
    path = tmp_path / "rela.o"
    path.write_bytes(elf.build())
    with pytest.raises(LinkError, match=r"'socket' byte 0x0: the reference becomes .*32 bits"):
        obj.static_link([path])
