"""Raw, JSON and C dumps against bpftool, on clang's and pahole's objects and on the running kernel."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from skep.btf import Btf, c_dump, raw_dump, raw_json
from skep.btf import types as t
from skep.errors import BtfError
from skep.obj import read
from tests.btf.objects import NAMES, bpftool, bpftool_knows_modes, compiled, kernel
from tests.elf.clang import compile_c
from tests.support import oracles

pytestmark = pytest.mark.oracle
#: what bpftool 7.5 and later add to a kernel's header
KFUNCS = re.compile(
    r"^(?:#ifndef BPF_NO_KFUNC_PROTOTYPES\n#ifndef __ksym\n.*?#endif\n#endif\n\n"
    r"|\n/\* BPF kfuncs \*/\n.*?#endif\n\n)",
    re.MULTILINE | re.DOTALL,
)


def text_of(btf: Btf) -> str:
    return "".join(line + "\n" for line in raw_dump(btf))


@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
@pytest.mark.parametrize("name", NAMES)
def test_objects(tmp_path: Path, name: str, target: str) -> None:
    path = compiled(name, tmp_path, target=target)
    btf = Btf.open(path)
    btf.check()
    assert text_of(btf) == bpftool("btf", "dump", "file", path)
    assert raw_json(btf) == json.loads(bpftool("-j", "btf", "dump", "file", path))
    assert c_dump(btf, enum_modes=bpftool_knows_modes()) == bpftool(
        "btf", "dump", "file", path, "format", "c"
    )


def pahole(path: Path) -> Path:
    """Add BTF made from the object's DWARF, as kernel builds do."""
    subprocess.run([oracles.tool("pahole"), "-J", str(path)], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_objects_by_pahole(tmp_path: Path, name: str) -> None:
    if name == "core":
        return  # its builtins are clang's for BPF alone
    path = pahole(compiled(name, tmp_path, "-gdwarf-4", "-DNO_TAGS", target="x86_64-linux-gnu"))
    btf = Btf.open(path)
    assert len(btf) > 30
    assert text_of(btf) == bpftool("btf", "dump", "file", path)
    assert c_dump(btf, enum_modes=bpftool_knows_modes()) == bpftool(
        "btf", "dump", "file", path, "format", "c"
    )


def test_kernel_raw() -> None:
    assert text_of(Btf.open(kernel())) == bpftool("btf", "dump", "file", kernel())


def test_kernel_json() -> None:
    assert raw_json(Btf.open(kernel())) == json.loads(bpftool("-j", "btf", "dump", "file", kernel()))


def test_kernel_c() -> None:
    ours = c_dump(Btf.open(kernel()), enum_modes=bpftool_knows_modes(), kfuncs=False)
    theirs = bpftool("btf", "dump", "file", kernel(), "format", "c")
    theirs = KFUNCS.sub("", theirs)  # from 7.5 on
    assert ours.splitlines() == theirs.splitlines()


def test_kfuncs_are_declared(tmp_path: Path) -> None:
    """As bpftool 7.5 does: a program that calls one through the header compiles, and finds it in .ksyms."""
    btf = Btf.open(kernel())
    tagged = {
        btf[tag.type].name
        for tag in btf
        if isinstance(tag, t.DeclTag) and tag.name == "bpf_kfunc" and tag.component == -1
    }
    header = c_dump(btf)
    lines = [line for line in header.splitlines() if line.endswith(") __weak __ksym;")]
    plain = [re.sub(r"__attribute__\(\(.*?\)\) ?", "", line.replace("(1)", "")) for line in lines]
    declared = [line[: line.index("(")].rsplit(" ", 1)[-1].lstrip("*") for line in plain]
    assert sorted(declared) == sorted(tagged)
    if "bpf_cpumask_create" not in tagged:
        oracles.absent("a kernel whose BTF tags kfuncs (6.11)")
    body = """
__attribute__((section("tp_btf/task_newtask"), used)) int make(void *ctx)
{
	struct bpf_cpumask *mask = bpf_cpumask_create();
	if (mask)
		bpf_cpumask_release(mask);
	return 0;
}
char LICENSE[] __attribute__((section("license"), used)) = "GPL";
"""
    compile_c(header + body, tmp_path / "kfunc.o", "-Wno-everything", "-g", "-O2")
    spec = read(tmp_path / "kfunc.o")
    assert {e.name: e.kind for e in spec.externs.values()} == {
        "bpf_cpumask_create": "kfunc",
        "bpf_cpumask_release": "kfunc",
    }
    assert "__weak" not in c_dump(btf, [1, 2]) + c_dump(btf, kfuncs=False)


def layout_checks(btf: Btf) -> str:
    """C that fails to compile unless every named type has the size and the members the offsets BTF says."""
    lines = ["#define offsetof(a, b) __builtin_offsetof(a, b)"]
    seen: set[str] = set()
    for value in btf:
        word = {t.STRUCT: "struct", t.UNION: "union", t.ENUM: "enum", t.ENUM64: "enum"}.get(value[0])
        if not word or not value.name or value.name in seen or (word == "enum" and not value[3]):
            continue
        seen.add(value.name)
        if word != "enum" and any(
            btf[member[1]].name in ("__builtin_va_list", "va_list") for member in value[3]
        ):
            continue  # the compiler's own type, of another size on each machine
        lines.append(f'_Static_assert(sizeof({word} {value.name}) == {value[2]}, "{value.name}");')
        if word != "enum":
            lines += [
                f"_Static_assert(offsetof({word} {value.name}, {name}) == {offset // 8}, "
                f'"{value.name}.{name}");'
                for name, _, offset, bits in value[3]
                if name and not bits
            ]
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["layout", "declarations"])
def test_header_compiles_to_the_same_layout(tmp_path: Path, name: str) -> None:
    btf = Btf.open(compiled(name, tmp_path))
    compile_c(c_dump(btf) + layout_checks(btf), tmp_path / "check.o", "-Wno-everything")


def test_kernel_header_compiles_to_the_same_layout(tmp_path: Path) -> None:
    btf = Btf.open(kernel())
    compile_c(c_dump(btf) + layout_checks(btf), tmp_path / "check.o", "-Wno-everything", "-O0")


def test_chosen_types_only(tmp_path: Path) -> None:
    btf = Btf.open(compiled("layout", tmp_path))
    text = c_dump(btf, [btf.require("tail_user", t.STRUCT)])
    assert "struct tail {" in text and "struct tail_user {" in text and "struct packed" not in text
    compile_c(text, tmp_path / "some.o", "-Wno-everything")
    with pytest.raises(BtfError, match="does not exist"):
        c_dump(btf, [len(btf)])


def test_big_endian_header_is_the_same(tmp_path: Path) -> None:
    little, big = (c_dump(Btf.open(compiled("declarations", tmp_path, target=x))) for x in ("bpfel", "bpfeb"))
    assert little == big
