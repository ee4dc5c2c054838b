"""`skep run`: load an object, attach its programs, and print what they say until it is enough."""

from __future__ import annotations

import argparse
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_EPILOG = """\
Each program is attached where its section says; what a section leaves open comes from the options.
Programs named on the command line are the only ones loaded. Records of ring buffers and perf buffers, and
bpf_printk output, are printed as they come. Ctrl-C, the end of CMD, --duration or --count end it all; the
programs are detached then. With CMD the exit status is CMD's.

With CMD, a constant of the program named only_pid, target_pid, targ_pid or filter_pid is CMD's process id,
unless --set says otherwise (--set only_pid=0 for all processes).

How records are typed: --type, else the type of the map's values, else the one struct of the object's BTF
that has the record's size and is no kernel type (a global `struct event *unused;` brings a struct into BTF).
"""


def main(argv: Sequence[str]) -> int:
    """Run the command. Errors are SkepError; wrong usage exits with 2."""
    own, command = list(argv), []
    if "--" in own:
        at = own.index("--")
        own, command = own[:at], own[at + 1 :]
        if not command:
            parser().error("a command is missing after --")
    options = parser().parse_args(own)
    if not options.file.endswith((".o", ".py")):
        from skep.cli.run.kinds import explain

        explain(options.file)
    from skep.cli.run.session import run

    return run(options, command)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="skep run",
        usage="skep run FILE [PROG ...] [options] [-- CMD ...]",
        description="Load BPF programs, attach them, print their events and bpf_printk output.",
        epilog=_EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("file", metavar="FILE", help="an object (.o), or programs written in Python (.py)")
    add("programs", nargs="*", metavar="PROG", help="programs to load (default: all)")
    where = made.add_argument_group("where programs attach")
    add = where.add_argument
    add("-i", "--iface", action="append", metavar="NAME", help="interface, of XDP, tc and socket programs")
    add("--direction", choices=("ingress", "egress"), help='of SEC("tc") programs')
    add(
        "--xdp-mode", choices=("auto", "native", "generic", "offload"), default="auto", help="of XDP programs"
    )
    add("--cgroup", metavar="DIR", help="of cgroup programs, and of cgroup iterators")
    add("--pid", type=int, metavar="PID", help="process, of uprobes, USDT, perf events and task iterators")
    add("--event", metavar="NAME", help="of perf_event programs: cpu-clock, page-faults, …")
    add("--freq", type=int, default=99, metavar="HZ", help="samples a second of perf_event programs (99)")
    add("--route", metavar="PREFIX", help="of LWT programs: the route, which leads to --iface or --via")
    add("--via", metavar="ADDRESS", help="the gateway of --route")
    add("--socket", metavar="PID:FD", help="a process's socket, of socket and sk_reuseport programs")
    add("--replace", metavar="PROG", help="of freplace programs: a loaded program's pinned file, id or name")
    add("--lirc", metavar="DEVICE", help="of lirc_mode2 programs: /dev/lirc0")
    add("--netns", metavar="NAME", help="network namespace: a name, path or pid")
    add(
        "--hook",
        metavar="HOOK",
        help="of netfilter programs: prerouting, input, forward, output, postrouting",
    )
    inside = made.add_argument_group("what is loaded")
    add = inside.add_argument
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="first value of a global variable; {pid} is CMD's process id",
    )
    add("--max-entries", action="append", default=[], metavar="MAP=N", help="size of a map")
    add("--pin-root", metavar="DIR", default="/sys/fs/bpf", help="where maps pinned by name are")
    out = made.add_argument_group("output")
    add = out.add_argument
    add("-j", "--json", action="store_true", help="a JSON object a line")
    add("--type", action="append", default=[], metavar="[MAP=]STRUCT", help="the type of records")
    add("--maps", action="store_true", help="print the maps at the end")
    add("--no-printk", action="store_true", help="leave bpf_printk output alone")
    add("-q", "--quiet", action="store_true", help="no word of what is attached and lost")
    end = made.add_argument_group("until")
    add = end.add_argument
    add("--duration", type=float, metavar="SECONDS", help="at most so long")
    add("--count", type=int, metavar="N", help="at most so many events")
    return made


class _Help(argparse.RawDescriptionHelpFormatter):
    """Of a fixed width: asking for the terminal's imports a third of argparse again."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=108)


def note(quiet: bool, text: str) -> None:
    """A word to the user on standard error."""
    if not quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
