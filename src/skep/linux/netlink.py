"""A small rtnetlink client: what attaching programs needs (interfaces, qdiscs, filters, routes), no more.

Attributes are (type, bytes); integers in host byte order unless a comment says otherwise. Rules from
<linux/netlink.h>, <linux/rtnetlink.h>.
"""

from __future__ import annotations

# `socket` and `contextlib` bring enums and more along, which take longer than a listing
import _socket as socket
import errno
import os
import struct

from skep.errors import KernelError
from skep.linux.reasons import refused
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Final, Self


NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4
NLM_F_ECHO: Final = 8
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLA_F_NESTED: Final = 0x8000

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_CAPPED: Final = 0x100
_NLM_F_ACK_TLVS: Final = 0x200
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NLMSGERR_ATTR_MSG: Final = 1
_CLONE_NEWNET: Final = 0x40000000

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTR = struct.Struct("=HH")  # length, type


class Message(NamedTuple):
    """A reply: its type and what follows the header."""

    type: int
    payload: bytes


def attr(type: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = 4 + len(data)
    return _ATTR.pack(length, type) + data + b"\0" * (-length % 4)


def u32(type: int, value: int) -> bytes:
    return attr(type, struct.pack("=I", value & 0xFFFFFFFF))


def s32(type: int, value: int) -> bytes:
    return attr(type, struct.pack("=i", value))


def text(type: int, value: str) -> bytes:
    return attr(type, value.encode() + b"\0")


def nest(type: int, attrs: Iterable[bytes]) -> bytes:
    return attr(type | NLA_F_NESTED, b"".join(attrs))


def attrs(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes that ``data`` holds from byte ``start``; ends at the first that does not fit."""
    at = start
    while at + 4 <= len(data):
        length, kind = _ATTR.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + 3 & ~3


class Netlink:
    """A NETLINK_ROUTE socket in the calling thread's network namespace. A context manager."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            raise refused(error.errno or 0, "netlink") from None
        self._sequence = 0
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                continue  # before Linux 4.12: errors come without words
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def request(self, name: str, type: int, payload: bytes, flags: int = 0) -> list[Message]:
        """Send one request and collect its replies up to the acknowledgement (or a dump's end).

        Raises:
            KernelError: the kernel refused; ``name`` is in the message, with the kernel's own words.
        """
        self._sequence += 1
        flags |= NLM_F_REQUEST | (0 if flags & NLM_F_DUMP == NLM_F_DUMP else NLM_F_ACK)
        head = _HEADER.pack(_HEADER.size + len(payload), type, flags, self._sequence, 0)
        try:
            self._socket.send(head + payload)
            return list(self._replies(name))
        except KernelError:
            raise
        except OSError as error:
            raise refused(error.errno or 0, name) from None

    def _replies(self, name: str) -> Iterator[Message]:
        while True:
            data = self._socket.recv(1 << 18)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                if length < _HEADER.size:
                    break
                payload = data[at + _HEADER.size : at + length]
                at += length + 3 & ~3
                if sequence != self._sequence:
                    continue
                if kind == _NLMSG_ERROR:
                    _raise(name, payload, flags)
                    return
                if kind == _NLMSG_DONE:
                    return
                yield Message(kind, payload)


def _raise(name: str, payload: bytes, flags: int) -> None:
    code = -struct.unpack_from("=i", payload)[0]
    if not code:
        return
    words = ""
    if flags & _NLM_F_ACK_TLVS:
        # after the error comes the request's header, and with it its payload unless it was capped
        start = 4 + (16 if flags & _NLM_F_CAPPED else struct.unpack_from("=I", payload, 4)[0] + 3 & ~3)
        for kind, data in attrs(payload, start):
            if kind == _NLMSGERR_ATTR_MSG:
                words = data.rstrip(b"\0").decode(errors="replace")
    error = refused(code, name)
    if words and type(error) is KernelError:
        error = KernelError(code, f"{os.strerror(code)}: {words}", cmd=name)
    raise error


# --- names and namespaces ------------------------------------------------------------------------


def interface_index(interface: str | int) -> int:
    """The index of an interface in the current network namespace.

    Raises:
        KernelError: ENODEV, no such interface.
    """
    if isinstance(interface, int):
        if 0 < interface < 1 << 31:
            return interface
        raise KernelError(errno.ENODEV, f"no network interface has index {interface}")
    try:
        return socket.if_nametoindex(interface)
    except (OSError, ValueError, TypeError):  # no such one; a zero byte in it; no name at all
        raise KernelError(errno.ENODEV, f"no network interface is called {interface!r}") from None


def open_netns(netns: str | int | None) -> int:
    """A new descriptor of a network namespace: a name as of `ip netns`, a path, a pid, or None for ours."""
    if netns is None:
        path = "/proc/thread-self/ns/net"
    elif isinstance(netns, int):
        path = f"/proc/{netns}/ns/net"
    else:
        path = netns if "/" in netns else f"/run/netns/{netns}"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, f"network namespace {netns}: {error.strerror}") from None


class in_netns:  # noqa: N801 - used as a function, as contextlib would make it
    """Be in another network namespace for a while: the calling thread alone. None: stay."""

    __slots__ = ("_home", "_netns")

    def __init__(self, netns: str | int | None) -> None:
        self._netns = netns
        self._home = -1

    def __enter__(self) -> None:
        if self._netns is None:
            return
        self._home = open_netns(None)
        try:
            away = open_netns(self._netns)
            try:
                _setns(away)
            finally:
                os.close(away)
        except BaseException:
            os.close(self._home)
            raise

    def __exit__(self, *error: object) -> None:
        if self._netns is None:
            return
        try:
            _setns(self._home)
        finally:
            os.close(self._home)


def _setns(fd: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        raise refused(ctypes.get_errno(), "setns")
