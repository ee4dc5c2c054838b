"""`skep prog run`: BPF_PROG_TEST_RUN."""

from __future__ import annotations

import sys

from skep.cli.gen.save import save
from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.hextext import table
from skep.cli.noun.words import Usage, Words, is_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: bytes of output a program may leave unless the command line says
_ROOM = 32 * 1024
_WORDS = ("data_in", "data_out", "data_size_out", "ctx_in", "ctx_out", "ctx_size_out", "repeat")


def run(call: Call, words: Words) -> None:
    kernel = call.kernel
    fd = objects.program(kernel, words)
    with objects.closing(kernel, fd):
        given: dict[str, str] = {}
        sizes: dict[str, int] = {}
        if not words:
            raise Usage("data_in FILE or ctx_in FILE is missing")
        while words:
            word = words.take("word")
            matches = [known for known in _WORDS if is_prefix(word, known)]
            if len(matches) != 1:
                raise Usage(f"{word!r} could be {' or '.join(matches or _WORDS)}")
            name = matches[0]
            if name in ("data_size_out", "ctx_size_out", "repeat"):
                sizes[name] = words.number(name)
            else:
                given[name] = words.take("FILE")
        if given.get("data_in") == given.get("ctx_in") == "-":
            raise Usage("standard input cannot be both data_in and ctx_in")
        data, ctx = _read(given.get("data_in")), _read(given.get("ctx_in"))
        repeat = sizes.get("repeat", 1)
        done = kernel.prog_test_run(
            fd,
            data or b"",
            ctx=ctx or b"",
            repeat=repeat,
            data_out=sizes.get("data_size_out") or (_ROOM if data is not None else 0),
        )
    row: dict[str, Any] = {}
    for name, present, answer in (("data_out", data, done.data), ("ctx_out", ctx, done.ctx)):
        target = given.get(name)
        if target is None or present is None:
            continue
        if target != "-":
            save(target, answer)
        elif call.json:
            row[name] = list(answer)
        else:
            call.write(table(answer))
    if call.json:
        call.emit(row | {"retval": done.retval, "duration": done.duration})
    else:
        average = " (average)" if repeat > 1 else ""
        call.write(f"Return value: {done.retval}, duration{average}: {done.duration}ns\n")


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as file:
        return file.read()
