"""Reading: what clang's objects say, in either byte order, with and without types; `skep link`."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from skep import obj
from skep.cli import main
from skep.errors import LinkError
from skep.uapi.enums import MapType, ProgType
from tests.obj.support import BUILDS, compiled, load, written
from tests.support import oracles


@pytest.mark.parametrize(("clang", "cpu"), BUILDS)
def test_the_whole(clang: str, cpu: str, tmp_path: Path) -> None:
    spec = obj.read(compiled("whole.c", tmp_path, clang, cpu, "-DOPTIONAL", "-DOWN_BSS"))
    assert (spec.name, spec.license) == ("whole", "GPL")
    assert list(spec.programs) == ["tail", "main_prog", "jumper", "optional"]
    assert [p.autoload for p in spec.programs.values()] == [True, True, True, False]
    maps = spec.maps
    assert maps["nested"].contents == {0: "one", 2: "two"}
    assert maps["nested"].inner is not None and maps["nested"].inner.max_entries == 1
    assert maps["jumps"].contents == {3: "tail"}
    assert (maps["bloom"].extra, maps["sized"].key_size, maps["sized"].value_size) == (3, 8, 12)
    assert maps[".data"].kernel_name == "whole.data" and maps[".data.custom"].kernel_name == ".data.custom"
    assert struct.pack("=q", -5) in bytes(maps[".data"].data or b"")
    assert b"read only text\0" in bytes(maps[".rodata"].data or b"")
    linked = obj.link_program(spec, "main_prog")
    assert [name for _, name in linked.subprogs] == ["main_prog", "each", "global_sub", "deep"]
    assert linked.function_at(linked.subprogs[2][0] + 1) == "global_sub"


def test_without_types(tmp_path: Path) -> None:
    """No -g: globals, subprograms and callbacks still work; maps need types to be declared."""
    text = """
    int counter = 4;
    static __noinline int sub(int x) { counter += x; return counter; }
    SEC("socket") int prog(void *ctx) { return sub(3); }
    LICENSE;"""
    path = compiled(written(tmp_path, "plain.c", text), tmp_path, debug=False)
    spec = obj.read(path)
    linked = obj.link_program(spec, "prog")
    assert not linked.func_infos and {ref.map for ref in linked.map_refs} == {".data"}
    with pytest.raises(LinkError, match="compile with -g"):
        obj.read(compiled("whole.c", tmp_path, debug=False))
    oracles.bpf()
    with load(spec) as loaded:
        assert loaded.kernel.prog_test_run(loaded.programs["prog"], bytes(64)).retval == 7


def test_both_byte_orders_say_the_same(tmp_path: Path) -> None:
    """Code is in the host's order whatever the object's; only data and swaps differ."""
    little = obj.read(compiled("whole.c", tmp_path / "l.o", "19", "v3", "-DOWN_BSS"))
    big = obj.read(compiled("whole.c", tmp_path / "b.o", "19", "v3", "-DOWN_BSS", "--target=bpfeb"))
    assert (little.byteorder, big.byteorder) == ("little", "big")
    assert list(little.maps) == list(big.maps)
    for name in little.programs:
        one, other = obj.link_program(little, name), obj.link_program(big, name)
        assert one.subprogs == other.subprogs and one.map_refs == other.map_refs
        assert one.insns == other.insns


def test_struct_ops(tmp_path: Path) -> None:
    text = """
    struct tcp_congestion_ops { u32 flags; void (*init)(void *); u32 (*ssthresh)(void *); char name[16]; };
    SEC("struct_ops/start") void start(u64 *ctx) {}
    SEC("struct_ops") u32 thresh(u64 *ctx) { return 2; }
    SEC(".struct_ops") struct tcp_congestion_ops ours = {
        .init = (void *)start, .ssthresh = (void *)thresh, .name = "ours" };
    SEC(".struct_ops.link") struct tcp_congestion_ops linked = { .ssthresh = (void *)thresh };
    LICENSE;"""
    spec = obj.read(compiled(written(tmp_path, "ops.c", text), tmp_path))
    ours, linked = spec.maps["ours"], spec.maps["linked"]
    assert (ours.type, ours.contents) == (MapType.STRUCT_OPS, {8: "start", 16: "thresh"})
    assert b"ours" in bytes(ours.data or b"") and linked.flags == 0x2000
    assert linked.contents == {16: "thresh"}
    assert {p.type for p in spec.programs.values()} == {ProgType.STRUCT_OPS}


def test_hidden_functions_are_static_to_the_kernel(tmp_path: Path) -> None:
    """As with libbpf: a hidden global is verified with its caller, so an unchecked pointer passes."""
    oracles.bpf()
    text = """
    __hidden __noinline int deref(int *p) { return *p; }
    SEC("socket") int prog(void *ctx) { int x = 5; asm volatile("" : "+m"(x)); return deref(&x); }
    LICENSE;"""
    with load(obj.read(compiled(written(tmp_path, "hidden.c", text), tmp_path))) as loaded:
        assert loaded.kernel.prog_test_run(loaded.programs["prog"], bytes(64)).retval == 5


def test_unknown_program_names_the_others(tmp_path: Path) -> None:
    spec = obj.read(compiled("whole.c", tmp_path))
    with pytest.raises(LinkError, match="no program 'nothing'; there are: tail, main_prog, jumper"):
        obj.link_program(spec, "nothing")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(compiled(name, tmp_path)) for name in ("link_a.c", "link_b.c")]
    out = tmp_path / "out.o"
    assert main(["link", *paths, "-o", str(out)]) == 0
    assert set(obj.read(out).programs) == {"first", "second", "third"}
    assert main(["link", *paths, paths[0], "-o", str(tmp_path / "no.o")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("skep link: ") and error.count("\n") == 1 and not (tmp_path / "no.o").exists()
    assert main(["link", str(tmp_path / "missing.o"), "-o", str(tmp_path / "no.o")]) == 1
    assert main(["link", paths[0], "-o", str(tmp_path / "no folder" / "x.o")]) == 1
    try:
        status = main(["link", *paths])
    except SystemExit as usage:
        assert usage.code == 2
    else:
        assert status == 2
