"""Where the functions of a program or library are in its file: what uprobes need of ELF.

Reads executables and shared objects of either class and byte order through a memory map; names are
searched as bytes, so that a large library costs no walk over its symbols. Rules: the ELF gABI; symbol
versions, the LSB's ".gnu.version".
"""

from __future__ import annotations

import mmap
import os
import struct

from skep.errors import ElfError, KernelError
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Final, Self


_SHT_SYMTAB: Final = 2
_SHT_DYNSYM: Final = 11
_SHT_NOTE: Final = 7
_SHT_NOBITS: Final = 8
_SHT_VERDEF: Final = 0x6FFFFFFD
_SHT_VERNEED: Final = 0x6FFFFFFE
_SHT_VERSYM: Final = 0x6FFFFFFF
_PT_LOAD: Final = 1
_FUNCTIONS: Final = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_HIDDEN_VERSION: Final = 0x8000
#: most sections and segments that are looked at: enough for any file, bounded for a damaged one
_MAX_HEADERS: Final = 1 << 20


class Section(NamedTuple):
    name: str
    type: int
    address: int
    offset: int
    size: int
    link: int
    entry_size: int


class Segment(NamedTuple):
    """A PT_LOAD segment. ``flags``: 1 execute, 2 write, 4 read."""

    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


class Symbol(NamedTuple):
    """A defined function: its name with "@VERSION" or "@@VERSION" where it has one, address, size."""

    name: str
    address: int
    size: int
    binding: int


class ElfFile:
    """An executable or shared object, mapped. A context manager.

    Raises:
        KernelError: the file cannot be opened (as open(2)).
        ElfError: it is not ELF, or damaged; with the byte offset.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
        except OSError as error:
            raise KernelError(error.errno or 0, f"{path}: {error.strerror}") from None
        except ValueError:
            raise KernelError(22, f"{path}: not a file that can be mapped") from None
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.data is not None:
            self.data.close()

    # --- headers ------------------------------------------------------------------------------

    def _fail(self, reason: str, offset: int) -> ElfError:
        return ElfError(reason, path=self.path, offset=offset)

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        assert self.data is not None
        try:
            return struct.unpack_from(self.order + layout, self.data, offset)
        except (struct.error, OverflowError):
            raise self._fail("the file ends inside a header", offset) from None

    def _read_header(self) -> None:
        if self.data is None or self.data[:4] != b"\x7fELF" or len(self.data) < 52:
            raise self._fail("not an ELF file", 0)
        width, order = self.data[4], self.data[5]
        if width not in (1, 2) or order not in (1, 2):
            raise self._fail("neither a 32-bit nor a 64-bit ELF file", 4)
        self.wide = width == 2
        self.order = "<" if order == 1 else ">"
        self.kind, self.machine = self._unpack("HH", 16)
        if self.wide:
            phoff, shoff = self._unpack("QQ", 32)
            phsize, phnum, shsize, shnum, names = self._unpack("5H", 54)
        else:
            phoff, shoff = self._unpack("II", 28)
            phsize, phnum, shsize, shnum, names = self._unpack("5H", 42)
        if shoff and shnum == 0:
            shnum = self._section_row(shoff)[5]
        if shoff and names == 0xFFFF:
            names = self._section_row(shoff)[6]
        if max(phnum, shnum) > _MAX_HEADERS or (shoff and shoff + shnum * shsize > len(self.data)):
            raise self._fail("the section table runs past the end", shoff)
        if shoff and shnum and shsize < (64 if self.wide else 40):
            raise self._fail(f"section headers of {shsize} bytes", shoff)
        self.segments = [
            segment for n in range(phnum) if (segment := self._segment(phoff + n * phsize)) is not None
        ]
        rows = [self._section_row(shoff + n * shsize) for n in range(shnum)] if shoff else []
        table = rows[names][4:6] if names < len(rows) else (0, 0)
        self.sections = [
            Section(self._string(table[0] + r[0], sum(table)), r[1], r[3], r[4], r[5], r[6], r[9])
            for r in rows
        ]

    def _section_row(self, at: int) -> tuple[int, ...]:
        # name, type, flags, address, offset, size, link, info, alignment, entry size
        return self._unpack("IIQQQQIIQQ" if self.wide else "10I", at)

    def _segment(self, at: int) -> Segment | None:
        if self.wide:
            kind, flags, offset, address, _, file_size, memory_size, _ = self._unpack("IIQQQQQQ", at)
        else:
            kind, offset, address, _, file_size, memory_size, flags, _ = self._unpack("8I", at)
        return Segment(flags, offset, address, file_size, memory_size) if kind == _PT_LOAD else None

    def _string(self, at: int, end: int) -> str:
        assert self.data is not None
        stop = self.data.find(b"\0", at, min(end, at + 4096))
        return self.data[at:stop].decode(errors="replace") if stop > at else ""

    def section(self, name: str) -> Section | None:
        return next((s for s in self.sections if s.name == name), None)

    def contents(self, section: Section) -> bytes:
        """A section's bytes, b"" for one that takes no room in the file."""
        assert self.data is not None
        if section.type == _SHT_NOBITS:
            return b""
        if section.offset + section.size > len(self.data):
            raise self._fail(f"section {section.name} runs past the end", section.offset)
        return self.data[section.offset : section.offset + section.size]

    # --- addresses ----------------------------------------------------------------------------

    def file_offset(self, address: int) -> int:
        """Where the byte that is mapped at ``address`` lies in the file.

        Raises:
            ElfError: no segment holds it.
        """
        for segment in self.segments:
            if segment.address <= address < segment.address + segment.memory_size:
                return address - segment.address + segment.offset
        raise ElfError(f"no segment holds address {address:#x}", path=self.path)

    # --- symbols ------------------------------------------------------------------------------

    def functions(self, name: str) -> list[Symbol]:
        """The defined functions of that name, "name" or with a version "name@V" or "name@@V"."""
        bare, _, version = name.partition("@")
        version = version.lstrip("@")
        found: dict[int, Symbol] = {}
        for table in self._symbol_tables():
            for symbol in self._named(table, bare):
                has = symbol.name.partition("@")[2].lstrip("@")
                if version and has != version:
                    continue
                found.setdefault(symbol.address, symbol)
        return list(found.values())

    def matching(self, pattern: str) -> list[Symbol]:
        """The defined functions whose names (without version) match ``pattern``, one for each address."""
        from fnmatch import fnmatchcase  # imports re: not for those who only probe by name

        found: dict[int, Symbol] = {}
        for table in self._symbol_tables():
            for index, name_at in self._rows(table):
                name = self._string(*self._in_strings(table, name_at))
                if name and fnmatchcase(name.partition("@")[0], pattern):
                    symbol = self._symbol(table, index, name)
                    if symbol is not None:
                        found.setdefault(symbol.address, symbol)
        return list(found.values())

    def _symbol_tables(self) -> Iterator[Section]:
        """.symtab, then .dynsym: each as far as it is whole."""
        for kind in (_SHT_SYMTAB, _SHT_DYNSYM):
            for section in self.sections:
                if section.type == kind:
                    if section.link >= len(self.sections):
                        raise self._fail(f"{section.name} has no string table", section.offset)
                    self.contents(section)
                    self.contents(self.sections[section.link])
                    yield section

    def _in_strings(self, table: Section, at: int) -> tuple[int, int]:
        strings = self.sections[table.link]
        return strings.offset + at, strings.offset + strings.size

    @property
    def _step(self) -> int:
        return 24 if self.wide else 16

    def _rows(self, table: Section) -> Iterator[tuple[int, int]]:
        """(index, offset of the name) of every symbol."""
        layout = "I20x" if self.wide else "I12x"
        data = self.contents(table)
        data = data[: len(data) - len(data) % self._step]
        for index, (name,) in enumerate(struct.iter_unpack(self.order + layout, data)):
            yield index, name

    def _named(self, table: Section, name: str) -> Iterator[Symbol]:
        """Search the strings for the name, then the symbols for its offset: no walk in Python.

        A string may be the tail of another's, and in .symtab carries its version ("name@@V").
        """
        assert self.data is not None
        strings = self.contents(self.sections[table.link])
        symbols = self.contents(table)
        for tail in (b"\0", b"@"):
            needle = name.encode() + tail
            at = strings.find(needle)
            while at >= 0:
                key = struct.pack(self.order + "I", at)
                place = symbols.find(key)
                while place >= 0:
                    if place % self._step == 0:
                        full = self._string(*self._in_strings(table, at))
                        symbol = self._symbol(table, place // self._step, full)
                        if symbol is not None:
                            yield symbol
                    place = symbols.find(key, place + 1)
                at = strings.find(needle, at + 1)

    def _symbol(self, table: Section, index: int, name: str) -> Symbol | None:
        at = table.offset + index * self._step
        if self.wide:
            _, info, _, section, value, size = self._unpack("IBBHQQ", at)
        else:
            _, value, size, info, _, section = self._unpack("IIIBBH", at)
        if info & 15 not in _FUNCTIONS or not section:
            return None
        if table.type == _SHT_DYNSYM:
            name += self._version(index)
        return Symbol(name, value, size, info >> 4)

    def _version(self, index: int) -> str:
        """ "@V" or, of the default one, "@@V"; "" for symbols without a version."""
        versym = next((s for s in self.sections if s.type == _SHT_VERSYM), None)
        verdef = next((s for s in self.sections if s.type == _SHT_VERDEF), None)
        if versym is None or verdef is None or 2 * index + 2 > versym.size:
            return ""
        (number,) = self._unpack("H", versym.offset + 2 * index)
        at, end = verdef.offset, verdef.offset + verdef.size
        while at + 20 <= end:
            _, flags, this, _, _, aux, step = self._unpack("HHHHIII", at)
            if this == number & ~_HIDDEN_VERSION and not flags & 1:
                (name,) = self._unpack("I", at + aux)
                version = self._string(*self._in_strings(verdef, name))
                return f"{'@' if number & _HIDDEN_VERSION else '@@'}{version}"
            if not step:
                break
            at += step
        return ""


def find_binary(name: str) -> str:
    """The path of a program (as the shell finds it) or library ("libc.so.6", as the loader finds it).

    Raises:
        KernelError: ENOENT, it is in none of the folders.
    """
    if "/" in name:
        return name
    machine = os.uname().machine
    if ".so" in name:
        folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
        for root in ("/lib", "/usr/lib"):
            folders += [f"{root}64", f"{root}/{machine}-linux-gnu", root]
        mode = os.R_OK
    else:
        folders = [*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        mode = os.X_OK
    for folder in folders:
        path = f"{folder}/{name}"
        if folder and os.path.isfile(path) and os.access(path, mode):
            return os.path.realpath(path)
    raise KernelError(2, f"{name} is neither a program nor a library here: give its path")


def debug_file(elf: ElfFile) -> str | None:
    """The file of separate debugging symbols, where one is installed: by build id."""
    section = elf.section(".note.gnu.build-id")
    if section is None:
        return None
    data = elf.contents(section)
    if len(data) < 16:
        return None
    name_size, size, _ = struct.unpack_from(elf.order + "III", data)
    start = 12 + (name_size + 3 & ~3)
    id = data[start : start + size].hex()
    path = f"/usr/lib/debug/.build-id/{id[:2]}/{id[2:]}.debug"
    return path if len(id) > 2 and os.path.isfile(path) else None


def function_offset(path: str, name: str) -> int:
    """The file offset of function ``name`` ("name", "name@VERSION") of the binary at ``path``.

    Raises:
        KernelError: ENOENT no such function, EINVAL several (versions: name one).
    """
    with ElfFile(path) as elf:
        found = elf.functions(name)
        if not found:
            other = debug_file(elf)
            if other is not None:
                with ElfFile(other) as debug:
                    found = debug.functions(name)
        if not found:
            raise KernelError(2, f"{path} has no function {name}")
        if len(found) > 1:
            found = _preferred(path, name, found)
        return elf.file_offset(found[0].address)


def _preferred(path: str, name: str, found: list[Symbol]) -> list[Symbol]:
    """Among several: the default version, then a global before weak ones and locals."""
    default = [s for s in found if "@@" in s.name] or found
    for binding in (1, 2, 0):
        best = [s for s in default if s.binding == binding]
        if len(best) == 1:
            return best
        if best:
            break
    names = ", ".join(sorted({s.name for s in found}))
    raise KernelError(22, f"{path} has {len(found)} functions {name} ({names}): give a version or an offset")
