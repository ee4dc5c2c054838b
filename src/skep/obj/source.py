"""An object file while it is read: what the parts of the reader share."""

from __future__ import annotations

from sys import byteorder

from skep.elf import constants as c
from skep.elf.read import Elf, Section, Symbol
from skep.errors import LinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf
    from skep.obj.ext import Records
    from skep.obj.spec import ObjectSpec

NATIVE: Final = "<" if byteorder == "little" else ">"


class Function:
    """Where a function lies: bytes ``start`` to ``end`` of its section."""

    __slots__ = ("end", "is_func", "is_global", "is_hidden", "is_weak", "key", "name", "start")

    def __init__(
        self, name: str, start: int, end: int, *, bind: int, visibility: int, is_func: bool = True
    ) -> None:
        self.name = self.key = name
        self.start = start
        self.end = end
        self.is_hidden = visibility in (c.STV_HIDDEN, c.STV_INTERNAL)
        self.is_global = bind != c.STB_LOCAL and not self.is_hidden
        self.is_weak = bind == c.STB_WEAK
        self.is_func = is_func


class Source:
    """``elf`` and what is known of its parts by number."""

    __slots__ = (
        "btf",
        "code",
        "data_maps",
        "elf",
        "ext",
        "extern_keys",
        "functions",
        "map_at",
        "names",
        "spec",
        "symbols",
        "symbols_in",
    )

    def __init__(self, elf: Elf, spec: ObjectSpec) -> None:
        self.elf = elf
        self.spec = spec
        self.names = [section.name for section in elf.sections]
        self.symbols = elf.symbols
        #: section number -> its symbols, ascending by value
        self.symbols_in: dict[int, list[Symbol]] = {}
        for symbol in self.symbols[1:]:
            self.symbols_in.setdefault(symbol.section, []).append(symbol)
        self.btf: Btf | None = None
        self.ext: Records | None = None
        #: number of each section of instructions -> its bytes in host order
        self.code: dict[int, bytes] = {}
        #: number of a section of instructions -> its functions, ascending by start
        self.functions: dict[int, list[Function]] = {}
        #: (section number, byte) -> map declared there
        self.map_at: dict[tuple[int, int], str] = {}
        #: number of a section of global data -> map
        self.data_maps: dict[int, str] = {}
        #: number of an undefined symbol -> key in spec.externs
        self.extern_keys: dict[int, str] = {}

    @property
    def where(self) -> str:
        """The file's name for messages."""
        return self.elf.path or self.spec.name or "object"

    def error(self, section: int, offset: int, reason: str) -> LinkError:
        """A LinkError about a byte of a section."""
        return LinkError(f"{self.where}: section {self.names[section]!r} byte {offset:#x}: {reason}")

    def section_named(self, name: str) -> Section | None:
        """The first section called ``name``."""
        for index, known in enumerate(self.names):
            if known == name:
                return self.elf.sections[index]
        return None

    def function_at(self, section: int, start: int) -> Function | None:
        """The function that starts at this byte of a section."""
        for function in self.functions.get(section, ()):
            if function.start == start:
                return function
        return None


def is_text(name: str) -> bool:
    """Whether a section of instructions holds functions to call rather than programs."""
    return name == ".text" or name.startswith(".text.")
