"""From the command line to a `Recipe`: the expression, and how to compile it."""

from __future__ import annotations

from skep.cli.filter.options import Arguments, Usage
from skep.tap.prepare import Recipe

MAXIMUM_SNAPLEN = 262144


def expression(args: Arguments) -> str:
    """The expression from the command's words or from -F's file, in which # begins a comment."""
    path = args.value("expression_file")
    if path is None:
        return " ".join(args.words)
    if args.words:
        raise Usage("the expression is given twice, by -F and on the command line")
    from skep.cli.whole import read_whole

    text = read_whole(path).decode("utf-8", "surrogateescape")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.partition("#")[0] for line in text.split("\n")).strip()


def recipe(args: Arguments, text: str | None = None, *, interface: str | None = None) -> Recipe:
    """The recipe for ``text``, by default for the command's own expression.

    `ip broadcast` takes the network's mask from ``interface``; without one it is 0, as in tcpdump.
    """
    mask = 0
    if interface is not None:
        from skep.tap.link import netmask

        mask = netmask(interface)
    return Recipe(
        expression(args) if text is None else text,
        optimise=not args.flag("no_optimise"),
        linktype=linktype(args),
        netmask=mask,
        scoped_tunnels=bool(args.flag("scoped")),
        ipv6_transport=bool(args.flag("ipv6")),
    )


def linktype(args: Arguments) -> int | None:
    """DLT number of -y, None without it."""
    name = args.value("linktype")
    if name is None:
        return None
    from skep.capture import linktypes

    number = linktypes.by_name(name)
    if number is None:
        raise Usage(f"link type {name!r} is not known; skep filter -L lists them")
    return number


def snaplen(value: int | None) -> int:
    """-s: 0 and None mean the maximum, as in tcpdump."""
    return value or MAXIMUM_SNAPLEN


def nanoseconds(args: Arguments) -> bool:
    """Whether times have nanoseconds (--nano, or tcpdump's --time-stamp-precision=nano)."""
    precision = args.value("precision")
    if precision not in (None, "micro", "nano"):
        raise Usage(f"--time-stamp-precision is micro or nano, not {precision!r}")
    return precision == "nano"
