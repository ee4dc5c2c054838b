"""python -m tests.kernels: list | available | get PREFIX... | run PREFIX COMMAND..."""

from __future__ import annotations

import sys

from tests.kernels import images
from tests.kernels.emulate import run


def main(words: list[str]) -> int:
    match words:
        case ["list"]:
            print(*sorted(p.name for p in (images.cache() / "k").glob("*")), sep="\n")
        case ["available"]:
            print(*images.available(), sep="\n")
        case ["get", *prefixes] if prefixes:
            for prefix in prefixes:
                print(images.fetch(prefix).name)
        case ["run", prefix, *command] if command:
            answer = run(images.fetch(prefix), command)
            print(answer.output, end="")
            if answer.status is None:
                print(answer.console, file=sys.stderr)
            return 125 if answer.status is None else answer.status
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except images.Missing as reason:
        sys.exit(f"missing: {reason}")
