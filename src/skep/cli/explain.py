"""`skep explain`: why a kernel's verifier refused a program, from its log."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from skep.errors import FormatError, LinkError, SkepError

if TYPE_CHECKING:
    from skep.explain import Location, Trail
    from skep.obj.spec import ObjectSpec

_PIECE = 1 << 20


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 explained, 1 there is no refusal in the log or it cannot be read, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="skep explain",
        description="Explain a verifier's log: what is wrong, where, why, what to write instead.",
    )
    parser.add_argument(
        "log", metavar="LOGFILE", help="the log, with whatever a loader printed around it; - is stdin"
    )
    parser.add_argument(
        "object", metavar="OBJECT", nargs="?", help="the object file: gives source lines and columns"
    )
    parser.add_argument(
        "-p", "--program", metavar="NAME", help="the program of OBJECT (else the one that fits)"
    )
    parser.add_argument("-j", "--json", action="store_true", help="everything, as JSON")
    options = parser.parse_intermixed_args(argv)
    from skep.explain import explain, parse

    text = _read(options.log)
    locate = _locator(options.object, options.program, parse(text)) if options.object else None
    explanation = explain(text, locate)
    if explanation is None:
        trail = parse(text)
        said = "the log tells of no refusal" if trail.accepted else "this is no verifier log"
        raise FormatError(f"{said}; pass what the loader printed", path=_name(options.log))
    if options.json:
        import json

        print(json.dumps(explanation.as_json(), indent=2, ensure_ascii=False))
        return 0
    print(explanation.on_terminal(sys.stdout))
    return 0


def _name(path: str) -> str:
    return "standard input" if path == "-" else path


def _read(path: str) -> str:
    """The end of a log, as much of it as is looked at; what is no text is refused by what it is."""
    name = _name(path)
    try:
        head, data = _ends(sys.stdin.buffer) if path == "-" else _opened(path)
    except OSError as error:
        raise FormatError(error.strerror or str(error), path=name) from None
    if head.startswith(b"\x7fELF"):
        raise FormatError("this is an object, not a log; `skep check` verifies objects", path=name)
    if head.startswith((b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")):
        raise FormatError("this is compressed; unpack it, as in `zcat LOGFILE | skep explain -`", path=name)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # what a Windows shell writes
        order = "utf-16-le" if head.startswith(b"\xff\xfe") else "utf-16-be"
        return data[len(data) % 2 :].decode(order, "replace").removeprefix("\ufeff")
    data = data.rstrip(b"\0")  # a buffer that was written down whole
    if not data.strip():
        raise FormatError("the log is empty; load with a log level of 1 or more", path=name)
    if b"\0" in data[:4096]:
        raise FormatError("this is no text; pass the log that the loader printed", path=name)
    return data.decode("utf-8", "replace")


def _opened(path: str) -> tuple[bytes, bytes]:
    with open(path, "rb") as file:
        return _ends(file)


def _ends(file: BinaryIO) -> tuple[bytes, bytes]:
    """The first bytes, and the end (what an explanation is made from, in any encoding)."""
    from collections import deque

    from skep.explain.klog import TAIL

    keep = 4 * TAIL
    head = file.read(_PIECE)
    if len(head) == _PIECE and file.seekable():
        file.seek(max(_PIECE, file.seek(0, 2) - keep))
        return head[:16], (head if file.tell() == _PIECE else b"") + file.read()
    pieces: deque[bytes] = deque([head])
    held = len(head)
    while piece := file.read(_PIECE):
        pieces.append(piece)
        held += len(piece)
        while held - len(pieces[0]) >= keep:
            held -= len(pieces.popleft())
    return head[:16], b"".join(pieces)


def _locator(path: str, name: str | None, trail: Trail) -> Callable[[int], Location | None]:
    from skep.obj import read

    spec = read(path)
    names = list(spec.programs)
    if name is not None and name not in spec.programs:
        raise LinkError(f"{path}: no program {name!r}; there are: {', '.join(names) or 'none'}")
    if name is None and trail.function in spec.programs:
        name = trail.function
    steps = {step.pc: step.code for step in trail.path()}
    for candidate in [name] if name is not None else names:
        try:
            found = _lines(spec, candidate, steps if name is None else {})
        except SkepError:
            if name is not None:
                raise
            continue
        if found is not None:
            return found
    raise LinkError(f"{path}: no program fits the log; name it with --program ({', '.join(names)})")


def _lines(spec: ObjectSpec, name: str, steps: dict[int, int]) -> Callable[[int], Location | None] | None:
    """Where each slot of a program comes from; None when the log's instructions are not this program's."""
    from bisect import bisect_right

    from skep.explain import Location
    from skep.obj import link_program

    linked = link_program(spec, name)
    code = linked.code
    if any(pc * 8 >= len(code) or code[pc * 8] != opcode for pc, opcode in steps.items()):
        return None
    btf, rows = spec.btf, linked.line_infos
    starts = [row[0] for row in rows]

    def locate(pc: int) -> Location | None:
        at = bisect_right(starts, pc) - 1
        if at < 0 or btf is None:
            return None
        _, file, text, place = rows[at]
        where = Location(btf.strings[file], place >> 10, place & 0x3FF, btf.strings[text])
        return where if where.text or where.line else None

    return locate
