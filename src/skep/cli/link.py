"""`skep link`: several BPF objects made one."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the command. Errors are SkepError; wrong usage exits with 2."""
    parser = argparse.ArgumentParser(
        prog="skep link",
        description="Link BPF objects into one: sections are joined, globals resolved, types merged.",
    )
    parser.add_argument("objects", nargs="+", metavar="A.o", help="an object file")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.o", help="the object to write")
    args = parser.parse_args(argv)
    from skep.obj.static import static_link

    static_link(args.objects, args.output)
    return 0
