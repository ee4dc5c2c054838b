"""ELF objects, read and written: 64-bit, both byte orders (System V gABI, chapter 4)."""

from skep.elf.read import Elf, Relocation, Section, Symbol
from skep.elf.write import ElfBuilder

__all__ = ["Elf", "ElfBuilder", "Relocation", "Section", "Symbol"]
