"""Programs from source text: written to a file, imported, compiled."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

HEADER = """\
from skep import bpf
from skep.bpf import be16, be32, be64, s8, s16, s32, s64, u8, u16, u32, u64
"""


def seed() -> int:
    """The seed of generated inputs: fixed unless SKEP_SEED overrides it."""
    return int(os.environ.get("SKEP_SEED", "20261121"))


def module(folder: Path, text: str, name: str = "program") -> ModuleType:
    """The module with this source, imported from a file of its own."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(f"skep_test_{name}_{os.urandom(4).hex()}", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made
