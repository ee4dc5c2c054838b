"""skep: the whole BPF system for Python.

The names here are loaded when first used, so that `import skep` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skep.errors import SkepError as SkepError

__version__ = "0.1.0"

_HOMES = {
    "SkepError": "skep.errors",
}

__all__ = ["SkepError", "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
