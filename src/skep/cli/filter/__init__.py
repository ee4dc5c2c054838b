"""`skep filter`: tcpdump expressions compiled, shown, and run over captures and live interfaces."""

from __future__ import annotations

import sys

from skep.cli.filter.options import Arguments, Usage, help_text, parse

TYPE_CHECKING = False  # `collections.abc` brings `collections`, which a warm run does without
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the command. Exit status: 0 done, 1 failed or damaged input, 2 wrong usage."""
    try:
        args = parse(argv)
        if args.flag("help"):
            print(help_text())
            return 0
        if args.flag("version"):
            from skep import __version__

            print(f"skep filter {__version__}")
            return 0
        if args.flag("times") > 5:
            raise Usage("-t can be given up to five times")
        return _dispatch(args)
    except Usage as error:
        print(f"skep filter: {error}", file=sys.stderr)
        return 2


def _no_packets(args: Arguments) -> None:
    """Refuse options that ask for something to be done with packets where none are given."""
    group = args.groups[0]
    asked = [
        name
        for name, given in (
            ("-w", group.write is not None),
            ("-c", group.limit is not None),
            ("--count", args.flag("count")),
            ("--stats", args.flag("stats")),
            ("--filter", len(args.groups) > 1),
            *((f"-{letter}", args.flag(f"dump_{letter}")) for letter in "xXA"),
            ("--print", args.flag("print")),
            ("-C", "rotate_size" in args.numbers),
            ("-G", "rotate_seconds" in args.numbers),
        )
        if given
    ]
    if asked:
        raise Usage(f"{asked[0]} needs packets: -r FILE reads a capture, -i IFACE an interface")


def _dispatch(args: Arguments) -> int:
    inputs = list(args.list("inputs"))
    interface = args.value("interface")
    if interface is not None:
        from skep.tap.link import by_number

        interface = args.values["interface"] = by_number(interface)
    stamps = args.value("stamp_type") or "host"
    if stamps != "host":
        raise Usage(f"time stamps are made by this host: -j takes host, not {stamps!r}")
    direction = args.value("direction")
    if direction not in (None, "in", "out", "inout"):
        raise Usage(f"-Q takes in, out or inout, not {direction!r}")
    if args.flag("list_interfaces"):
        from skep.cli.filter.listing import interfaces

        return interfaces()
    if args.flag("list_links"):
        from skep.cli.filter.listing import link_types

        return link_types(interface)
    if (inputs or args.list("input_lists")) and interface is not None:
        raise Usage("-r reads captures and -i an interface: give one of them")
    sending = args.value("send")
    if sending is not None:
        if interface is None:
            raise Usage("--send needs -i, the interface to send on")
        from skep.cli.filter.live import send

        return send(args, sending, interface)
    showing = any(map(args.flag, ("listing", "ebpf", "native", "explain"))) or args.value("graph")
    if showing or (not inputs and not args.list("input_lists") and interface is None):
        if not showing:
            _no_packets(args)
        from skep.cli.filter.listing import show

        return show(args)
    if interface is not None:
        from skep.cli.filter.live import run as run_live

        return run_live(args, interface)
    if len(args.groups) > 1:
        raise Usage("--filter is for several filters on an interface (-i); a capture takes one expression")
    from skep.cli.filter.offline import run

    return run(args)
