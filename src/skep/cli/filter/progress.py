"""A progress bar on standard error, drawn only once the work has taken a while."""

from __future__ import annotations

import sys
import time
from typing import Any

_AFTER = 0.7  # seconds before anything is drawn; rich takes 60 ms to import


class Bar:
    """Progress over ``size`` bytes of ``name``: with rich where it is installed, else a plain percentage."""

    _EVERY = 0.1  # seconds between two drawings

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._start = self._last = time.monotonic()
        self._rich: Any = None
        self._task: Any = None
        self._plain = False

    def at(self, done: int) -> None:
        """Work has come to byte ``done``."""
        now = time.monotonic()
        if now - self._start < _AFTER or now - self._last < self._EVERY:
            return
        self._last = now
        if self._rich is None and not self._plain:
            self._begin(done)
        if self._rich is not None:
            self._rich.update(self._task, completed=done)
        else:
            sys.stderr.write(f"\r{self._name}: {100 * done // max(1, self._size)} %")
            sys.stderr.flush()

    def _begin(self, done: int) -> None:
        try:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
        except ImportError:
            self._plain = True
            return
        self._rich = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._rich.add_task(self._name, total=self._size, completed=done)
        self._rich.start()

    def close(self) -> None:
        """Remove it."""
        if self._rich is not None:
            self._rich.stop()
        elif self._plain:
            sys.stderr.write("\r\x1b[K")
