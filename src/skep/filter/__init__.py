"""tcpdump's filter language: from an expression to classic BPF, as libpcap 1.10.3 compiles it.

`compile` is the way in. Stages: `lexer` -> `parser`, which calls the generators `gen_*` -> a graph of
blocks (`ir`) -> `optimise` -> `linear`.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final, NamedTuple

from skep.errors import FilterSyntaxError
from skep.filter.names import Names
from skep.isa.classic import ClassicInsn

if TYPE_CHECKING:
    from skep.filter.emit import Emitter

__all__ = ["MAXIMUM_SNAPLEN", "FilterProgram", "Names", "compile"]

#: tcpdump's default: packets are kept up to this many bytes.
MAXIMUM_SNAPLEN: Final = 262144


class FilterProgram(NamedTuple):
    """A compiled expression. The program returns ``snaplen`` for packets that match, 0 for others."""

    insns: tuple[ClassicInsn, ...]
    linktype: int
    expression: str
    snaplen: int


def compile(
    expression: str,
    *,
    linktype: int = 1,
    snaplen: int = MAXIMUM_SNAPLEN,
    optimise: bool = True,
    live: bool = False,
    netmask: int | None = None,
    names: Names | None = None,
    scoped_tunnels: bool = False,
    ipv6_transport: bool = False,
    savefile: bool = False,
    swapped: bool = False,
) -> FilterProgram:
    """Classic code of ``expression``; of an empty one, code that takes every packet.

    ``linktype`` is a DLT number (1 Ethernet, 12 raw IP, 113 cooked, 105 802.11 ...), ``snaplen`` the value
    returned for a match, in bytes. ``netmask`` (0xffffff00 for /24) is for `ip broadcast`.

    Where the packets come from changes the code of a few words:
        neither flag: unknown, as ``tcpdump -d`` compiles. `inbound`, `outbound` and `ifindex` read the
            packet's metadata, which only a live Linux socket has.
        ``live``: a Linux packet socket. The outer VLAN tag may be in the packet's metadata too.
        ``savefile``: a capture file. Words that need metadata are refused; the address families of
            link types NULL and LOOP are those of the BSDs. ``swapped``: its byte order is not this host's.

    ``names`` are the files that names are looked up in, /etc's by default. ``scoped_tunnels``: what
    `vlan`, `mpls`, `pppoes`, `geneve` and `vxlan` move ends with the parenthesis around them.
    ``ipv6_transport``: transport protocols are also found behind IPv6 extension headers.

    Raises:
        FilterSyntaxError: the expression is refused, with the column and what was expected.
    """
    if snaplen == 0:
        raise FilterSyntaxError("a snapshot length of 0 rejects all packets", hint="it is in bytes")
    if not -(1 << 31) <= snaplen < 1 << 32:
        raise FilterSyntaxError(f"snapshot length {snaplen} does not fit 32 bits", hint="it is in bytes")
    from skep.filter.emit import Emitter

    emitter = Emitter(
        linktype,
        names=names or Names(),
        netmask=netmask,
        live=live,
        savefile=savefile,
        swapped=swapped,
        ipv6_transport=ipv6_transport,
        scoped=scoped_tunnels,
    )
    # A graph of many thousand objects grows and nothing of it is garbage: looking for some doubles the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        insns = _code(expression, emitter, snaplen & 0xFFFFFFFF, optimise)
    except FilterSyntaxError as error:
        if "\n" in expression and error.source is expression and error.column is not None:
            raise _by_line(error, expression, error.column) from None
        raise
    finally:
        if collecting:
            gc.enable()
    return FilterProgram(tuple(insns), linktype, expression, snaplen)


def _by_line(error: FilterSyntaxError, expression: str, column: int) -> FilterSyntaxError:
    """The error with its place as line and column, for an expression of several lines (``-F``)."""
    column = min(column, len(expression.rstrip()))
    start = expression.rfind("\n", 0, column) + 1
    line = expression[start:].partition("\n")[0]
    end = None if error.end_column is None else min(error.end_column - start, len(line))
    return FilterSyntaxError(
        error.reason,
        source=expression,
        line=expression.count("\n", 0, start) + 1,
        column=column - start,
        end_column=end,
        hint=error.hint,
    )


def _code(expression: str, emitter: Emitter, snaplen: int, optimise: bool) -> list[ClassicInsn]:
    from skep.filter.emit import close
    from skep.filter.gen_prefix import prepend
    from skep.filter.ir import ret
    from skep.filter.linear import linearise
    from skep.filter.parser import Parser

    cond = Parser(expression, emitter).parse()
    accept = ret(snaplen)
    if cond is None:
        return linearise(accept)
    cond = prepend(emitter, cond)
    close(cond.true, accept)
    close(cond.false, ret(0))
    root = cond.head
    if optimise and not emitter.fixed:
        from skep.filter.optimise import optimise as improve

        root = improve(root)
        if root.is_return and not root.k:
            raise FilterSyntaxError(
                "the expression rejects all packets",
                source=expression,
                column=0,
                end_column=len(expression),
            )
    insns = linearise(root)
    if emitter.live and emitter.unset:
        insns = _attachable(insns, emitter.unset)
    return insns


def _attachable(insns: list[ClassicInsn], unset: dict[int, int]) -> list[ClassicInsn]:
    """Linux takes no program that may read a scratch word it has not set, such as `geneve or arp`: there the
    words are set first, so that what follows `or` looks at the outer packet."""
    from skep.errors import VerifierError
    from skep.filter.check import check
    from skep.isa.classic import BPF_IMM, BPF_LD, BPF_ST

    try:
        check(insns, "linux")
    except VerifierError:
        for reg, value in unset.items():
            insns = [ClassicInsn(BPF_LD | BPF_IMM, 0, 0, value), ClassicInsn(BPF_ST, 0, 0, reg), *insns]
    return insns
