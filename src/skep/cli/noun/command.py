"""Running one verb of a noun: options, JSON or text, errors."""

from __future__ import annotations

import sys
from _collections_abc import Mapping

from skep.cli.noun.words import Usage, Words, is_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from skep.kernel.protocol import Kernel

#: short and long names of the options every noun takes; the last two belong to few verbs
_OPTIONS = {
    "-j": "json",
    "--json": "json",
    "-p": "pretty",
    "--pretty": "pretty",
    "-f": "bpffs",
    "--bpffs": "bpffs",
    "-n": "nomount",
    "--nomount": "nomount",
    "-d": "debug",
    "--debug": "debug",
    "-m": "mapcompat",
    "--mapcompat": "mapcompat",
    "-L": "use_loader",
    "--use-loader": "use_loader",
    "-P": "pids",
    "--pids": "pids",
    "-a": "all",
    "--all": "all",
    "-h": "help",
    "--help": "help",
}

OPTIONS_HELP = """\
options:
  -j, --json     print JSON        -p, --pretty   print JSON in lines
  -f, --bpffs    show where objects are pinned
  -P, --pids     show which processes hold objects
  -a, --all      in JSON, show fields that bpftool 7.1 has not, too
  -d, --debug    print the verifier's log, too"""

#: verb -> "module:function"; the order decides what an ambiguous prefix means
Verbs = Mapping[str, str]


class Call:
    """One run of a verb: the options, the kernel, and where its answer goes."""

    __slots__ = ("_kernel", "base_btf", "noun", "options")

    def __init__(self, noun: str, options: set[str], base_btf: str | None = None) -> None:
        self.noun = noun
        self.options = options
        self.base_btf = base_btf
        self._kernel: Kernel | None = None

    @property
    def json(self) -> bool:
        return "json" in self.options

    @property
    def kernel(self) -> Kernel:
        """The running kernel, opened when first asked for."""
        if self._kernel is None:
            from skep.linux.kernel import LinuxKernel

            self._kernel = LinuxKernel()
        return self._kernel

    def emit(self, value: Any) -> None:
        """Print ``value`` as JSON."""
        from skep.cli.noun.jsontext import write

        write(sys.stdout.write, value, pretty="pretty" in self.options)
        sys.stdout.write("\n")

    def write(self, text: str) -> None:
        """Print ``text``."""
        sys.stdout.write(text)

    def done(self) -> None:
        """Say that a verb without an answer is done: ``null`` in JSON, else nothing."""
        if self.json:
            self.emit(None)

    def note(self, text: str) -> None:
        """Tell the user something that is no part of the answer."""
        if not self.json:
            sys.stderr.write(text + "\n")


def run(noun: str, verbs: Verbs, usage: str, argv: Sequence[str]) -> int:
    """Run ``skep NOUN VERB …``; the exit status."""
    try:
        options, base_btf, words = split(argv)
    except Usage as error:
        return wrong(noun, str(error), json="-j" in argv or "-p" in argv)
    call = Call(noun, options, base_btf)
    verb = words[0] if words else next(iter(verbs))
    if "help" in options or (is_prefix(verb, "help") and not any(is_prefix(verb, known) for known in verbs)):
        print(f"{usage}\n{OPTIONS_HELP}")
        return 0
    chosen = next((name for name in verbs if is_prefix(verb, name)), None)
    if chosen is None:
        return wrong(noun, f"no verb {verb!r}: {', '.join(verbs)}", json=call.json)
    module, _, function = verbs[chosen].partition(":")
    return _answer(call, f"{noun} {chosen}", module, function, Words(words[1:]))


def _answer(call: Call, name: str, module: str, function: str, words: Words) -> int:
    from skep.errors import SkepError

    work: Callable[[Call, Words], int | None] = getattr(__import__(module, fromlist=[function]), function)
    try:
        return work(call, words) or 0
    except Usage as error:
        return wrong(name, str(error), json=call.json)
    except SkepError as error:
        if not call.json:
            raise
        call.emit({"error": str(error)})
    except OSError as error:
        if not call.json or isinstance(error, BrokenPipeError):
            raise
        where = f"{error.filename}: " if error.filename else ""
        call.emit({"error": f"{where}{error.strerror or error}"})
    return 1


def wrong(name: str, reason: str, *, json: bool) -> int:
    """Report a wrong command line; exit status 2."""
    if json:
        from skep.cli.noun.jsontext import text

        print(text({"error": reason}))
    else:
        noun = name.split()[0]
        print(f"skep {name}: {reason} (skep {noun} help)", file=sys.stderr)
    return 2


def split(argv: Sequence[str]) -> tuple[set[str], str | None, list[str]]:
    """(options, the file of -B, the other words); options may stand anywhere before ``--``."""
    options: set[str] = set()
    words: list[str] = []
    base: str | None = None
    rest = iter(argv)
    for word in rest:
        if word == "--":
            words += rest
        elif word in ("-B", "--base-btf"):
            base = next(rest, None)
            if base is None:
                raise Usage("-B wants a file")
        elif word.startswith("--base-btf="):
            base = word.partition("=")[2]
        elif word in _OPTIONS:
            options.add(_OPTIONS[word])
        elif (
            len(word) > 2 and word[0] == "-" and word[1] != "-" and all(f"-{c}" in _OPTIONS for c in word[1:])
        ):
            options.update(_OPTIONS[f"-{c}"] for c in word[1:])
        elif len(word) > 1 and word[0] == "-" and not word[1].isdigit():
            raise Usage(f"no option {word}")
        else:
            words.append(word)
    if "pretty" in options:
        options.add("json")
    return options, base, words
