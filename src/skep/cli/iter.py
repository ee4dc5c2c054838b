"""`skep iter`: an iterator program pinned, so that reading the file runs it."""

from __future__ import annotations

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


VERBS = {"pin": "skep.cli.iter:pin"}

USAGE = """\
usage: skep iter pin OBJ PATH [map MAP]

       MAP := { id ID | pinned FILE | name NAME }
       The object's first iterator program is attached; reading PATH runs it.
"""


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("iter", VERBS, USAGE, argv)


def pin(call: Call, words: Words) -> None:
    kernel = call.kernel
    file, path = words.take("OBJ"), words.take("PATH")
    target: int | None = None
    if words:
        if not words.accept("map"):
            raise Usage(f"expected map, got {words.peek()!r}")
        target = objects.map_(kernel, words)
    words.end()
    from skep.cli.noun.loading import load_object, pin_link

    with load_object(call, file) as loaded:
        program = loaded.first("ITER")
        options = {} if target is None else {"map": target}
        with program.attach(**options) as link:
            pin_link(call, link, path)
    if target is not None:
        kernel.close(target)
    call.done()
