"""Every helper of Linux 6.18 called from Python, and loaded on the live kernel where that has it for us."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import skep
from skep.bpf.programs import Program
from skep.lang.compile import compile_programs, to_ir
from skep.uapi.helpers import helpers
from tests.lang.helper_calls import CASES, PRELUDE
from tests.lang.support import HEADER, module
from tests.lang.test_kernel_functions import _CONGESTION, _program
from tests.support.oracles import bpf

#: what this machine's kernel forbids (lockdown), or was built without
_NOT_HERE = {"probe_write_user", "override_return", "rc_repeat", "rc_keydown", "rc_pointer_rel"}
_LOCKED = ("lsm", "fentry", "fexit")


def test_every_helper_has_a_program() -> None:
    assert set(CASES) == {helper.name for helper in helpers().values()}


def _text() -> str:
    text = HEADER + "from skep.net import iphdr, ipv6hdr, tcphdr\n" + PRELUDE
    for name, case in CASES.items():
        text += _program(name, case, f"h_{name}")
    for member, (params, result, body) in list(_CONGESTION.items())[:2]:
        hook = f'@bpf.struct_ops("tcp_congestion_ops:{member}")'
        text += f"\n{hook}\ndef {member}_({params}) -> {result}:\n    {body}\n"
    given = ", ".join(f"{member}={member}_" for member in list(_CONGESTION)[:2])
    given += ', cong_avoid=h_tcp_send_ack, name=b"skep_h"'
    return f'{text}\ncc = bpf.StructOps("tcp_congestion_ops", {given})\n'


@pytest.mark.live
def test_all_load(tmp_path: Path) -> None:
    bpf()
    made = module(tmp_path, _text())
    programs = {p.__name__.removeprefix("h_"): p for p in vars(made).values() if isinstance(p, Program)}
    numbers = {helper.name: number for number, helper in helpers().items()}
    functions = dict(re.findall(r"^define \w+ @(\w+)\((.*?)^}", to_ir(list(programs.values())), re.M | re.S))
    for name in CASES:  # each calls its own
        called = re.findall(r"inttoptr \(i64 (\d+) to ptr\)", functions[f"h_{name}"])
        assert str(numbers[name]) in called, name
    here = [p for name, p in programs.items() if name not in _NOT_HERE and not p.section.startswith(_LOCKED)]
    path = tmp_path / "helpers.bpf.o"
    path.write_bytes(compile_programs(here))
    with skep.load(str(path)) as obj:
        assert len(obj.programs) == len(here)
