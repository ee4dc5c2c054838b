"""The reader: finding, walking, layout, split BTF, headers."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from skep.btf import Btf, BtfBuilder, c_dump, raw_dump
from skep.btf import types as t
from skep.btf.types import Const, Func, FuncProto, Int, Member, Param, Ptr, Struct, Typedef
from skep.errors import BtfError
from tests.btf.objects import bpftool, compiled, kernel
from tests.elf.clang import compile_c
from tests.support import oracles


def small() -> BtfBuilder:
    builder = BtfBuilder()
    u32 = builder.add(Int("u32", 4))
    s = builder.add(Struct("s", 8, [Member("a", u32, 0), Member("", 0, 32)]))
    inner = builder.add(Struct("", 4, [Member("b", u32, 0, 5), Member("c", u32, 5, 7)]))
    builder[s] = Struct("s", 8, [Member("a", u32, 0), Member("", inner, 32)])
    builder.add(Typedef("s", builder.add(Const(s))))
    return builder


def test_finding() -> None:
    btf = small().btf()
    assert btf.find("s", t.STRUCT) == 2
    assert btf.find("s", t.TYPEDEF) == 5
    assert list(btf.ids_named("s")) == [2, 5]
    assert list(btf.ids_named("")) == [3, 4]
    assert btf.find("nothing") is None
    with pytest.raises(BtfError, match="no struct called 'nothing' among 5 types"):
        btf.require("nothing", t.STRUCT)
    assert [btf[i] for i in range(len(btf))] == list(btf)
    assert dict(btf.items()) == dict(enumerate(list(btf)[1:], 1))


def test_layout_questions() -> None:
    btf = small().btf()
    assert btf.resolve(5) == 2 and btf.resolve(5, typedefs=False) == 5
    assert btf.size_of(5) == 8 and btf.align_of(5) == 4 and btf.ptr_size == 8
    member, offset = btf.member(5, "c")
    assert (offset, btf.bitfield_bits(member)) == (37, 7)
    with pytest.raises(BtfError, match="struct s has no member 'd'"):
        btf.member(5, "d")
    with pytest.raises(BtfError, match="has no members"):
        btf.member(5, "a.b")


def test_values_are_values() -> None:
    assert Const(5) != Ptr(5) and hash(Const(5)) == hash(Const(5)) and Const(5) == Const(5)
    assert repr(Member("a", 1, 2)) == "Member(name='a', type=1, offset=2, bitfield_size=0)"
    match Struct("s", 4, []):
        case Struct("s", 4, members):
            assert members == ()
    with pytest.raises(AttributeError):
        Int("x", 4).size = 8  # type: ignore[misc]


@pytest.mark.oracle
def test_search_and_index_agree_on_the_kernel() -> None:
    """Finding by bytes, as long as few names are asked for, and by an index give the same ids."""
    btf, indexed = Btf.open(kernel()), Btf.open(kernel())
    indexed._index()
    names = [
        "task_struct",
        "sk_buff",
        "u32",
        "file",
        "bpf_map_lookup_elem",
        "vfs_read",
        "x",
        "nothing at all",
    ]
    for name in names:
        assert list(btf.ids_named(name)) == list(indexed.ids_named(name)), name
    assert btf._by_name is not None  # "nothing" needed the index


@pytest.mark.oracle
def test_kernel_functions_and_enums() -> None:
    btf = Btf.kernel()
    btf.check()
    found = btf.function("bpf_task_acquire") or btf.function("vfs_read")
    assert found is not None
    func, proto = found
    assert isinstance(func, Func) and isinstance(proto, FuncProto) and proto.params
    assert btf.enum_values("bpf_prog_type")["BPF_PROG_TYPE_XDP"] == 6
    value = btf.enumerator("BPF_MAP_TYPE_HASH")
    assert value is not None and value.value == 1
    assert btf.enumerator("no such enumerator") is None


@pytest.mark.oracle
def test_sizes_and_offsets_against_pahole() -> None:
    """pahole reads the same file by itself."""
    btf = Btf.open(kernel())
    for name in ("task_struct", "sk_buff", "net_device", "inode", "bpf_prog_aux", "tcp_sock"):
        shown = subprocess.run(
            [oracles.tool("pahole"), "-C", name, str(kernel())], capture_output=True, text=True, check=True
        ).stdout
        id = btf.require(name, t.STRUCT)
        assert f"/* size: {btf.size_of(id)}, cachelines" in shown, name
        assert f", members: {len(btf[id].members)}" in shown, name  # type: ignore[attr-defined]


@pytest.mark.oracle
def test_bitfields_of_both_forms(tmp_path: Path) -> None:
    """clang marks bitfields in the struct; the older form puts them in the integer."""
    btf = Btf.open(compiled("layout", tmp_path))
    bits = btf[btf.require("bits", t.STRUCT)]
    found = {m.name: (m.offset, btf.bitfield_bits(m)) for m in bits.members}  # type: ignore[attr-defined]
    assert found == {"a": (0, 3), "b": (3, 5), "c": (32, 7), "d": (64, 33), "e": (97, 1), "f": (104, 0)}
    builder = BtfBuilder()
    old = builder.add(Int("int", 4, t.SIGNED, 0, 5))
    id = builder.add(Struct("s", 4, [Member("a", old, 3)]))
    assert builder.bitfield_bits(builder[id].members[0]) == 5  # type: ignore[attr-defined]


@pytest.mark.oracle
def test_split_btf(tmp_path: Path) -> None:
    """Types on top of a base: read, built, printed, and the same as bpftool sees."""
    base_path = tmp_path / "base"
    base = BtfBuilder()
    number = base.add(Int("int", 4, t.SIGNED))
    base.add(Struct("shared", 4, [Member("x", number, 0)]))
    base_path.write_bytes(base.build())
    base_btf = Btf.open(base_path)
    split = BtfBuilder(base=base_btf)
    pointer = split.add(Ptr(2))
    split.add(Struct("mine", 16, [Member("p", pointer, 0), Member("x", number, 64)]))
    path = tmp_path / "split"
    path.write_bytes(split.build())
    btf = Btf.open(path, base=base_btf)
    assert len(btf) == 5 and btf.start_id == 3
    assert btf.find("shared") == 2 and btf.find("mine") == 4 and btf[3] == Ptr(2)
    assert b"shared" not in path.read_bytes() and btf[4].members[1].name == "x"  # type: ignore[attr-defined]
    assert "".join(f"{line}\n" for line in raw_dump(btf)) == bpftool(
        "-B", base_path, "btf", "dump", "file", path
    )
    assert c_dump(btf) == bpftool("-B", base_path, "btf", "dump", "file", path, "format", "c")
    with pytest.raises(BtfError, match="do not start with the empty one"):
        Btf.open(path).check()


def test_unknown_kinds_are_skipped_by_the_layout_table() -> None:
    """Headers of 32 bytes say how long each kind is, so newer kinds do not hide the types after them."""
    names = b"\0new\0int\0"
    types = struct.pack("<IIII", 1, 25 << 24 | 2, 0, 7) + struct.pack("<II", 8, 9)
    types += struct.pack("<IIII", 5, 1 << 24, 4, 32)
    layout = bytes(25 * 4) + struct.pack("<BBH", 4, 4, 0)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 32, 0, len(types), len(types), len(names))
    whole = header + struct.pack("<II", len(types) + len(names), len(layout)) + types + names + layout
    btf = Btf(whole)
    assert len(btf) == 3 and btf[2] == Int("int", 4)
    with pytest.raises(BtfError, match="type 1 has kind 25, which is unknown"):
        btf[1]
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names))
    with pytest.raises(BtfError, match="type 1 has kind 25, which is unknown"):
        len(Btf(header + types + names))


@pytest.mark.oracle
def test_file_kinds(tmp_path: Path) -> None:
    path = compiled("core", tmp_path)
    section = subprocess.run(
        [oracles.tool("llvm-objcopy-19"), "--dump-section", f".BTF={tmp_path / 'raw'}", str(path)], check=True
    )
    assert section.returncode == 0
    assert list(Btf.open(tmp_path / "raw")) == list(Btf.open(path))
    plain = compile_c("int x;", tmp_path / "plain.o", "-O2")
    with pytest.raises(BtfError, match=r"no \.BTF section: compile with -g"):
        Btf.open(plain)
    with pytest.raises(BtfError, match="No such file"):
        Btf.open(tmp_path / "absent")
    with pytest.raises(BtfError, match="module's name"):
        Btf.module("../vmlinux")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d[:1], "not BTF"),
        (lambda d: d[:20], "ends inside the BTF header"),
        (lambda d: b"\0\0" + d[2:], "not BTF"),
        (lambda d: d[:2] + b"\2" + d[3:], "version 2"),
        (lambda d: d[:4] + struct.pack("<I", 20) + d[8:], "header of 20 bytes"),
        (lambda d: d[:4] + struct.pack("<I", 1 << 31) + d[8:], "header of 2147483648 bytes"),
        (lambda d: d[:8] + struct.pack("<I", 2) + d[12:], "not in units of 4"),
        (lambda d: d[:12] + struct.pack("<I", 0xFFFFFFFC) + d[16:], "types claim bytes 0 to 4294967292"),
        (lambda d: d[:16] + struct.pack("<I", 1 << 30) + d[20:], "strings claim"),
        (lambda d: d[:-1] + b"x", "do not end with a zero byte"),
        (lambda d: d[:20] + struct.pack("<I", 0) + d[24:], "do not start with the empty one"),
    ],
)
def test_headers(change: object, words: str) -> None:
    data = small().build()
    with pytest.raises(BtfError, match=words):
        Btf(change(data), path="x.btf")  # type: ignore[operator]


def test_params_and_functions() -> None:
    builder = BtfBuilder()
    u32 = builder.add(Int("u32", 4))
    proto = builder.add(FuncProto(u32, [Param("a", u32), Param("", 0)]))
    builder.add(Func("f", proto, t.LINKAGE_GLOBAL))
    builder.add(Func("broken", u32))
    btf = builder.btf()
    assert btf.function("f") == (Func("f", proto, 1), FuncProto(u32, [Param("a", u32), Param("", 0)]))
    assert btf.function("g") is None
    with pytest.raises(BtfError, match="broken has int u32 for a prototype"):
        btf.function("broken")
