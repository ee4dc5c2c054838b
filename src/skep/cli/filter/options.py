"""The options of `skep filter`: tcpdump's letters, read as getopt_long reads them."""

from __future__ import annotations

from skep.cli.table import Option, help_of, number, read
from skep.cli.table import Usage as Usage

TYPE_CHECKING = False  # `collections.abc` brings `collections`, which a warm run does without
if TYPE_CHECKING:
    from collections.abc import Sequence


def table() -> list[tuple[str, list[Option]]]:
    """All options under their headings.

    Their kinds: "" last value wins, "list" all are kept, "int", "count" how often, "flag", "group" see
    `Group`.
    """
    return [
        (
            "what to show",
            [
                Option("-d", None, "listing", "the classic program; -dd as C, -ddd as numbers", "count"),
                Option("--ebpf", None, "ebpf", "the program translated to eBPF, in Linux's notation"),
                Option("--native", None, "native", "the machine code that runs here"),
                Option("--explain", None, "explain", "each instruction beside what it tests, in words"),
                Option("--graph", "OUT.svg", "graph", "draw the control flow"),
                Option(
                    "-L --list-data-link-types", None, "list_links", "list the link types (of -i) and end"
                ),
            ],
        ),
        (
            "captures",
            [
                Option("-r", "FILE", "inputs", "read a capture; again for more, - is standard input", "list"),
                Option("-V", "FILE", "input_lists", "read the captures that FILE names, one a line", "list"),
                Option("-w", "FILE", "write", "write what matches; - is standard output", "group"),
                Option("-C", "MB", "rotate_size", "go on in another file after MB million bytes", "int"),
                Option(
                    "-G", "SEC", "rotate_seconds", "or after SEC seconds; -w's name is for strftime", "int"
                ),
                Option("-W", "N", "rotate_files", "with -C a ring of N files, with -G end after N", "int"),
                Option("--pcapng", None, "pcapng", "write pcapng; comments and interfaces are kept"),
                Option("--count", None, "count", "print only how many match"),
                Option("-c", "N", "limit", "stop after N matches", "group"),
                Option("--stats", None, "stats", "packets, time and rate at the end"),
                Option("--nano", None, "nano", "nanoseconds in output (as --time-stamp-precision=nano)"),
                Option("--micro", None, "micro", "microseconds in output, the default"),
                Option("--time-stamp-precision", "P", "precision", "micro or nano"),
                Option("--threads", "N", "threads", "processors to use, all by default", "int"),
                Option("--no-progress", None, "no_progress", "no progress bar on a terminal"),
            ],
        ),
        (
            "the expression",
            [
                Option("-F", "FILE", "expression_file", "read the expression from FILE"),
                Option("-O --no-optimize", None, "no_optimise", "do not optimise the program"),
                Option("-y --linktype", "TYPE", "linktype", "compile for this link type (EN10MB, RAW, ...)"),
                Option("-s --snapshot-length", "N", "snaplen", "bytes kept of a packet (live)", "group"),
                Option(
                    "--scoped-tunnels", None, "scoped", "vlan, mpls, ... shift only inside their parentheses"
                ),
                Option("--ipv6-transport", None, "ipv6", "tcp, udp, port see past IPv6 extension headers"),
            ],
        ),
        (
            "live",
            [
                Option(
                    "-i --interface", "IFACE", "interface", "capture from an interface, by name or number"
                ),
                Option(
                    "--filter", "EXPR", "filters", "a filter of its own: -w, -s, -c after it are its", "group"
                ),
                Option("-p --no-promiscuous-mode", None, "no_promiscuous", "leave promiscuous mode as it is"),
                Option("-Q --direction", "DIR", "direction", "in, out or inout"),
                Option("-B --buffer-size", "KIB", "buffer", "ring buffer of each filter, KiB", "int"),
                Option("--immediate-mode", None, "immediate", "deliver each packet at once"),
                Option("-j --time-stamp-type", "T", "stamp_type", "host, the only one"),
                Option("-D --list-interfaces", None, "list_interfaces", "list the interfaces and end"),
                Option("--send", "FILE", "send", "send the frames of a capture to the interface"),
                Option("--pps", "N", "pps", "frames a second to send; as fast as possible by default"),
                Option("--repeat", "N", "repeat", "send the capture N times", "int"),
            ],
        ),
        (
            "printing",
            [
                Option("-e", None, "link_header", "show link-level addresses"),
                Option("-n", None, "numeric", "accepted: names are never looked up", "count"),
                Option("-q", None, "quiet", "accepted: lines are always short", "count"),
                Option("-t", None, "times", "no time; -tt seconds, -tttt date, -ttt, -ttttt since", "count"),
                Option(
                    "-x", None, "dump_x", "and the packet in hex; -xx with its link-level header", "count"
                ),
                Option("-X", None, "dump_X", "and in hex and as text; -XX with the header", "count"),
                Option("-A", None, "dump_A", "and as text; -AA with the header", "count"),
                Option("-v", None, "verbose", "accepted: lines are always short", "count"),
                Option("-S --absolute-tcp-sequence-numbers", None, "ignored", "accepted: none are printed"),
                Option("-K --dont-verify-checksums", None, "ignored", "accepted: none are verified"),
                Option("-N -f", None, "ignored", "accepted: names are never looked up"),
                Option("--print", None, "print", "print the packets that -w writes, too"),
                Option("-# --number", None, "number", "number the lines"),
                Option("-U --packet-buffered", None, "unbuffered", "write each packet at once"),
                Option("-l", None, "line_buffered", "print each line at once"),
                Option("-h --help", None, "help", "show this"),
                Option("--version", None, "version", "show skep's version"),
            ],
        ),
    ]


_PRECISIONS = ("nano", "micro")
#: the largest values that tcpdump takes: bytes of a packet; KiB of a buffer whose bytes an int can count
_MOST = {"snaplen": 262144, "buffer": (1 << 21) - 1}
#: tcpdump's options that are no part of this command, and what does the same
_ELSEWHERE = {
    "a": "is not known: lines are always short; tcpdump -r shows more",
    "b": "prints AS numbers, and BGP is not dissected here: tcpdump -r does",
    "E": "decrypts ESP, which is not done here: tcpdump -r or tshark does",
    "H": "detects 802.11s headers, which are not dissected here: tcpdump -r does",
    "I": "sets monitor mode: `iw dev IFACE set type monitor` does, then -i IFACE",
    "J": "lists time stamp types: there is one, host",
    "M": "checks TCP-MD5 digests, which is not done here: tcpdump -r does",
    "m": "loads MIB modules, and SNMP is not dissected here: tcpdump -r or snmptranslate does",
    "T": "chooses a dissector, and there are none here: tcpdump -r FILE -T does",
    "u": "prints NFS handles, and NFS is not dissected here: tcpdump -r does",
    "Z": "drops privileges: run it by `setpriv --reuid=USER`, or give skep CAP_NET_RAW alone",
    "z": "runs a command on finished files: let the shell loop over what -w wrote",
}


#: their long spellings, and tcpdump's long options without a letter
_ELSEWHERE_LONG = {
    "monitor-mode": _ELSEWHERE["I"],
    "list-time-stamp-types": _ELSEWHERE["J"],
    "relinquish-privileges": _ELSEWHERE["Z"],
    "fp-type": "tells how tcpdump was built: nothing here computes with floating point",
    "lengths": "prints lengths beside tcpdump's dissection: every line here ends in the packet's own",
    "debug-filter-parser": "traces libpcap's parser: --explain and -d show what came of the expression",
    "list-remote-interfaces": "asks rpcapd, which is not spoken here: ssh HOST skep filter -D does",
    "skip": "leaves packets out at the start: a relation on what they hold, or editcap, does",
    "print-sampling": "prints every Nth packet: -w all of them, or -c some",
}


class Group:
    """One live filter and what belongs to it."""

    __slots__ = ("expression", "limit", "snaplen", "write")

    def __init__(self, expression: str | None = None) -> None:
        self.expression = expression
        self.write: str | None = None
        self.snaplen: int | None = None
        self.limit: int | None = None


class Arguments:
    """The parsed command line: each option's value under its ``dest`` (see `table`)."""

    def __init__(self) -> None:
        self.words: list[str] = []
        #: the first group is the command itself; each --filter opens another
        self.groups = [Group()]
        self.flags: dict[str, int] = {}
        self.values: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.lists: dict[str, list[str]] = {}

    def flag(self, dest: str) -> int:
        """How often an option without a value was given."""
        return self.flags.get(dest, 0)

    def value(self, dest: str) -> str | None:
        return self.values.get(dest)

    def number(self, dest: str, default: int) -> int:
        return self.numbers.get(dest, default)

    def list(self, dest: str) -> Sequence[str]:
        return self.lists.get(dest, ())


def parse(argv: Sequence[str]) -> Arguments:
    """Read a command line. Options and the words of the expression may mix; ``--`` ends the options.

    Raises:
        Usage: an option is unknown, lacks its value or has a wrong one.
    """
    result = Arguments()
    given, result.words = read(table(), argv, "filter", _ELSEWHERE | _ELSEWHERE_LONG)
    for option, name, text in given:
        if text is None:
            _flag(result, option)
        else:
            _store(result, option, name, text)
    return result


def _flag(result: Arguments, option: Option) -> None:
    result.flags[option.dest] = result.flags.get(option.dest, 0) + 1
    if option.dest in _PRECISIONS:
        result.values["precision"] = option.dest  # the last one counts


def _store(result: Arguments, option: Option, name: str, text: str) -> None:
    if option.kind == "list":
        result.lists.setdefault(option.dest, []).append(text)
    elif option.kind == "int":
        most = _MOST.get(option.dest)
        result.numbers[option.dest] = number(name, text) if most is None else number(name, text, most=most)
    elif option.kind != "group":
        result.values[option.dest] = text
    elif option.dest == "filters":
        result.groups.append(Group(text))
    elif option.dest == "write":
        result.groups[-1].write = text
    elif option.dest == "snaplen":
        result.groups[-1].snaplen = number(name, text, least=0, most=_MOST["snaplen"])
    else:
        result.groups[-1].limit = number(name, text)


def help_text() -> str:
    """What --help prints."""
    before = [
        "usage: skep filter [options] [expression]",
        "",
        "Compile a tcpdump expression to native code; filter captures and live interfaces with it.",
    ]
    after = [
        "Without -r and -i the program itself is shown (-d). The expressions are pcap-filter(7)'s;",
        "docs/filtering.md has examples. Exit status: 0 done, 1 failed or damaged input, 2 wrong usage.",
    ]
    return help_of(table(), before, after)
