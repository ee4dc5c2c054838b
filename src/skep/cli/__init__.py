"""The `skep` command: one module of `skep.cli` per subcommand, imported only when it is called."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `collections.abc` brings `collections`, which short runs do without
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

#: subcommand -> (module with ``main(argv) -> int``, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "asm": ("skep.cli.asm", "assemble text into bytecode"),
    "batch": ("skep.cli.batch", "run many commands over the kernel's objects"),
    "btf": ("skep.cli.btf", "list and print type information"),
    "build": ("skep.cli.build", "compile programs written in Python to an object"),
    "cgroup": ("skep.cli.cgroup", "programs attached to cgroups"),
    "check": ("skep.cli.check", "verify programs without a kernel, and say what is wrong"),
    "disasm": ("skep.cli.disasm", "list bytecode as text"),
    "exec": ("skep.cli.exec", "run raw bytecode once and print r0"),
    "explain": ("skep.cli.explain", "why a verifier refused a program, from its log"),
    "feature": ("skep.cli.feature", "what the running kernel can do"),
    "filter": ("skep.cli.filter", "compile tcpdump expressions; filter captures and live interfaces"),
    "gen": ("skep.cli.gen", "generate code and objects from an object"),
    "iter": ("skep.cli.iter", "pin iterator programs"),
    "link": ("skep.cli.links", "attachments held as links; put objects together"),
    "map": ("skep.cli.map", "maps and what they hold"),
    "net": ("skep.cli.net", "programs attached to network interfaces"),
    "perf": ("skep.cli.perf", "programs on perf events and tracepoints"),
    "prog": ("skep.cli.prog", "loaded programs"),
    "run": ("skep.cli.run", "load programs, attach them, print their events"),
    "struct_ops": ("skep.cli.struct_ops", "kernel interfaces implemented by programs"),
}


#: options of bpftool that a word follows
_WITH_WORD = frozenset(("-B", "--base-btf"))


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
    leading = 0
    while leading < len(args) and args[leading].startswith("-") and args[leading] not in {"-V", "--version"}:
        leading += 2 if args[leading] in _WITH_WORD else 1
    if 0 < leading < len(args):
        # bpftool's options may stand before the noun
        args = [args[leading], *args[:leading], *args[leading + 1 :]]
    if args[0] in {"-V", "--version"}:
        from skep import __version__

        print(f"skep {__version__}")
        return 0
    command = COMMANDS.get(args[0])
    if command is None:
        print(f"skep: no command {args[0]!r}; skep --help lists them", file=sys.stderr)
        return 2
    from skep.errors import SkepError, SourceError, VerifierError

    try:
        # as `importlib.import_module`, which would have to be imported first
        result: int = __import__(command[0], fromlist=("main",)).main(args[1:])
        sys.stdout.flush()
        return result
    except SkepError as error:
        print(f"skep {args[0]}: {error}", file=sys.stderr)
        if isinstance(error, SourceError) and (shown := error.pointer()):
            print(shown, file=sys.stderr)
        if isinstance(error, VerifierError) and error.explanation is not None:
            print(error.explanation.on_terminal(sys.stderr), file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1  # the reader of our output went away: say nothing
    except OSError as error:
        print(f"skep {args[0]}: {_where(error)}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        _settle()


def command() -> NoReturn:
    """The console script: `main`, and the process ends with its status.

    The interpreter is not taken apart before, which takes longer than many a command; open files that
    are to be kept have been closed by `main`.
    """
    import os

    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 1
    os._exit(status)


def _where(error: OSError) -> str:
    """The file that a system call failed on, with a colon behind; "" when it is not known."""
    if error.filename is not None:
        return f"{error.filename or repr('')}: "
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return "standard output: "  # what it did not take is still there, and it does not take it now
    return ""


def _settle() -> None:
    """Keep the interpreter from trying again to write what standard output did not take."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
