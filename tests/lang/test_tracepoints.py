"""``@bpf.tracepoint`` becomes the cheapest kind of program that gives what it takes, and says which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import skep
from skep import bpf as language
from skep.errors import CompileError, SkepError
from skep.lang.compile import compile_programs, sections, to_ir
from skep.lang.tracepoints import fields, signature, types_here
from skep.loading import programs_of
from skep.obj import read
from skep.uapi.tracepoint_changes import CHANGES
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

PROGRAMS = """
only: u32 = bpf.const(0)
forks: u64 = bpf.var(0)
named: u64 = bpf.var(0)
exits: u64 = bpf.var(0)
opens: u64 = bpf.var(0)

@bpf.tracepoint("sched:sched_process_fork")
def by_argument(parent: bpf.task_struct, child: bpf.task_struct) -> int:
    global forks
    if parent.tgid == only and child.real_parent.tgid == only:
        forks += 1
    return 0

@bpf.tracepoint("sched:sched_process_fork")
def by_field(parent_pid, child_pid) -> int:
    global named
    if parent_pid == only and child_pid != only:
        named += 1
    return 0

@bpf.tracepoint("sched:sched_process_fork", via="raw_tp")
def asked(child: bpf.task_struct) -> int:
    return 0

@bpf.tracepoint("sched:sched_process_exit")
def nothing() -> int:
    global exits
    if bpf.tid() == only:  # the process, not its threads
        exits += 1
    return 0

@bpf.tracepoint("sched:sched_process_exit", via="record", autoload=False)
def kept() -> int:
    return 0

@bpf.tracepoint("syscalls:sys_enter_getppid")
def call() -> int:
    global opens
    if bpf.pid() == only:
        opens += 1
    return 0
"""


@pytest.mark.live
def test_what_a_program_takes_decides(tmp_path: Path) -> None:
    bpf()
    made = module(tmp_path, HEADER + PROGRAMS)
    programs = programs_of(made)
    found = sections(programs)
    assert {name: section for name, (section, _) in found.items()} == {
        "by_argument": "tp_btf/sched_process_fork",
        "by_field": "tracepoint/sched/sched_process_fork",
        "asked": "raw_tp/sched_process_fork",
        "nothing": "raw_tp/sched_process_exit",
        "kept": "?tracepoint/sched/sched_process_exit",
        "call": "tracepoint/syscalls/sys_enter_getppid",
    }
    assert "a third cheaper" in found["by_field"][1] and "parent, child" in found["by_field"][1]
    assert all(why for _, why in found.values())
    path = tmp_path / "choice.bpf.o"
    path.write_bytes(compile_programs(programs))
    spec = read(str(path))
    assert {p.name: p.section for p in spec.programs.values()} == {n: s for n, (s, _) in found.items()}
    names = ["by_argument", "nothing"]  # neither needs tracefs
    with skep.load(str(path), programs=names, variables={"only": os.getpid()}) as obj:
        links = [getattr(obj, name).attach() for name in names]
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        assert obj.bss.forks == 1
        assert obj.bss.exits == 0  # the child's, not ours
        assert len(links) == 2


SWITCH = "sched:sched_switch"
WRONG = [
    (f'"{SWITCH}"', "prev_pid, next", "prev_pid", "prev_pid is a field of the record of sched_switch, and"),
    (f'"{SWITCH}", via="tp_btf"', "prev_pid", "prev_pid", "sched_switch has no argument 'prev_pid'"),
    ('"syscalls:sys_enter_openat", via="raw_tp"', "flags", "flags", "has no raw tracepoint of its own"),
    (f'"{SWITCH}"', "prev_pod", "prev_pod", "sched_switch has no field 'prev_pod'"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "params", "at", "says"), WRONG)
def test_refusals(target: str, params: str, at: str, says: str, tmp_path: Path) -> None:
    made = module(tmp_path, f"{HEADER}@bpf.tracepoint({target})\ndef main({params}) -> int:\n    return 0\n")
    with pytest.raises(CompileError) as caught:
        to_ir([made.main])
    error = caught.value
    assert error.source is not None and error.column is not None and error.hint
    line = error.source.splitlines()[error.line - 1]
    assert line[error.column : error.end_column] == at
    assert says in error.reason


@pytest.mark.live
def test_arguments_that_move_are_not_guessed(tmp_path: Path) -> None:
    """What other kernels have elsewhere is refused by name, and taken when asked for."""
    bpf()
    types = types_here()
    assert types is not None
    tried = 0
    for event, moved in CHANGES.items():
        own = set(signature(types, event)) - fields(types, event)
        for name in sorted(own & set(moved.split())):
            text = f'{HEADER}@bpf.tracepoint("any:{event}"{{}})\ndef main({name}) -> int:\n    return 0\n'
            made = module(tmp_path, text.format(""), f"{event}_{name}")
            with pytest.raises(CompileError, match="would take something else for it") as caught:
                to_ir([made.main])
            assert 'via="tp_btf"' in str(caught.value)
            to_ir([module(tmp_path, text.format(', via="tp_btf"'), f"{event}_{name}_asked").main])
            tried += 1
    assert tried


def test_ways_are_named() -> None:
    with pytest.raises(SkepError, match="via is one of auto, record, tp_btf, raw_tp, not 'perf'"):
        language.tracepoint("sched:sched_switch", via="perf")
    with pytest.raises(SkepError, match="unknown option 'via'"):
        language.tp_btf("sched_switch", via="record")  # type: ignore[call-overload]  # the mistake
