"""Objects to read: C compiled by the installed clang."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.oracles import tool

PROGRAM = """
#define SEC(x) __attribute__((section(x), used))
typedef unsigned int u32; typedef unsigned long long u64;
struct { u32 (*type)[1]; u32 *key; u64 *value; u32 (*max_entries)[16]; } counts SEC(".maps");
static void *(*lookup)(void *, const void *) = (void *) 1;
const volatile u32 limit = 7; u64 total; u64 started = 5; static u64 hidden = 9;
extern u32 config __attribute__((section(".ksyms"))) __attribute__((weak));
__attribute__((noinline)) int helper(u32 k) { u64 *v = lookup(&counts, &k); return v ? *v + limit : 0; }
static __attribute__((noinline)) int quiet(u32 k) { return helper(k) * 3 + hidden; }
SEC("socket") int first(void *c) { total += quiet(3); return started; }
SEC("xdp") int second(void *c) { hidden++; return helper(9) + (&config ? 1 : 2); }
char _license[] SEC("license") = "GPL";
"""


def compile_c(source: str | Path, out: Path, *flags: str, target: str = "bpf") -> Path:
    """Compile C text (or a file) to a relocatable object at ``out``."""
    clang = tool("clang-19", "clang")
    text = source.read_text() if isinstance(source, Path) else source
    done = subprocess.run(
        [clang, "-target", target, "-x", "c", "-c", "-", "-o", str(out), *(flags or ("-O2", "-g"))],
        input=text,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return out


def readelf(path: Path) -> dict[str, Any]:
    """What llvm-readelf says of the sections, symbols and relocations of ``path``."""
    out = subprocess.run(
        [
            tool("llvm-readelf-19", "llvm-readelf"),
            "--elf-output-style=JSON",
            "-h",
            "-S",
            "-s",
            "-r",
            str(path),
        ],
        check=True,
        capture_output=True,
    ).stdout
    answer: dict[str, Any] = json.loads(out)[0]
    return answer
