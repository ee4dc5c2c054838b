"""What f-strings print: the kernel's text beside Python's own."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import skep
from skep.errors import CompileError
from skep.lang.compile import to_ir
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

ARGS = """
@bpf.struct
class Args:
    n: s32
    port: u16
    big: u64
    name: bpf.Text = bpf.char(16)
    out: bpf.Text = bpf.char(64)

"""
FORMATS = [
    "{n}", "{n:d}|{port:x}|{port:#x}", "{port:6}|{port:<6}|{port:06}", "{n:<5}|{n:5}|{n:06}", "{port:08X}",
    "{port:#06x}", "{port:#010x}|", "{port:<#8x}|", "{n:+} {port:+} {port:+6}|", "{n: d} {port: }",
    "{65:c}{66:c}", "{name}", "{name:10}|", "{name:<10}|", "{name:>10}|", "{name:s} {name!s}",
    "{name}abc", "{name}9",
    "{name}%", "{name}{'const'}", "{'const':>8}|{'x':<3}|", "{name}s{n}s{name}s", "{n=} {port=:x}",
    "100% {{}} {big}",
    "{n + 1} {-n} {n == -5:d} {big:#x}", "{name:3}|",
]  # fmt: skip


def _program(text: str) -> str:
    for name in ("n", "port", "big", "name"):
        text = text.replace(f"{{{name}", f"{{a.{name}").replace(f"-{name}", f"-a.{name}")
    return (
        f'{HEADER}{ARGS}@bpf.syscall\ndef main(a: Args) -> int:\n    return bpf.snprintf(a.out, f"{text}")\n'
    )


@pytest.mark.live
def test_texts_are_pythons(tmp_path: Path) -> None:
    """All formats, one program each, in one module."""
    bpf()
    text, count = HEADER + ARGS, len(FORMATS)
    for number, one in enumerate(FORMATS):
        text += _program(one).partition(ARGS)[2].replace("main", f"main{number}")
    name = "bash"
    with skep.load(module(tmp_path, text)) as obj:
        for number in range(count):
            for n, port, big in ((-5, 80, 1 << 63), (7, 65535, 0)):
                given = struct.pack("iHxxQ16s64x", n, port, big, name.encode())
                done = obj.programs[f"main{number}"].run(ctx=given)
                want = eval(f'f"{FORMATS[number]}"', {"n": n, "port": port, "big": big, "name": name})
                want = want.replace("n=", "a.n=").replace("port=", "a.port=")
                assert done.ctx[32:].rstrip(b"\0").decode() == want, FORMATS[number]
                assert done.retval == len(want) + 1


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("{n:o}", "a.n", "format 'o' is not compiled"),
        ("{n:,}", "a.n", "format ',' is not compiled"),
        ("{n:^8}", "a.n", "format '^8' is not compiled"),
        ("{name:x}", "a.name", "does not print a text"),
        ("{name!r}", "a.name", "!r and !a"),
    ],
)
def test_what_the_kernel_cannot_print_is_refused(text: str, at: str, says: str, tmp_path: Path) -> None:
    whole = _program(text)
    with pytest.raises(CompileError) as caught:
        to_ir([module(tmp_path, whole).main])
    error = caught.value
    assert error.source is not None and says in error.reason
    assert whole.splitlines()[error.line - 1][error.column : error.end_column] == at


def test_characters_that_the_kernel_refuses(tmp_path: Path) -> None:
    """bpf_bprintf_prepare gives up on them, so nothing would be printed."""
    for text in ("größer {n}", "\\x1b[1m{n}"):
        with pytest.raises(CompileError, match="plain ASCII"):
            to_ir([module(tmp_path, _program(text)).main])
