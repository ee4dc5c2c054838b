"""`skep feature probe macros` and `unprivileged` against bpftool's."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.oracles import bpf, tool

pytestmark = pytest.mark.live
#: what bpftool 7.1 says wrongly or does not know: tracing programs under lockdown, what is newer than it
OTHERWISE = re.compile(
    r"(TRACING|EXT|LSM|NETFILTER)_PROG_TYPE|(CGRP_STORAGE|ARENA|INSN_ARRAY|RHASH)_MAP|V4_ISA"
)


def skep(*words: str) -> str:
    command = [sys.executable, "-m", "skep", "feature", "probe", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_macros() -> None:
    bpf()
    ours = skep("macros", "prefix", "MY_").splitlines()
    done = subprocess.run(
        [tool("bpftool"), "feature", "probe", "macros", "prefix", "MY_"], capture_output=True, text=True
    )
    theirs = done.stdout.splitlines()
    # bpftool 7.1 takes every helper for available on Linux 6.12 and later: only the names are compared.
    helpers = [re.sub(r" [01]$", "", line) for line in theirs if "__HELPER_bpf_" in line]
    mine = {re.sub(r" [01]$", "", line) for line in ours if "__HELPER_bpf_" in line}
    assert len(helpers) > 5000 and set(helpers) <= mine

    def rest(lines: list[str]) -> list[str]:
        return [line for line in lines if "__HELPER_bpf_" not in line and not OTHERWISE.search(line)]

    assert rest(ours) == rest(theirs)
    have = "#define MY_BPF__PROG_TYPE_xdp__HELPER_bpf_redirect_map 1"
    assert have in ours and have.replace("xdp", "kprobe").replace(" 1", " 0") in ours


def test_macros_compile() -> None:
    bpf()
    text = skep("macros") + "#if !HAVE_PROG_TYPE_HELPER(xdp, bpf_redirect_map)\n#error no\n#endif\n"
    command = [tool("clang-19", "clang", "gcc"), "-x", "c", "-fsyntax-only", "-Werror", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_capabilities() -> None:
    """As for a user who may do nothing, whoever asks."""
    bpf()
    if os.geteuid():
        pytest.skip("needs root, whose capabilities are dropped")
    text = skep("unprivileged")
    assert "eBPF program_type kprobe is NOT available" in text
    assert "eBPF map_type lpm_trie is NOT available" in text


@pytest.mark.parametrize(
    "words", [("-j", "probe", "macros"), ("probe", "prefix", "X"), ("probe", "macros", "x")]
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", "skep", "feature", *words], capture_output=True, text=True)
    assert done.returncode == 2
