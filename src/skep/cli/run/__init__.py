"""`skep run`: load an object, attach its programs, and print what they say until it is enough."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the command. Exit status: 0 done, 1 failed, 2 wrong usage, or that of CMD. Errors are SkepError."""
    from skep.cli.run.options import help_text, parse
    from skep.cli.table import Usage

    own, command = list(argv), []
    try:
        if "--" in own:
            at = own.index("--")
            own, command = own[:at], own[at + 1 :]
            if not command:
                raise Usage("a command is missing after --")
        options = parse(own)
    except Usage as error:
        print(f"skep run: {error}", file=sys.stderr)
        return 2
    if options.help:
        print(help_text())
        return 0
    if not options.file.endswith((".o", ".py")):
        from skep.cli.run.kinds import explain

        explain(options.file)
    from skep.cli.run.session import run

    return run(options, command)


def note(quiet: bool, text: str) -> None:
    """A word to the user on standard error."""
    if not quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
