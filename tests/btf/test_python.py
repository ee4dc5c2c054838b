"""Python classes against a C program that writes the same types' bytes and values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skep.btf import Btf, BtfBuilder, py_dump
from skep.btf import types as t
from skep.btf.types import Array, Enum, EnumValue, Float, Int, Member, Ptr, Struct, Typedef, Union
from skep.errors import BtfError
from tests.btf.objects import compiled, kernel
from tests.elf.clang import compile_c
from tests.support import oracles

TYPES = """
#include <stdio.h>
#include <string.h>
enum color { RED = 1, GREEN = 7 } __attribute__((packed));
enum sign { MINUS = -4, PLUS = 4 };
union either { int n; unsigned char raw[4]; };
struct point { short x, y; };
struct all {
	signed char i8; unsigned char u8; short i16; unsigned short u16; int i32; unsigned u32;
	long i64; unsigned long u64; __int128 i128; _Bool yes; float f; double d;
	char name[8]; int grid[2][3]; struct point points[2]; char words[2][4]; struct point one;
	struct { int in; struct { int deep; }; }; union { int left; unsigned right; };
	union either either;
	unsigned a : 3; int b : 5; unsigned long c : 40; int : 3; _Bool flag : 1;
	enum color color; enum sign sign;
	void *pointer; int from; double reals[2]; _Bool truths[3]; int __hidden; int tail[];
};
struct all value;
int main(void) {
	memset(&value, 0xa5, sizeof value);
	value.i8 = -5; value.u8 = 250; value.i16 = -300; value.u16 = 65000; value.i32 = -70000;
	value.u32 = 4000000000u;
	value.i64 = -5000000000; value.u64 = 1ul << 63; value.i128 = -((__int128)1 << 70);
	value.yes = 1; value.f = 1.5;
	value.d = -2.25; memcpy(value.name, "abc\\0defg", 8); memcpy(value.words, "one\\0two", 8);
	for (int i = 0; i < 6; i++) value.grid[i / 3][i % 3] = i * 11 - 20;
	value.points[0] = (struct point){1, -2}; value.points[1] = (struct point){-3, 4};
	value.one = (struct point){-5, 6}; value.in = 12; value.deep = 13; value.left = -14;
	value.either.n = 0x01020304;
	value.a = 5; value.b = -7; value.c = 0x9876543210; value.flag = 1; value.color = GREEN;
	value.sign = MINUS;
	value.pointer = (void *)0x1122334455667788; value.from = 99; value.reals[0] = 0.5;
	value.reals[1] = -8;
	value.truths[0] = 1; value.truths[1] = 0; value.truths[2] = 1; value.__hidden = 31;
	fwrite(&value, sizeof value, 1, stdout);
}
"""
EXPECTED: dict[str, Any] = {
    "i8": -5,
    "u8": 250,
    "i16": -300,
    "u16": 65000,
    "i32": -70000,
    "u32": 4000000000,
    "i64": -5000000000,
    "u64": 1 << 63,
    "i128": -(1 << 70),
    "yes": True,
    "f": 1.5,
    "d": -2.25,
    "name": b"abc\0defg",
    "grid": ((-20, -9, 2), (13, 24, 35)),
    "words": (b"one\0", b"two\0"),
    "in_": 12,
    "deep": 13,
    "left": -14,
    "right": (1 << 32) - 14,
    "a": 5,
    "b": -7,
    "c": 0x9876543210,
    "flag": 1,
    "color": 7,
    "sign": -4,
    "pointer": 0x1122334455667788,
    "from_": 99,
    "reals": (0.5, -8.0),
    "truths": (True, False, True),
    "__hidden": 31,
    "tail": (),
}


def classes(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "generated"}
    exec(compile(source, "generated", "exec"), space)
    return space


@pytest.mark.oracle
def test_against_a_c_program(tmp_path: Path) -> None:
    if sys.byteorder != "little" or sys.maxsize >> 62 != 1:
        pytest.skip("the types here are those of a little-endian 64-bit machine")
    program = tmp_path / "p"
    clang = oracles.tool("clang-19", "clang")
    subprocess.run([clang, "-x", "c", "-", "-o", str(program)], input=TYPES, text=True, check=True)
    object_ = compile_c(TYPES.split("int main")[0].split("#include <string.h>")[1], tmp_path / "p.o")
    data = subprocess.run([str(program)], capture_output=True, check=True).stdout
    made = classes(py_dump(Btf.open(object_), ["all", "color", "either"]))
    for at, blob in ((0, data), (3, b"xyz" + data)):
        value = made["all"].unpack(blob, at)
        assert len(data) == made["all"].SIZE
        got = {name: getattr(value, name) for name in EXPECTED}
        assert got == EXPECTED
        assert [(p.x, p.y) for p in value.points] == [(1, -2), (-3, 4)] and value.one.y == 6
        assert value.either.n == 0x01020304 and value.either.raw == b"\4\3\2\1"
    assert value == made["all"].unpack(data) and "i16=-300" in repr(value)
    assert made["color"].GREEN == 7
    with pytest.raises(ValueError, match="all takes"):
        made["all"].unpack(data[:-1])


@pytest.mark.oracle
def test_big_endian_bitfields(tmp_path: Path) -> None:
    """Bits as clang stores them on a big-endian machine: constants in the object's own data."""
    text = """
    struct b { unsigned a : 3; int b : 5; unsigned short c; unsigned long d : 33; int e : 31;
        unsigned f : 1; };
    struct b value = { 5, -7, 0xabcd, 0x123456789, -99, 1 };
    """
    from skep.elf import Elf

    for target in ("bpfel", "bpfeb"):
        path = compile_c(text, tmp_path / f"{target}.o", "-O2", "-g", target=target)
        section = Elf.open(path).section(".data")
        assert section is not None
        value = classes(py_dump(Btf.open(path), ["b"]))["b"].unpack(section.data)
        assert (value.a, value.b, value.c, value.d, value.e, value.f) == (5, -7, 0xABCD, 0x123456789, -99, 1)


@pytest.mark.oracle
def test_every_type_of_the_sources_and_many_of_the_kernel(tmp_path: Path) -> None:
    for btf in (Btf.open(compiled("layout", tmp_path)), Btf.open(compiled("declarations", tmp_path))):
        names = [v.name for _, v in btf.items() if v.kind in (t.STRUCT, t.UNION, t.ENUM, t.ENUM64) and v.name]
        made = classes(py_dump(btf, names))
        for name in names:
            if hasattr(made[name], "unpack"):
                made[name].unpack(bytes(made[name].SIZE))
    btf = Btf.open(kernel())
    names = ["task_struct", "sk_buff", "net_device", "bpf_attr", "tcp_sock", "file", "bpf_prog_type"]
    made = classes(py_dump(btf, names))
    for name in names[:-1]:
        assert btf.size_of(btf.require(name)) == made[name].SIZE
        made[name].unpack(bytes(made[name].SIZE))
    assert made["bpf_prog_type"].BPF_PROG_TYPE_XDP == 6


@pytest.mark.oracle
def test_generated_code_is_typed(tmp_path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("mypy") is None:
        oracles.absent("mypy")
    (tmp_path / "made.py").write_text(py_dump(Btf.open(kernel()), ["sk_buff"]))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "made.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_names_that_are_not_pythons() -> None:
    builder = BtfBuilder()
    number = builder.add(Int("int", 4, t.SIGNED))
    nothing = builder.add(Struct("", 4, [Member("x", number, 0)]))
    builder.add(Typedef("alias", nothing))
    members = [Member("class", number, 0), Member("SIZE", number, 32), Member("a.b", number, 64)]
    builder.add(Struct("int", 12, members))
    builder.add(Enum("e", 4, [EnumValue("None", 3)]))
    builder.add(Union("u", 16, [Member("long double", builder.add(Float("ld", 16)), 0)]))
    made = classes(py_dump(builder, ["alias", "e", "u"]))
    assert made["alias"].unpack(b"\1\0\0\0").x == 1 and made["e"].None_ == 3
    assert made["u"].unpack(bytes(16)).long_double == bytes(16)
    value = classes(py_dump(builder, ["int"]))["int___2"].unpack(b"\1\0\0\0\2\0\0\0\3\0\0\0")
    assert (value.class_, value.SIZE_, value.a_b) == (1, 2, 3)


def test_refusals() -> None:
    builder = BtfBuilder()
    number = builder.add(Int("int", 4))
    builder.add(Typedef("n", number))
    own = builder.reserve()
    builder[own] = Struct("self", 4, [Member("", builder.add(Array(own, number, 1)), 0)])
    loop = builder.reserve()
    builder[loop] = Struct("loop", 4, [Member("", loop, 0)])
    builder.add(Ptr(loop))
    with pytest.raises(BtfError, match="no struct called 'absent'"):
        py_dump(builder, ["absent"])
    with pytest.raises(BtfError, match="needs a struct, union or enum, not INT"):
        py_dump(builder, ["n"])
    with pytest.raises(BtfError, match="deep"):
        py_dump(builder, ["loop"])
