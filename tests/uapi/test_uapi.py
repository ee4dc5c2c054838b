"""The generated tables against the running kernel's own BTF, and packing by name."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from skep.uapi import enums, flags
from skep.uapi.attr import ATTR, INFO
from skep.uapi.contexts import CONTEXTS
from skep.uapi.helpers import helpers
from skep.uapi.layout import Layout
from tests.support.oracles import ROOT, absent, tool

C_ENUMS = {
    "bpf_cmd": enums.Cmd,
    "bpf_map_type": enums.MapType,
    "bpf_prog_type": enums.ProgType,
    "bpf_attach_type": enums.AttachType,
    "bpf_link_type": enums.LinkType,
}


@cache
def kernel_btf() -> str:
    if not Path("/sys/kernel/btf/vmlinux").exists():
        absent("/sys/kernel/btf/vmlinux")
    command = [tool("bpftool"), "-j", "btf", "dump", "file", "/sys/kernel/btf/vmlinux"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kernel_enumerators() -> dict[str, dict[str, int]]:
    types = json.loads(kernel_btf())["types"]
    return {
        t["name"]: {v["name"]: v["val"] for v in t["values"]}
        for t in types
        if t["kind"] in {"ENUM", "ENUM64"}
    }


def test_enumerators_are_the_kernels() -> None:
    kernel = kernel_enumerators()
    for c_name, ours in C_ENUMS.items():
        theirs = kernel[c_name]
        for member in ours:
            # A kernel older than the tables lacks members, but none may have another number.
            assert theirs.get(member.c_name, int(member)) == int(member), member
    functions = kernel["bpf_func_id"]
    for helper in helpers().values():
        assert functions.get(f"BPF_FUNC_{helper.name}", helper.id) == helper.id


def test_a_table_from_this_kernel_contradicts_nothing(tmp_path: Path) -> None:
    (tmp_path / "kernel.json").write_text(kernel_btf())
    script = ROOT / "tools" / "gen_uapi.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "kernel.json"), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names: dict[str, object] = {}
    for module in ("attr", "contexts", "enums"):
        exec(compile((tmp_path / f"{module}.py").read_text(), module, "exec"), names)
    for ours, table in ((ATTR, "ATTR"), (INFO, "INFO"), (CONTEXTS, "CONTEXTS")):
        theirs = names[table]
        assert isinstance(theirs, dict)
        for struct, layout in theirs.items():
            for field, where in layout.fields.items():
                if field in ours[struct].fields:
                    assert ours[struct].fields[field] == where, f"{struct}.{field}"


def test_every_helper_has_a_version_and_a_prototype() -> None:
    table = helpers()
    assert sorted(table) == list(range(1, 212))
    for helper in table.values():
        assert f"bpf_{helper.name}(" in helper.prototype
        assert helper.since.count(".") == 1


def test_every_program_map_and_link_type_has_a_version() -> None:
    for kind in (enums.ProgType, enums.MapType, enums.AttachType, enums.LinkType, enums.Cmd):
        for member in kind:
            if member.name != "UNSPEC":
                assert member.c_name in enums.SINCE, member.c_name


def test_aliases_show_the_name_in_use() -> None:
    assert enums.MapType(19).name == "CGROUP_STORAGE"
    assert enums.Cmd(10).name == "PROG_TEST_RUN"
    assert (flags.XDP_DROP, flags.BPF_NOEXIST, flags.BPF_F_NO_PREALLOC) == (1, 1, 1)


def test_layout_packs_by_name() -> None:
    load = ATTR["prog_load"]
    data = load.pack({"prog_type": 6, "insn_cnt": 2, "insns": 0x1122334455667788, "prog_name": b"hello"})
    assert len(data) == load.size
    assert data[:16] == bytes([6, 0, 0, 0, 2, 0, 0, 0]) + bytes.fromhex("8877665544332211")
    assert load.unpack(data)["prog_name"] == b"hello".ljust(16, b"\0")
    assert load.unpack(data[:8]) == {"prog_type": 6, "insn_cnt": 2}


@pytest.mark.parametrize("name", [*(f"attr:{name}" for name in ATTR), *(f"info:{name}" for name in INFO)])
def test_whole_and_cut_structs_are_read_alike(name: str) -> None:
    """A whole struct is unpacked in one go, a cut one field by field; overlapping members are all there."""
    kind, _, key = name.partition(":")
    layout = (ATTR if kind == "attr" else INFO)[key]
    data = random.Random(11).randbytes(layout.size)
    whole = layout.unpack(data)
    assert set(whole) == set(layout.fields)
    # one byte short: the last field or two are not there, the others are as before
    cut = layout.unpack(data[:-1])
    assert cut == {field: value for field, value in whole.items() if field in cut}
    assert len(cut) >= len(whole) - 4
    for field, (offset, size, count) in layout.fields.items():
        raw = data[offset : offset + abs(size) * max(count, 1)]
        assert whole[field] == (raw if count else int.from_bytes(raw, "little", signed=size < 0))


def test_layout_refuses_what_does_not_fit() -> None:
    small = Layout(8, {"a": (0, 4, 0), "b": (4, -2, 0), "c": (6, 1, 2)})
    assert small.pack({"b": -1}) == bytes([0, 0, 0, 0, 255, 255, 0, 0])
    with pytest.raises(OverflowError, match="a: -1 does not fit u32"):
        small.pack({"a": -1})
    with pytest.raises(OverflowError, match="c: 3 bytes do not fit 2"):
        small.pack({"c": b"abc"})
    with pytest.raises(KeyError):
        small.pack({"nothing": 1})
