"""SIGTERM ends a run as Ctrl-C does: what was to be written is written, counts are printed."""

from __future__ import annotations

# `signal` itself brings enum, which a warm run does without; typeshed has no stub of what is below it.
from _signal import SIGTERM, getsignal, signal  # type: ignore[import-not-found]  # has no stubs


class Endable:
    """A context in which SIGTERM raises KeyboardInterrupt."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = getsignal(SIGTERM)
        try:
            signal(SIGTERM, stop)
        except ValueError:  # only a main thread may
            self._before = None

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal(SIGTERM, self._before)


def stop(*_: object) -> None:
    """A handler of signals that end a run."""
    raise KeyboardInterrupt
