"""Objects linked and mapped without LLVM: right ones run, damaged ones are refused."""

from __future__ import annotations

import ctypes
import os
import random
import struct
from pathlib import Path

import pytest

from skep.errors import CompileError, LinkError, MissingDependency
from skep.llvm import available, compile_native, host, native, warm

SEED = int(os.environ.get("SKEP_SEED", "1"))

IR = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define void @fill(ptr %to, i64 %count) nounwind {
  call void @llvm.memset.p0.i64(ptr %to, i8 7, i64 %count, i1 false)
  ret void
}
define i64 @pick(i64 %x) nounwind {
  switch i64 %x, label %d [ i64 0, label %a
                            i64 1, label %b
                            i64 2, label %c
                            i64 3, label %e ]
a: ret i64 10
b: ret i64 24
c: ret i64 17
e: ret i64 1
d: ret i64 0
}
define i64 @twice(i64 %x) nounwind {
  %y = call i64 @pick(i64 %x)
  %z = add i64 %y, %y
  ret i64 %z
}
"""


@pytest.fixture(scope="module")
def obj() -> bytes:
    if not available():
        pytest.skip("needs llvmlite")
    return compile_native(IR, isolate=True)


def call(image: native.Image, name: str, *arguments: int) -> int:
    kinds = [ctypes.c_uint64] * len(arguments)
    result: int = ctypes.CFUNCTYPE(ctypes.c_uint64, *kinds)(image.address(name))(*arguments)
    return result


def test_code_tables_and_the_c_library(obj: bytes) -> None:
    with native.load(obj) as image:
        assert [call(image, "pick", n) for n in range(6)] == [10, 24, 17, 1, 0, 0]
        assert call(image, "twice", 1) == 48
        memory = ctypes.create_string_buffer(300)
        call(image, "fill", ctypes.addressof(memory), 200)
        assert memory.raw == b"\7" * 200 + bytes(100)
        assert image.symbol_size("pick") == len(image.code("pick")) > 0


def test_pages_are_never_writable_and_executable(obj: bytes) -> None:
    with native.load(obj) as image:
        address = image.address("pick")
        found = []
        for line in Path("/proc/self/maps").read_text().splitlines():
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            rights = line.split()[1]
            if low <= address < high:
                found.append(rights)
            if "skep" in line:
                assert not ("w" in rights and "x" in rights), line
        assert found == ["r-xp"]


def test_the_file_behind_the_pages_is_sealed(obj: bytes) -> None:
    with native.load(obj):
        lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:skep" in line]
        assert lines
        path = f"/proc/self/map_files/{lines[-1].split()[0]}"
        with pytest.raises(OSError, match=r"not permitted|denied"), open(path, "r+b") as file:
            file.write(b"\xcc")


def test_closing(obj: bytes) -> None:
    image = native.load(obj)
    image.close()
    image.close()
    with pytest.raises(LinkError, match="closed"):
        image.address("pick")


def test_symbols_from_outside() -> None:
    if not available():
        pytest.skip("needs llvmlite")
    code = compile_native(
        "declare i64 @other(i64)\ndefine i64 @f(i64 %x) nounwind {\n"
        "%y = call i64 @other(i64 %x)\n%z = add i64 %y, 1\nret i64 %z }"
    )
    with pytest.raises(LinkError, match="'other'"):
        native.load(code)
    callback = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(lambda x: x * 3)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    with native.load(code, symbols={"other": address}) as image:
        assert call(image, "f", 5) == 16
    with native.load(code, symbols={"other": address}) as image, pytest.raises(LinkError, match="'g'"):
        image.address("g")


def test_writable_data_is_refused() -> None:
    if not available():
        pytest.skip("needs llvmlite")
    code = compile_native("@x = global i64 5\ndefine ptr @f() { ret ptr @x }")
    with pytest.raises(LinkError, match="writable data"):
        native.load(code)


def test_every_truncation_is_refused_or_harmless(obj: bytes) -> None:
    refused = 0
    for length in range(0, len(obj), 7):
        try:
            native.load(obj[:length]).close()
        except LinkError:
            refused += 1
    assert refused == len(range(0, len(obj), 7))  # the section table is at the end


def test_damaged_objects_never_crash_the_loader(obj: bytes) -> None:
    """Wrong bytes in headers, symbols and relocations; nothing of the result is called."""
    rng = random.Random(SEED)
    shoff = struct.unpack_from("<Q", obj, 40)[0]
    tables = [range(64), range(shoff, len(obj))]
    count = struct.unpack_from("<H", obj, 60)[0]
    for index in range(count):
        _, kind, _, _, offset, size = struct.unpack_from("<IIQQQQ", obj, shoff + 64 * index)
        if kind in (2, 3, 4):
            tables.append(range(offset, offset + size))
    places = [at for table in tables for at in table]
    loaded = 0
    for _ in range(3000):
        damaged = bytearray(obj)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.choice(places)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            native.load(bytes(damaged)).close()
            loaded += 1
        except LinkError:
            pass
    assert 0 < loaded < 3000, f"SKEP_SEED={SEED}"


def test_random_bytes() -> None:
    rng = random.Random(SEED)
    for length in (0, 1, 63, 64, 1000):
        for prefix in (b"", b"\x7fELF", b"\x7fELF\x02\x01\x01"):
            with pytest.raises(LinkError):
                native.load(prefix + rng.randbytes(length))


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("text", ["garbage", "define i64 @f() { ret i64 %x }", "%", "define i64 @f() {"])
def test_text_that_llvm_refuses(text: str, isolate: bool) -> None:
    if not available():
        pytest.skip("needs llvmlite")
    with pytest.raises(CompileError, match="LLVM refuses"):
        compile_native(text, isolate=isolate)


def test_a_compiler_that_dies_is_an_error() -> None:
    """Inline assembly that this LLVM cannot read makes it abort; only the child goes down."""
    if not available():
        pytest.skip("needs llvmlite")
    with pytest.raises(CompileError, match=r"killed by signal 6.*LLVM ERROR"):
        compile_native('define i64 @f() { %x = call i64 asm "bogus $0", "=r"()\n ret i64 %x }', isolate=True)


def test_a_compiler_that_takes_too_long() -> None:
    if not available():
        pytest.skip("needs llvmlite")
    with pytest.raises(CompileError, match=r"more than 0\.001 seconds"):
        compile_native(IR, isolate=True, timeout=0.001)


def test_levels(obj: bytes) -> None:
    for level in ("least", "quick", "large", "basic", "O1", "O2"):
        with native.load(compile_native(IR, level=level)) as image:
            assert call(image, "twice", 2) == 34
    with pytest.raises(CompileError, match="no optimisation level 'O9'"):
        compile_native(IR, level="O9")


def test_without_llvmlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "llvmlite_home", lambda: None)
    for isolate in (True, False):
        with pytest.raises(MissingDependency, match=r"skep\[llvm\]"):
            compile_native(IR, isolate=isolate)
    with pytest.raises(MissingDependency):
        warm()
    assert not available()


def test_finished_code_is_placed_as_it_is() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the bytes are x86-64 code")
    code = bytes.fromhex("488d07c3 cccc 488d0437c3")  # lea rax, [rdi]; ret; lea rax, [rdi + rsi]; ret
    with native.place(code, {"same": 0, "sum": 6}) as image:
        assert [call(image, "same", 7), call(image, "sum", 7, 35)] == [7, 42]
        assert image.code("sum") == code[6:] and image.symbol_size("same") == 6
    for outside in (-1, len(code)):
        with pytest.raises(LinkError, match="outside"):
            native.place(code, {"same": outside})
