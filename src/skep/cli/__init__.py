"""The `skep` command: one module of `skep.cli` per subcommand, imported only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence

#: subcommand -> (module with ``main(argv) -> int``, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "asm": ("skep.cli.asm", "assemble text into bytecode"),
    "disasm": ("skep.cli.disasm", "list bytecode as text"),
    "exec": ("skep.cli.exec", "run raw bytecode once and print r0"),
    "filter": ("skep.cli.filter", "compile tcpdump expressions; filter captures and live interfaces"),
    "link": ("skep.cli.link", "link BPF objects into one"),
}


def usage() -> str:
    lines = ["usage: skep [-h] [--version] COMMAND ...", "", "commands:"]
    width = max(map(len, COMMANDS))
    lines += [f"  {name:<{width}}  {help_}" for name, (_, help_) in COMMANDS.items()]
    lines += ["", "skep COMMAND --help tells each command's options."]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        from skep.cli.standard import repair

        repair()
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in {"-h", "--help", "help"}:
        print(usage(), file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] in {"-V", "--version"}:
        from skep import __version__

        print(f"skep {__version__}")
        return 0
    command = COMMANDS.get(args[0])
    if command is None:
        print(f"skep: no command {args[0]!r}; skep --help lists them", file=sys.stderr)
        return 2
    from importlib import import_module

    from skep.errors import SkepError, SourceError

    try:
        result: int = import_module(command[0]).main(args[1:])
        sys.stdout.flush()
        return result
    except SkepError as error:
        print(f"skep {args[0]}: {error}", file=sys.stderr)
        if isinstance(error, SourceError) and (shown := error.pointer()):
            print(shown, file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1  # the reader of our output went away: say nothing
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"skep {args[0]}: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        _settle()


def _settle() -> None:
    """Keep the interpreter from trying again to write what standard output did not take."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
