"""Every kernel function that programs of Linux 6.18 may call, called, loaded on the live kernel."""

from __future__ import annotations

import os
import random
import subprocess
import textwrap
from pathlib import Path

import pytest

import skep
from skep.bpf.programs import Program
from skep.btf import types as t
from skep.btf.read import Btf
from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.linux.netlink import in_netns
from skep.loading import programs_of
from skep.uapi.enums import ProgType
from skep.verifier.facts import kfuncs
from tests.lang.kernel_functions import ALIKE, ARENA, CASES, DEVICE, ELSEWHERE, PRELUDE, UNCALLABLE, Case
from tests.lang.support import HEADER, module, seed
from tests.support.oracles import bpf, netns, tool

_CONGESTION = {
    "ssthresh": ("sk: bpf.sock", "int", "return 5"),
    "undo_cwnd": ("sk: bpf.sock", "int", "return 5"),
    "cong_avoid": ("sk: bpf.sock, ack: u32, acked: u32", "None", "pass"),
}


def _callable() -> list[str]:
    found = kfuncs._table()
    return [
        n for n in found if any((since := kfuncs.first(n, int(p))) and since <= (6, 18) for p in ProgType)
    ]


def _here() -> list[str]:
    """Those of the table that this kernel has."""
    btf = Btf.kernel()
    return [name for name in CASES if btf.find(name, t.FUNC) is not None]


def test_every_function_has_a_program() -> None:
    assert set(CASES) | set(UNCALLABLE) <= set(_callable())
    missing = set(_callable()) - set(CASES) - set(UNCALLABLE) - ALIKE
    assert not [name for name in missing if not name.startswith(ELSEWHERE)]


def _program(name: str, case: Case, symbol: str, hook: str = "") -> str:
    end = "" if case.result == "None" or case.body.splitlines()[-1].startswith("return") else "\n    return 0"
    body = textwrap.indent(case.body, "    ")
    return f"\n@bpf.{hook or case.hook}\ndef {symbol}({case.params}) -> {case.result}:\n{body}{end}\n"


@pytest.mark.live
def test_all_load(tmp_path: Path) -> None:
    bpf()
    # one of those that a program calls together
    names = list({CASES[name]: name for name in _here() if not CASES[name].member}.values())
    text = HEADER + PRELUDE + ARENA
    locked = []
    names = [name for name in names if not name.startswith(DEVICE)]
    for name in names:
        if CASES[name].hook.startswith("lsm"):
            locked.append(name)  # lockdown forbids these here; they compile
        text += _program(name, CASES[name], f"f_{name}")
    made = module(tmp_path, text)
    programs = [p for p in vars(made).values() if isinstance(p, Program)]
    assert len(programs) == len(names)
    to_ir([p for p in programs if p.__name__.removeprefix("f_") in locked])
    path = tmp_path / "all.bpf.o"
    path.write_bytes(compile_programs([p for p in programs if p.__name__.removeprefix("f_") not in locked]))
    with skep.load(str(path)) as obj:
        assert len(obj.programs) == len(names) - len(locked)


@pytest.mark.live
def test_functions_of_a_device(tmp_path: Path) -> None:
    """What the driver knows of a packet: programs loaded for one interface, run on it."""
    bpf()
    netns()
    names = [name for name in _here() if name.startswith(DEVICE)]
    text = HEADER + PRELUDE + "".join(_program(name, CASES[name], f"f_{name}") for name in names)
    path = tmp_path / "device.bpf.o"
    path.write_bytes(compile_programs(programs_of(module(tmp_path, text))))
    space = f"skeplang{os.getpid()}"

    def ip(*words: str) -> None:
        subprocess.run([tool("ip"), *words], check=True, capture_output=True)

    ip("netns", "add", space)
    try:
        ip("-n", space, "link", "add", "va", "type", "veth", "peer", "name", "vb")
        with in_netns(space), skep.load(str(path), device="va") as obj:
            assert len(obj.programs) == len(names)
            for program in obj.programs.values():
                program.attach("va", mode="native").close()
    finally:
        ip("netns", "del", space)


@pytest.mark.live
def test_congestion_control(tmp_path: Path) -> None:
    bpf()
    text = HEADER + PRELUDE
    for member, (params, result, body) in _CONGESTION.items():
        hook = f'@bpf.struct_ops("tcp_congestion_ops:{member}")'
        text += f"\n{hook}\ndef {member}_({params}) -> {result}:\n    {body}\n"
    names = [name for name in _here() if CASES[name].member]
    for i, name in enumerate(names):
        case = CASES[name]
        members = {member: f"{member}_" for member in _CONGESTION} | {case.member: f"f_{name}"}
        given = ", ".join(f"{member}={program}" for member, program in members.items())
        text += _program(name, case, f"f_{name}")
        text += f'\ncc{i} = bpf.StructOps("tcp_congestion_ops", {given}, name=b"skep_{i}")\n'
    path = tmp_path / "cc.bpf.o"
    path.write_bytes(compile_programs(programs_of(module(tmp_path, text))))
    with skep.load(str(path)) as obj:
        assert len(obj.programs) == len(names) + len(_CONGESTION)


#: types -> a decorator for programs of it, and their parameters
_HOOKS = {
    ProgType.SOCKET_FILTER: "socket_filter",
    ProgType.KPROBE: 'kprobe("do_exit")',
    ProgType.SCHED_CLS: "tc",
    ProgType.SCHED_ACT: "action",
    ProgType.TRACEPOINT: 'tracepoint("sched:sched_switch")',
    ProgType.XDP: "xdp",
    ProgType.PERF_EVENT: "perf_event",
    ProgType.CGROUP_SKB: "cgroup_skb_ingress",
    ProgType.CGROUP_SOCK: "cgroup_sock_create",
    ProgType.LWT_XMIT: "lwt_xmit",
    ProgType.SOCK_OPS: "sockops",
    ProgType.SK_SKB: "sk_skb_stream_verdict",
    ProgType.CGROUP_DEVICE: "cgroup_dev",
    ProgType.SK_MSG: "sk_msg",
    ProgType.RAW_TRACEPOINT: 'raw_tp("sched_switch")',
    ProgType.CGROUP_SOCK_ADDR: "cgroup_connect4",
    ProgType.SK_REUSEPORT: "sk_reuseport",
    ProgType.FLOW_DISSECTOR: "flow_dissector",
    ProgType.CGROUP_SYSCTL: "cgroup_sysctl",
    ProgType.CGROUP_SOCKOPT: "cgroup_getsockopt",
    ProgType.TRACING: 'tp_btf("sched_switch")',
    ProgType.SK_LOOKUP: "sk_lookup",
    ProgType.SYSCALL: "syscall",
    ProgType.NETFILTER: "netfilter",
}


def test_types_that_may_not(tmp_path: Path) -> None:
    """Refused where the kernel's sets do not have a function, compiled where they do: drawn pairs."""
    drawn = random.Random(seed())
    names = [name for name in _here() if CASES[name].hook in ("tc", "syscall")]
    allowed = refused = 0
    for i in range(120):
        name, (kind, hook) = drawn.choice(names), drawn.choice(list(_HOOKS.items()))
        case = CASES[name]._replace(params="" if CASES[name].hook == "syscall" else "ctx")
        if "ctx" in case.body or "lock:" in case.body or "spin_lock" in case.body:
            continue
        text = HEADER + PRELUDE + (ARENA if "arena" in case.body else "") + _program(name, case, "main", hook)
        if "\n    return 0" in text[-20:] and kind.name.startswith("CGROUP"):
            text = text[: -len("return 0\n")] + "return 1\n"
        made = module(tmp_path, text, f"drawn{i}")
        where = f"seed {seed()}: {name} in {hook}"
        if kfuncs.first(name, int(kind)) is None:
            with pytest.raises(CompileError, match=r"programs (cannot call|cannot hold)") as caught:
                to_ir([made.main])
            assert caught.value.hint, where
            refused += 1
            continue
        try:
            to_ir([made.main])
            allowed += 1
        except CompileError as error:  # what the function needs beside itself
            assert "may sleep" in error.reason or "cannot call" in error.reason, f"{where}: {error}"
    assert allowed > 20 and refused > 10
