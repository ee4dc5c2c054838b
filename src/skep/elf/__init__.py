"""ELF objects, read and written: 64-bit, both byte orders (System V gABI, chapter 4).

The names are loaded when first used: reading BTF that is no ELF file needs none of them.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs more than all of skep.btf: start-up counts
if TYPE_CHECKING:
    from typing import Any

    from skep.elf.read import Elf as Elf
    from skep.elf.read import Relocation as Relocation
    from skep.elf.read import Section as Section
    from skep.elf.read import Symbol as Symbol
    from skep.elf.write import ElfBuilder as ElfBuilder

_HOMES = {
    "Elf": "skep.elf.read",
    "ElfBuilder": "skep.elf.write",
    "Relocation": "skep.elf.read",
    "Section": "skep.elf.read",
    "Symbol": "skep.elf.read",
}

__all__ = ["Elf", "ElfBuilder", "Relocation", "Section", "Symbol"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep.elf' has no attribute {name!r}")
    return getattr(__import__(home, fromlist=[name]), name)
