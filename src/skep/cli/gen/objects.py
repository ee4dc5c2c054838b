"""`skep gen object` and `min_core_btf`."""

from __future__ import annotations

from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words


def link(call: Call, words: Words) -> None:
    """Put objects together, as ``skep link`` does."""
    output = words.take("OUTPUT.o")
    inputs = words.rest()
    if not inputs:
        raise Usage("INPUT.o is missing")
    from skep.obj.static import static_link

    static_link(inputs, output)
    call.done()


def min_core_btf(call: Call, words: Words) -> None:
    source, output = words.take("INPUT.btf"), words.take("OUTPUT.btf")
    inputs = words.rest()
    if not inputs:
        raise Usage("OBJECT.o is missing")
    from skep.cli.gen.min_core import minimal

    data = minimal(source, inputs)
    from skep.cli.gen.save import save

    save(output, data)
    call.done()
