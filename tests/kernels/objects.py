"""Objects built once, outside, and what is to happen with each in every kernel."""

from __future__ import annotations

from collections.abc import Callable

STEPS: dict[str, Callable[[str], None]] = {}
