"""``show``: the objects that are named, or all of a kind."""

from __future__ import annotations

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def show(
    call: Call, words: Words, kind: str, chosen: Callable[[], Sequence[int]], one: Callable[[int], Any]
) -> None:
    """Show what ``chosen`` takes from the words (descriptors), or without words every object of ``kind``.

    ``one`` makes an object's row of its descriptor: text, or data for JSON. A single object that was named
    is no list in JSON, as bpftool has it.
    """
    kernel = call.kernel
    rows: list[Any] = []
    named = bool(words)
    if named:
        fds = chosen()
        with objects.closing(kernel, *fds):
            words.end()
            rows += map(one, fds)
    else:
        for id in objects.ids(kernel, kind):
            fd = objects.opened(kernel, kind, id)
            if fd is not None:  # it may be gone meanwhile
                with objects.closing(kernel, fd):
                    rows.append(one(fd))
    if call.json:
        call.emit(rows[0] if named and len(rows) == 1 else rows)
    else:
        call.write("".join(rows))
