"""The options of `skep run`."""

from __future__ import annotations

from skep.cli.table import Option, help_of, number, read
from skep.cli.table import Usage as Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = "usage: skep run FILE [PROG ...] [options] [-- CMD ...]"
_EPILOG = """\
Each program is attached where its section says; what a section leaves open comes from the options.
Programs named on the command line are the only ones loaded. Records of ring buffers and perf buffers, and
bpf_printk output, are printed as they come. Ctrl-C, the end of CMD, --duration or --count end it all; the
programs are detached then. With CMD the exit status is CMD's.

With CMD, a constant of the program named only_pid, target_pid, targ_pid or filter_pid is CMD's process id,
unless --set says otherwise (--set only_pid=0 for all processes).

How records are typed: --type, else the type of the map's values, else the one struct of the object's BTF,
or of its debugging information, that has the record's size and is no kernel type (a global
`struct event *unused;` brings a struct into BTF).
"""


class Options:
    """What was asked for: an attribute for each option."""

    def __init__(self) -> None:
        self.help = False
        self.file = ""
        self.programs: list[str] = []
        self.iface: list[str] | None = None
        self.direction: str | None = None
        self.xdp_mode = "auto"
        self.cgroup: str | None = None
        self.pid: int | None = None
        self.event: str | None = None
        self.freq = 99
        self.route: str | None = None
        self.via: str | None = None
        self.socket: str | None = None
        self.replace: str | None = None
        self.lirc: str | None = None
        self.netns: str | None = None
        self.hook: str | None = None
        self.set: list[str] = []
        self.max_entries: list[str] = []
        self.pin_root = "/sys/fs/bpf"
        self.json = False
        self.type: list[str] = []
        self.maps = False
        self.no_printk = False
        self.quiet = False
        self.duration: float | None = None
        self.count: int | None = None


def table() -> list[tuple[str, list[Option]]]:
    """All options under their headings.

    Their kinds: "" text, "list" all are kept, "from 0" and "from 1" numbers, "seconds", "flag", or the
    words that may be given, between bars.
    """
    return [
        (
            "where programs attach",
            [
                Option("-i --iface", "NAME", "iface", "interface, of XDP, tc and socket programs", "list"),
                Option(
                    "--direction",
                    "DIR",
                    "direction",
                    'ingress or egress, of SEC("tc") programs',
                    "ingress|egress",
                ),
                Option(
                    "--xdp-mode",
                    "MODE",
                    "xdp_mode",
                    "auto, native, generic or offload, of XDP programs",
                    "auto|native|generic|offload",
                ),
                Option("--cgroup", "DIR", "cgroup", "of cgroup programs, and of cgroup iterators"),
                Option(
                    "--pid",
                    "PID",
                    "pid",
                    "process, of uprobes, USDT, perf events and task iterators",
                    "from 1",
                ),
                Option("--event", "NAME", "event", "of perf_event programs: cpu-clock, page-faults, …"),
                Option("--freq", "HZ", "freq", "samples a second of perf_event programs (99)", "from 1"),
                Option(
                    "--route",
                    "PREFIX",
                    "route",
                    "of LWT programs: the route, which leads to --iface or --via",
                ),
                Option("--via", "ADDRESS", "via", "the gateway of --route"),
                Option(
                    "--socket", "PID:FD", "socket", "a process's socket, of socket and sk_reuseport programs"
                ),
                Option(
                    "--replace",
                    "PROG",
                    "replace",
                    "of freplace programs: a loaded program's pinned file, id or name",
                ),
                Option("--lirc", "DEVICE", "lirc", "of lirc_mode2 programs: /dev/lirc0"),
                Option("--netns", "NAME", "netns", "network namespace: a name, path or pid"),
                Option(
                    "--hook",
                    "HOOK",
                    "hook",
                    "of netfilter programs: prerouting, input, forward, output, postrouting",
                ),
            ],
        ),
        (
            "what is loaded",
            [
                Option(
                    "--set",
                    "NAME=VALUE",
                    "set",
                    "first value of a global variable; {pid} is CMD's process id",
                    "list",
                ),
                Option("--max-entries", "MAP=N", "max_entries", "size of a map", "list"),
                Option("--pin-root", "DIR", "pin_root", "where maps pinned by name are (/sys/fs/bpf)"),
            ],
        ),
        (
            "output",
            [
                Option("-j --json", None, "json", "a JSON object a line"),
                Option("--type", "[MAP=]STRUCT", "type", "the type of records", "list"),
                Option("--maps", None, "maps", "print the maps at the end"),
                Option("--no-printk", None, "no_printk", "leave bpf_printk output alone"),
                Option("-q --quiet", None, "quiet", "no word of what is attached and lost"),
                Option("-h --help", None, "help", "show this"),
            ],
        ),
        (
            "until",
            [
                Option("--duration", "SECONDS", "duration", "at most so long", "seconds"),
                Option("--count", "N", "count", "at most so many events", "from 0"),
            ],
        ),
    ]


def parse(argv: Sequence[str]) -> Options:
    """Read a command line, without what stands behind ``--``.

    Raises:
        Usage: an option is unknown, lacks its value or has a wrong one; or FILE is missing.
    """
    made = Options()
    given, words = read(table(), argv, "run")
    for option, name, text in given:
        if text is None:
            setattr(made, option.dest, True)
        elif option.kind == "list":
            setattr(made, option.dest, [*(getattr(made, option.dest) or ()), text])
        else:
            setattr(made, option.dest, _value(option.kind, name, text))
    if not (words or made.help):
        raise Usage(f"FILE is missing, an object (.o) or programs written in Python (.py); {_USAGE}")
    made.file, made.programs = (words or [""])[0], words[1:]
    return made


def _value(kind: str, name: str, text: str) -> str | int | float:
    if kind.startswith("from "):
        return number(name, text, int(kind[-1]))
    if kind == "seconds":
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1
        if not 0 <= seconds < 1 << 31:
            raise Usage(f"option {name} takes seconds, not {text!r}")
        return seconds
    if kind and text not in kind.split("|"):
        raise Usage(f"option {name} takes {kind.replace('|', ', ')}, not {text!r}")
    return text


def help_text() -> str:
    """What --help prints."""
    before = [
        _USAGE,
        "",
        "Load BPF programs, attach them, print their events and bpf_printk output.",
        "",
        "  FILE                           an object (.o), or programs written in Python (.py)",
        "  PROG ...                       programs to load (default: all)",
        "  CMD ...                        a command to watch: it starts once everything is attached",
    ]
    return help_of(table(), before, _EPILOG.splitlines())
