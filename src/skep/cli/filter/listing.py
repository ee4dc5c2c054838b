"""`skep filter -d` and its kin: the program shown in every form it takes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from skep.cli.filter.options import Arguments, Usage
from skep.cli.filter.request import MAXIMUM_SNAPLEN, recipe, snaplen
from skep.errors import MissingDependency, SkepError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skep.isa import ClassicInsn

_EN10MB = 1


def show(args: Arguments) -> int:
    """Print the listings asked for; the classic program when none is."""
    insns, linktype = _compile(args)
    level = args.flag("listing")
    graph = args.value("graph")
    wanted = [name for name in ("explain", "ebpf", "native") if args.flag(name)]
    parts = []
    if level or not (wanted or graph):
        from skep.asm import disassemble_classic

        notation = ["tcpdump", "tcpdump", "tcpdump-dd"][level] if level < 3 else "tcpdump-ddd"
        parts.append("\n".join(disassemble_classic(insns, notation)))
    if "explain" in wanted:
        from skep.filter.listing import explained

        parts.append("\n".join(explained(insns, linktype, _columns())))
    if "ebpf" in wanted:
        from skep.asm import disassemble
        from skep.filter.ebpf import translate

        parts.append("\n".join(disassemble(translate(insns, form="skb"))))
    if "native" in wanted:
        parts.append("\n".join(_machine_code(insns, args.value("interface"))))
    if parts:
        print("\n\n".join(parts))
    if graph:
        from skep.filter.graph import svg

        picture = svg(insns, linktype)
        if graph == "-":
            sys.stdout.write(picture)
        else:
            from skep.cli.whole import write_whole

            write_whole(graph, picture.encode())
    return 0


def _columns() -> int:
    """Width of the terminal that the listing goes to, 0 when it goes elsewhere."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    except (OSError, ValueError):
        return 0


def _compile(args: Arguments) -> tuple[Sequence[ClassicInsn], int]:
    """(classic code, DLT): for -r's capture, -i's interface, -y's link type or Ethernet."""
    inputs = list(args.list("inputs"))
    interface = args.value("interface")
    request = recipe(args, interface=interface)
    length = snaplen(args.groups[0].snaplen)
    if len(inputs) > 1:
        raise Usage("a listing is for one link type: give one -r at most")
    if inputs:
        from skep import capture

        with capture.open(inputs[0]) as reader:
            linktype = request.linktype if request.linktype is not None else reader.linktype
            swapped = reader.byteorder != sys.byteorder
            return request.compile(linktype, reader.snaplen, savefile=True, swapped=swapped), linktype
    if interface is not None:
        from skep.tap.live import link_of

        linktype = link_of(interface, request.linktype)
        return request.compile(linktype, length, live=True), linktype
    linktype = _EN10MB if request.linktype is None else request.linktype
    return request.compile(linktype, min(length, MAXIMUM_SNAPLEN)), linktype


def _machine_code(insns: Sequence[ClassicInsn], interface: str | None) -> list[str]:
    from skep.tap.prepare import asks_the_kernel, native

    if asks_the_kernel(insns):
        where = f"on {interface} this filter runs" if interface else "it would run"
        raise SkepError(
            "there is no machine code of ours for a filter that asks for a packet's metadata (inbound, "
            f"ifindex, a VLAN tag beside the packet): {where} in the kernel, which has them; --ebpf shows it"
        )

    code, _, missing = native(insns)
    if code is None:
        raise SkepError(missing)
    try:
        import capstone
    except ImportError:
        raise MissingDependency("listing machine code (--native)", extra="native") from None
    modes = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }
    machine = os.uname().machine
    if machine not in modes:
        raise SkepError(f"machine code of {machine} cannot be listed here")
    start = code.image.address("match")
    engine = capstone.Cs(*modes[machine])
    return [
        f"{address:6x}: {raw.hex():<22} {mnemonic} {operands}".rstrip()
        for address, size, mnemonic, operands in engine.disasm_lite(code.image.code("match"), 0)
        for raw in (code.image.code("match")[address : address + size],)
    ] or [f"; no code at {start:#x}"]


def link_types(interface: str | None) -> int:
    """All link types by name, as -y takes them; those of ``interface``, as tcpdump lists them."""
    from skep.capture.linktype_names import NAMES

    if interface is not None:
        from skep.tap.link import Link
        from skep.tap.prepare import title

        linktypes = Link(interface).linktypes
        print(f"Data link types for {interface} (use option -y to set):")
        for number in linktypes:
            print(f"  {title(number)}")
        return 0
    for name, description in NAMES.values():
        print(f"{name:<28} {description}")
    return 0


def interfaces() -> int:
    """The interfaces of this network namespace, with the numbers that -i takes."""
    import socket

    from skep.tap.link import states

    for number, name in socket.if_nameindex():
        try:
            words = states(name)
        except OSError:  # it has just gone
            words = []
        print(f"{number}.{name}" + (f" [{', '.join(words)}]" if words else ""))
    print("  any (all of them)")
    return 0
