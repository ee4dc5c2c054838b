"""Compiling the kernels with clang: to BPF, and to shared objects for the host."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from bench.jit.elf import program
from skep.isa import Insn

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "out" / "jit"
KERNELS = (
    "two", "log2", "prime", "checksum", "strcmp", "switch", "copy", "parse", "calls", "helper", "straight",
)  # fmt: skip


def straight(count: int = 1190) -> str:
    """C source of a kernel of about 3,000 instructions without a jump."""
    rng = random.Random(3)
    lines = ['#include "bench.h"', "u64 kernel(u8 *ctx, u64 len)", "{"]
    lines.append("\tu64 a = ctx[0], b = ctx[1], c = ctx[2], d = 4;")
    for _ in range(count):
        x, y, z = rng.sample("abcd", 3)
        lines.append(
            "\t"
            + rng.choice(
                (
                    f"{x} += {y} * {rng.randrange(3, 1 << 30)};",
                    f"{x} ^= {y} >> {rng.randrange(1, 63)};",
                    f"{x} = ({x} | {y}) - ({z} & {rng.randrange(1, 1 << 30)});",
                    f"{x} ^= *(u32 *)(ctx + {4 * rng.randrange(256)});",
                    f"{x} = {x} << {rng.randrange(1, 31)} ^ {y};",
                    f"*(u64 *)(ctx + {8 * rng.randrange(32)}) = {x};",
                )
            )
        )
    return "\n".join([*lines, "\treturn a ^ b ^ c ^ d;", "}", ""])


def sources() -> dict[str, Path]:
    OUT.mkdir(parents=True, exist_ok=True)
    generated = OUT / "straight.c"
    generated.write_text(straight())
    return {name: generated if name == "straight" else HERE / "kernels" / f"{name}.c" for name in KERNELS}


def bpf(clang: str, source: Path, cpu: str) -> list[Insn]:
    """The kernel's slots."""
    target = OUT / f"{source.stem}.{cpu}.bpf.o"
    flags = ["-target", "bpf", f"-mcpu={cpu}", "-O2", "-I", str(HERE / "kernels"), "-fno-builtin", "-w"]
    subprocess.run([clang, *flags, "-c", str(source), "-o", str(target)], check=True)
    return program(target, "kernel")


def host(clang: str, source: Path, extra: tuple[str, ...] = ()) -> Path:
    """A shared object with ``kernel`` (and, of the driver, ``drive`` and ``helper``)."""
    tag = "-".join([Path(clang).name, *extra]).replace("=", "-")
    target = OUT / f"{source.stem}.{tag}.so"
    driver = OUT / "driver.so"
    libraries = (
        [str(driver), "-Wl,-rpath," + str(OUT)] if source.stem != "driver" else ["-Wl,-soname,driver.so"]
    )
    if source.stem == "driver":
        target = driver
    flags = ["-O2", "-fPIC", "-shared", "-I", str(HERE / "kernels"), "-w", *extra]
    subprocess.run([clang, *flags, str(source), *libraries, "-o", str(target)], check=True)
    return target
