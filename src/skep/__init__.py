"""skep: the whole BPF system for Python.

The names here are loaded when first used, so that `import skep` stays light.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself is not imported: it would be a third of `import skep`
if TYPE_CHECKING:
    from typing import Any

    from skep.errors import SkepError as SkepError
    from skep.loading import load as load
    from skep.tap import Filter as Filter

__version__ = "0.1.0"

_HOMES = {
    "Filter": "skep.tap",
    "SkepError": "skep.errors",
    "load": "skep.loading",
}

__all__ = ["Filter", "SkepError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep' has no attribute {name!r}")
    return getattr(__import__(home, fromlist=[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
