"""Packets through filters: captures scanned by native code, live interfaces, sending.

The names are loaded when first used, so that a warm `skep filter` imports only what it runs.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from typing import Any

    from skep.tap.filter import Batch as Batch
    from skep.tap.filter import Filter as Filter
    from skep.tap.filter import Match as Match
    from skep.tap.live import Capture as Capture
    from skep.tap.live import Counts as Counts
    from skep.tap.live import capture as capture
    from skep.tap.ring import LivePacket as LivePacket
    from skep.tap.send import Sender as Sender

_HOMES = {
    "Batch": "filter",
    "Capture": "live",
    "Counts": "live",
    "Filter": "filter",
    "LivePacket": "ring",
    "Match": "filter",
    "Sender": "send",
    "capture": "live",
}

__all__ = ["Batch", "Capture", "Counts", "Filter", "LivePacket", "Match", "Sender", "capture"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep.tap' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"skep.tap.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
