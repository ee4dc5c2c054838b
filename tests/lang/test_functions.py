"""Generated functions compute what CPython computes: as native code, and in the kernel."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import skep
from skep.errors import CompileError
from skep.lang.hostfn import to_host_ir
from skep.llvm import compile_native, native
from tests.lang.functions import TYPES, Generator, argument, python_namespace, python_result
from tests.lang.shapes import DECLARED, Shapes, namespace
from tests.lang.support import HEADER, module, seed
from tests.support.oracles import bpf

COUNT = 150
INPUTS = 40


def generated(folder: Path, start: int, count: int) -> tuple[ModuleType, list[str], dict[str, Any]]:
    """A module of functions that the compiler accepts, their names, and the same for CPython."""
    sources = {}
    for number in range(start, start + count):
        name = f"f{number}"
        source = Generator(random.Random(f"{seed()}-{number}")).function(name)
        alone = module(folder, HEADER + source + "\n", name)
        try:
            to_host_ir([getattr(alone, name)])
        except CompileError as error:
            # A sign that is not known, a constant divisor of zero: refusals that the language documents.
            assert "63 bits" in error.reason or "division by zero" in error.reason, error
            continue
        sources[name] = source
    names = python_namespace()
    for source in sources.values():
        exec(compile(source, "generated", "exec"), names)
    made = module(folder, HEADER + "\n\n".join(sources.values()) + "\n", f"generated{start}")
    for name, source in sources.items():
        names[f"{name}.source"] = source
        names[f"{name}.plain"] = getattr(made, name)
    return made, list(sources), names


def kinds_of(fn: Any) -> list[Any]:
    return [TYPES[repr(kind)] for name, kind in fn.__annotations__.items() if name != "return"]


def test_native_code_agrees_with_cpython(tmp_path: Path) -> None:
    made, good, names = generated(tmp_path, 0, COUNT)
    assert len(good) > COUNT // 3, "the generator makes too much that is refused"
    image = native.load(compile_native(to_host_ir([getattr(made, name) for name in good]), level="O1"))
    compared = 0
    for name in good:
        kinds = kinds_of(getattr(made, name))
        call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(kinds))(image.address(name))
        rng = random.Random(f"{seed()}-{name}")
        for _ in range(INPUTS):
            args = [argument(rng, kind) for kind in kinds]
            want = python_result(names[name], args)
            if want is None:
                continue
            got = call(*(ctypes.c_int64(a & (1 << 64) - 1).value for a in args))
            assert got == want, f"seed {seed()}: {name}{tuple(args)}"
            compared += 1
    assert compared > len(good) * INPUTS // 3


PROGRAM = """
arguments_{name} = bpf.Array(s64, {room})
results_{name} = bpf.Array(s64, {count})

@bpf.xdp
def run_{name}(ctx: bpf.Xdp) -> int:
    for i in range({count}):
        results_{name}[i] = {name}({given})
    return bpf.XDP_PASS
"""


SHAPES = 40


def _shapes(folder: Path, start: int, count: int) -> dict[str, str]:
    """Functions over structs and arrays that the compiler accepts, by name."""
    sources = {}
    for name in [f"f{number}" for number in range(start, start + count)]:
        source = Shapes(random.Random(f"{seed()}-{name}")).function(name)
        alone = module(folder, HEADER + DECLARED + source + "\n", name)
        try:
            to_host_ir([getattr(alone, name)])
        except CompileError as error:
            assert "63 bits" in error.reason or "more than 64 bits" in error.reason, error
            continue
        sources[name] = source
    return sources


def _in_python(source: str) -> dict[str, Any]:
    names = namespace()
    text = "from __future__ import annotations\ndef " + DECLARED.split("def ", 1)[1] + source
    exec(compile(text, "generated", "exec"), names)
    return names


def test_structs_and_arrays_are_cpythons(tmp_path: Path) -> None:
    sources = _shapes(tmp_path, 0, SHAPES)
    assert len(sources) > SHAPES * 3 // 4
    made = module(tmp_path, HEADER + DECLARED + "\n\n".join(sources.values()) + "\n", "shapes")
    image = native.load(compile_native(to_host_ir([getattr(made, name) for name in sources]), level="O1"))
    compared = 0
    for name, source in sources.items():
        names = _in_python(source)
        kinds = kinds_of(getattr(made, name))
        call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(kinds))(image.address(name))
        rng = random.Random(f"{seed()}-{name}")
        for _ in range(10):
            args = [argument(rng, kind) for kind in kinds]
            want = python_result(names[name], args)
            if want is None:
                continue
            got = call(*(ctypes.c_int64(a & (1 << 64) - 1).value for a in args))
            assert got == want, f"seed {seed()}: {name}{tuple(args)}"
            compared += 1
    assert compared > len(sources) * 5


@pytest.mark.live
def test_structs_and_arrays_in_the_kernel(tmp_path: Path) -> None:
    """Each function is an XDP program of its own: long loops take the verifier long."""
    bpf()
    run = 0
    for name, source in _shapes(tmp_path, 2000, 12).items():
        if "range(500)" in source or "range(2000)" in source:
            continue
        names = _in_python(source)
        text = HEADER + DECLARED + source + "\n"
        alone = module(tmp_path, text, name)
        kinds = kinds_of(getattr(alone, name))
        given = ", ".join(f"{kind!r}(given[{i}])" for i, kind in enumerate(kinds))
        text += "given = bpf.Array(s64, 4)\nresult: s64 = bpf.var(0)\n\n"
        text += "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    global result\n"
        text += f"    result = {name}({given})\n    return 2\n"
        made = module(tmp_path, text, f"kernel_{name}")
        rng = random.Random(f"{seed()}-{name}")
        with skep.load(made) as obj:
            for _ in range(8):
                args = [argument(rng, kind) for kind in kinds]
                want = python_result(names[name], args)
                if want is None:
                    continue
                for i, value in enumerate(args):
                    obj.given[i] = value
                assert obj.main.run(bytes(64)).retval == 2
                assert obj.bss.result == want, f"seed {seed()}: {name}{tuple(args)}"
                run += 1
    assert run > 20


@pytest.mark.live
def test_the_kernel_agrees_with_cpython(tmp_path: Path) -> None:
    """The same functions inlined into XDP programs, all inputs in one run of each."""
    bpf()
    _, good, names = generated(tmp_path, 1000, 40)
    good = good[:10]
    text, inputs = HEADER, {}
    for name in good:
        kinds = kinds_of(names[f"{name}.plain"])
        rng = random.Random(f"{seed()}-{name}")
        rows = [[argument(rng, kind) for kind in kinds] for _ in range(16)]
        rows = [row for row in rows if python_result(names[name], row) is not None]
        if not rows:
            continue
        inputs[name] = rows
        width = len(kinds)
        given = ", ".join(f"{kind!r}(arguments_{name}[i * {width} + {i}])" for i, kind in enumerate(kinds))
        text += names[f"{name}.source"] + "\n"
        text += PROGRAM.format(name=name, room=len(rows) * width, count=len(rows), given=given)
    made = module(tmp_path, text, "kernel")
    with skep.load(made) as obj:
        for name, rows in inputs.items():
            flat = [value for row in rows for value in row]
            for i, value in enumerate(flat):
                obj.maps[f"arguments_{name}"][i] = value - (1 << 64) if value >> 63 == 1 else value
            obj.programs[f"run_{name}"].run(bytes(64))
            got = [obj.maps[f"results_{name}"][i] for i in range(len(rows))]
            want = [python_result(names[name], row) for row in rows]
            assert got == want, f"seed {seed()}: {name}: {rows}"
