"""Which link type an interface's frames have, and how they are asked for."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from skep.errors import KernelError

SIOCGIFFLAGS = 0x8913
SIOCGIFHWADDR = 0x8927
SIOCGIFMTU = 0x8921
SIOCGIFNETMASK = 0x891B

EN10MB, RAW, IEEE802_11, PRISM, RADIOTAP, LINUX_SLL, LINUX_SLL2 = 1, 12, 105, 119, 127, 113, 276

#: ARPHRD number (<linux/if_arp.h>) -> DLT of what a raw packet socket gives; all others are cooked
_HARDWARE = {
    1: EN10MB,
    772: EN10MB,  # loopback
    778: RAW,  # GRE
    65534: RAW,  # none: tun
    768: RAW,  # IP in IP
    769: RAW,
    776: RAW,  # sit
    519: RAW,  # raw IP
    801: IEEE802_11,
    802: PRISM,
    803: RADIOTAP,
}


class Link:
    """An interface of this network namespace.

    ``index`` is 0 and ``name`` "any" for all interfaces. ``linktype`` is a DLT number; ``cooked`` says
    that the link-level header is made up from the socket address (Linux cooked v1, v2 for "any", or the
    other one if ``wanted``).

    Raises:
        KernelError: there is no such interface, or its frames are not of the ``wanted`` link type.
    """

    __slots__ = ("cooked", "index", "linktype", "loopback", "name")

    def __init__(self, name: str, wanted: int | None = None) -> None:
        self.name = name
        self.loopback = False
        if name == "any":
            self.index, self.linktype, self.cooked = 0, LINUX_SLL2, True
        else:
            self._find(name)
        if wanted is not None and wanted != self.linktype:
            if wanted not in self.linktypes:
                from skep.capture.linktypes import name as called

                offered = " and ".join(called(number) for number in self.linktypes)
                raise KernelError(22, f"{name} gives {offered} packets, not {called(wanted)} (-y, linktype)")
            self.linktype = wanted

    @property
    def linktypes(self) -> tuple[int, ...]:
        """The DLT numbers that a capture can have, the usual one first."""
        if not self.cooked:
            return (self.linktype,)
        return (LINUX_SLL2, LINUX_SLL) if self.name == "any" else (LINUX_SLL, LINUX_SLL2)

    def _find(self, name: str) -> None:
        try:
            self.index = socket.if_nametoindex(name)
        except OSError as error:
            raise KernelError(
                error.errno or 19, f"there is no interface {name!r} (skep filter -D lists them)"
            ) from None
        hardware = _ioctl(name, SIOCGIFHWADDR)
        self.loopback = hardware == 772
        found = _HARDWARE.get(hardware)
        self.linktype = LINUX_SLL if found is None else found
        self.cooked = found is None


def by_number(name: str) -> str:
    """The interface that ``name`` means: one called so, or else the one with this number (its index)."""
    if name.isascii() and name.isdigit() and len(name) < 10:
        try:
            socket.if_nametoindex(name)
        except OSError:
            try:
                return socket.if_indextoname(int(name))
            except OSError:
                pass
    return name


def states(name: str) -> list[str]:
    """What tcpdump -D says of an interface: "Up", "Running", "Loopback"."""
    flags = _ioctl(name, SIOCGIFFLAGS)
    return [word for bit, word in ((1, "Up"), (64, "Running"), (8, "Loopback")) if flags & bit]


def mtu(name: str) -> int:
    """Largest payload of a frame in bytes, without the link-level header."""
    return _ioctl(name, SIOCGIFMTU, "=i")


def netmask(name: str) -> int:
    """Mask of an interface's IPv4 network (0xffffff00 for /24); 0 without an address, as in tcpdump."""
    try:
        return socket.ntohl(_ioctl(name, SIOCGIFNETMASK, "=4xI"))
    except OSError:
        return 0


def _ioctl(name: str, request: int, form: str = "=H") -> int:
    raw = os.fsencode(name)
    if len(raw) > 15:
        raise KernelError(19, f"there is no interface {name!r}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        answer = fcntl.ioctl(asker, request, struct.pack("16s24x", raw))
    value: int = struct.unpack_from(form, answer, 16)[0]
    return value


def counters(name: str) -> int | None:
    """Packets that an interface has received and sent since it exists; None when they cannot be read."""
    try:
        with open("/proc/self/net/dev", encoding="ascii") as file:
            lines = file.readlines()[2:]
    except OSError:
        return None
    total, found = 0, False
    for line in lines:
        device, _, numbers = line.partition(":")
        if name in ("any", device.strip()):
            fields = numbers.split()
            total += int(fields[1]) + int(fields[9])
            found = True
    return total if found else None
