"""Registers by the machine that programs are built on: x86-64's, arm64's, and a refusal for the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from skep.errors import CompileError
from skep.lang import contexts_args
from skep.lang.compile import compile_programs, to_ir
from tests.lang.support import HEADER, module

PROGRAMS = """
@bpf.uprobe
def probe(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> int:
    return (a ^ b ^ c ^ d ^ e ^ f) & 1

@bpf.uretprobe
def back(result: u64) -> int:
    return result & 1

@bpf.kprobe
def whole(ctx: bpf.PtRegs) -> int:
    a, b = ctx.arg0 + 3 * ctx.arg5, 7 * ctx.ret
    return (a ^ b ^ ctx.STACK ^ ctx.PLACE) & 1
"""
#: struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h): regs[31], sp, pc, pstate
ARM64 = {"probe": [0, 8, 16, 24, 32, 40], "back": [0], "whole": [0, 40, 0, 248, 256]}
#: struct pt_regs (arch/x86/include/uapi/asm/ptrace.h); arguments in di, si, dx, cx, r8, r9
X86_64 = {"probe": [112, 104, 96, 88, 72, 64], "back": [80], "whole": [112, 64, 80, 152, 128]}


def offsets(listing: str, name: str) -> list[int]:
    """Where a function of an assembly listing reads its context."""
    body = re.split(rf"^{name}:", listing, flags=re.M)[1].split(".Lfunc_end")[0]
    found = re.findall(r"\*\(u64 \*\)\(r1 ([+-]) (\d+)\)", body)
    return sorted({int(sign + number) for sign, number in found})


@pytest.mark.parametrize(
    ("machine", "stack", "place", "want"),
    [("aarch64", "sp", "pc", ARM64), ("x86_64", "sp", "ip", X86_64)],
)
def test_where_arguments_are(
    machine: str,
    stack: str,
    place: str,
    want: dict[str, list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contexts_args, "machine", lambda: machine)
    made = module(tmp_path, HEADER + PROGRAMS.replace("STACK", stack).replace("PLACE", place))
    text = compile_programs([made.probe, made.back, made.whole], kind="asm").decode()
    for name, places in want.items():
        assert offsets(text, name) == sorted(set(places)), name


def test_arm64_has_eight_arguments_in_registers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts_args, "machine", lambda: "aarch64")
    params = ", ".join(f"a{i}: u64" for i in range(8))
    text = HEADER + f"@bpf.uprobe\ndef main({params}) -> int:\n    return (a6 ^ a7) & 1\n"
    listing = compile_programs([module(tmp_path, text).main], kind="asm").decode()
    assert offsets(listing, "main") == [48, 56]
    params += ", a8: u64"
    text = HEADER + f"@bpf.uprobe\ndef main({params}) -> int:\n    return a8 & 1\n"
    with pytest.raises(CompileError, match="only 8 arguments come in registers"):
        to_ir([module(tmp_path, text).main])
    text = HEADER + "@bpf.uprobe\ndef main(ctx: bpf.PtRegs) -> int:\n    return ctx.di & 1\n"
    with pytest.raises(CompileError, match="aarch64 has no register 'di'"):
        to_ir([module(tmp_path, text).main])


@pytest.mark.parametrize("params", ["a: u64", "ctx: bpf.PtRegs"])
def test_other_machines_are_refused(params: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts_args, "machine", lambda: "riscv64")
    name = "ctx.arg0" if "ctx" in params else "a"
    text = f"@bpf.uprobe\ndef main({params}) -> int:\n    return {name} & 1\n"
    with pytest.raises(CompileError, match="registers of riscv64 are not known to skep: x86_64 and aarch64"):
        to_ir([module(tmp_path, HEADER + text).main])
