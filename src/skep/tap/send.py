"""Sending frames through an interface."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterable

from skep.errors import KernelError, PermissionDenied, SkepError
from skep.tap.link import Link, mtu

_SLEEP = 0.0005  # seconds; a shorter wait is spent in the loop
_RETRIES = 2000  # of 1 ms each while the device's queue is full


class Sender:
    """Sends whole frames, link-level header included, on one interface; a context manager.

    ``sent`` counts frames. ``pps`` in `send_all` is frames a second (None: as fast as they go).

    Raises:
        PermissionDenied: CAP_NET_RAW is missing. KernelError: no such interface.
    """

    def __init__(self, interface: str) -> None:
        self.link = Link(interface)
        self.sent = 0
        if self.link.cooked:
            raise SkepError(f"frames cannot be sent on {interface}: pick one Ethernet or raw IP interface")
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise PermissionDenied(
                errno.EPERM, "sending needs CAP_NET_RAW (run as root)", missing="CAP_NET_RAW", cmd="socket"
            ) from None
        self._socket.bind((interface, 0))

    def send(self, frame: bytes) -> None:
        """Send one frame.

        Raises:
            KernelError: the device refuses it (too long for its MTU, say), is down or stays busy.
        """
        for _ in range(_RETRIES):
            try:
                self._socket.send(frame)
            except OSError as error:
                if error.errno in (errno.ENOBUFS, errno.EAGAIN):
                    time.sleep(0.001)
                    continue
                name, reason = self.link.name, error.strerror
                if error.errno == errno.EMSGSIZE:
                    reason = f"longer than its MTU of {mtu(name)} allows (ip link set {name} mtu ...)"
                hint = f" (frame {self.sent + 1}, {len(frame)} bytes)"
                raise KernelError(error.errno or errno.EIO, f"{name}: {reason}{hint}") from None
            self.sent += 1
            return
        raise KernelError(errno.ENOBUFS, f"{self.link.name}: its queue stays full")

    def send_all(self, frames: Iterable[bytes], *, pps: float | None = None) -> int:
        """Send frames evenly; how many were sent. Raises ValueError where ``pps`` is not positive."""
        if pps is not None and not pps > 0:
            raise ValueError(f"pps {pps}: frames a second are more than 0")
        before, start = self.sent, time.monotonic()
        for number, frame in enumerate(frames):
            if pps is not None:
                while (left := start + number / pps - time.monotonic()) > 0:
                    if left > _SLEEP:
                        time.sleep(left - _SLEEP / 2)
            self.send(frame)
        return self.sent - before

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
