"""`skep gen`: code and objects made from an object."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


VERBS = {
    "object": "skep.cli.gen.objects:link",
    "skeleton": "skep.cli.gen.skeleton:skeleton",
    "subskeleton": "skep.cli.gen.subskeleton:subskeleton",
    "min_core_btf": "skep.cli.gen.objects:min_core_btf",
}

USAGE = """\
usage: skep gen object OUTPUT.o INPUT.o [INPUT.o …]
       skep gen { skeleton | subskeleton } FILE.o [name NAME]
       skep gen min_core_btf INPUT.btf OUTPUT.btf OBJECT.o [OBJECT.o …]

skeleton: a Python module with the object inside, its maps, programs and global variables typed.
subskeleton: the same for an object that is linked into a larger one (`gen object`), without the object.
min_core_btf: the part of a kernel's BTF that the objects' CO-RE relocations look at.
"""


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("gen", VERBS, USAGE, argv)
