"""Chains of calls: the stack and the frames that functions need together."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

import skep
from skep.errors import CompileError, VerifierError
from skep.lang import frames
from skep.lang.compile import compile_programs
from skep.obj import read
from tests.lang.support import HEADER, module, seed
from tests.support.oracles import bpf


def chain(words: list[int], hook: str = "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:") -> str:
    """A program and functions that call each other, each with an array of so many words."""
    text = HEADER
    for number, count in enumerate(words):
        after = f" + f{number + 1}(i + 1)" if number + 1 < len(words) else ""
        text += f"""
@bpf.subprog
def f{number}(i: u64) -> u64:
    a = bpf.array(u64, {count})
    a[bpf.random() % {count}] = i
    return a[i % {count}]{after}
"""
    return f"{text}\n{hook}\n    return f0(bpf.random()) & 1\n"


def test_a_chain_that_needs_too_much(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        compile_programs([module(tmp_path, chain([20, 30, 25])).main])
    error = caught.value
    says = r"main\(\), f0\(\), f1\(\), f2\(\) need \d+ bytes of stack together, and a chain of calls has 512"
    assert re.fullmatch(says, error.reason), error.reason
    assert error.source is not None and "def f1" in error.source.splitlines()[error.line - 1]
    assert error.hint is not None and "PerCpuArray" in error.hint


def test_too_many_frames(tmp_path: Path) -> None:
    assert compile_programs([module(tmp_path, chain([1] * 7)).main])
    with pytest.raises(CompileError, match=r"are 9 calls deep, and kernels have 8 frames") as caught:
        compile_programs([module(tmp_path, chain([1] * 8)).main])
    assert caught.value.source is not None
    assert "def f7" in caught.value.source.splitlines()[caught.value.line - 1]


def test_programs_that_may_have_stacks_of_their_own(tmp_path: Path) -> None:
    """From Linux 6.13 on the kernel gives functions of tracing programs a stack each: it is asked."""
    text = chain([20, 30, 25], '@bpf.kprobe("do_exit")\ndef main(ctx: bpf.PtRegs) -> int:')
    assert compile_programs([module(tmp_path, text).main])


@pytest.mark.live
def test_the_kernel_adds_up_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random chains: those that are refused here are refused by the kernel when the check is left out."""
    bpf()
    rng = random.Random(seed())
    seen = set()
    for number in range(6):
        words = [rng.randint(*((4, 12) if number % 2 else (24, 32))) for _ in range(3)]
        made = module(tmp_path, chain(words), f"chain{number}")
        try:
            skep.load(read(compile_programs([made.main]))).close()
            seen.add("loaded")
        except CompileError as error:
            found = re.search(r"need (\d+) bytes", error.reason)
            assert found is not None, (seed(), words)
            with monkeypatch.context() as patch, pytest.raises(VerifierError) as caught:
                patch.setattr(frames, "check", lambda obj, sources: None)
                skep.load(read(compile_programs([made.main])))
            assert f"stack size of 4 calls is {found[1]}" in caught.value.log, (seed(), words)
            seen.add("refused")
    assert seen == {"loaded", "refused"}, seed()
