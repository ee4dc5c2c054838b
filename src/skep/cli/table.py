"""Options as a table: the command line read as getopt_long reads it, and the text of --help.

For the commands that have to start quickly. argparse costs 10 ms before it has read a word (it brings `re`,
`enum` and gettext along).
"""

from __future__ import annotations

TYPE_CHECKING = False  # `collections.abc` brings `collections`, which a warm run does without
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    #: an option, the name it was called by, its value's text (None: it takes none)
    Given = tuple["Option", str, str | None]
    Table = list[tuple[str, list["Option"]]]

_HELP_COLUMN = 33


class Usage(Exception):
    """The command line is wrong. ``str`` is one line."""


class Option:
    """One option: ``names`` ("-w --write"), what its value is called (None: it has none), its help.

    ``dest`` is what the command calls it, ``kind`` how its value is read; both mean something to the
    command alone.
    """

    __slots__ = ("dest", "help", "kind", "metavar", "names")

    def __init__(self, names: str, metavar: str | None, dest: str, help_: str, kind: str = "") -> None:
        self.names = names.split()
        self.metavar = metavar
        self.dest = dest
        self.help = help_
        self.kind = kind or ("flag" if metavar is None else "")


def read(
    table: Table,
    argv: Sequence[str],
    command: str,
    elsewhere: Mapping[str, str] | None = None,
) -> tuple[list[Given], list[str]]:
    """The options of a command line in their order, and the words that are none.

    Options and words may mix; ``--`` ends the options. Letters bundle (``-nnr FILE``), long names may be
    shortened as long as one option alone starts so, and have their value behind ``=`` or as the next word.

    Args:
        command: its name, for what errors say.
        elsewhere: letter or long name -> what to say of an option that is asked for and not there.

    Raises:
        Usage: an option is unknown, lacks its value or has one too many.
    """
    options = [option for _, group in table for option in group]
    short = {name[1]: option for option in options for name in option.names if not name.startswith("--")}
    long = {name[2:]: option for option in options for name in option.names if name.startswith("--")}
    given: list[Given] = []
    words: list[str] = []
    args = list(argv)
    at = 0

    def following(name: str) -> str:
        nonlocal at
        if at >= len(args):
            raise Usage(f"option {name} needs a value")
        at += 1
        return args[at - 1]

    while at < len(args):
        word = args[at]
        at += 1
        if word == "--":
            words += args[at:]
            break
        if word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            option = _long(long, name, command, elsewhere or {})
            if option.metavar is None:
                if equals:
                    raise Usage(f"option --{name} takes no value")
                given.append((option, f"--{name}", None))
            else:
                given.append((option, f"--{name}", text if equals else following(f"--{name}")))
        elif word.startswith("-") and word != "-":
            for index, letter in enumerate(word[1:], 2):
                found = short.get(letter)
                if found is None:
                    why = (elsewhere or {}).get(letter)
                    why = why or f"is not known; skep {command} --help lists the options"
                    raise Usage(f"option -{letter} {why}")
                if found.metavar is None:
                    given.append((found, f"-{letter}", None))
                    continue
                given.append((found, f"-{letter}", word[index:] or following(f"-{letter}")))
                break
        else:
            words.append(word)
    return given, words


def _long(long: dict[str, Option], name: str, command: str, elsewhere: Mapping[str, str]) -> Option:
    if name in long:
        return long[name]
    if len(name) > 1 and name in elsewhere:
        raise Usage(f"option --{name} {elsewhere[name]}")
    matches = {long[full].dest: long[full] for full in long if full.startswith(name)} if name else {}
    if len(matches) == 1:
        return next(iter(matches.values()))
    what = "is ambiguous" if matches else "is not known"
    raise Usage(f"option --{name} {what}; skep {command} --help lists the options")


def number(name: str, text: str, least: int = 1, most: int = (1 << 31) - 1) -> int:
    """The value of an option that takes a number from ``least`` to ``most``. Raises Usage."""
    try:
        value = int(text, 0)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise Usage(
            f"option {name} takes a number from {least}{f' to {most}' if value > most else ''}, not {text!r}"
        )
    return value


def help_of(table: Table, before: Sequence[str], after: Sequence[str]) -> str:
    """What --help prints: the table between lines that stand ``before`` and ``after`` it."""
    lines = list(before)
    for heading, options in table:
        lines += ["", f"{heading}:"]
        for option in options:
            names = ", ".join(option.names) + (f" {option.metavar}" if option.metavar else "")
            pad = f"  {names:<{_HELP_COLUMN - 3}}"
            fits = len(pad) < _HELP_COLUMN
            lines.append(f"{pad} {option.help}" if fits else f"{pad}\n{'':{_HELP_COLUMN}}{option.help}")
    return "\n".join([*lines, "", *after])
