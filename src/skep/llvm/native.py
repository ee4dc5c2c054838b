"""Native code from an object file to callable pages, without LLVM.

A small linker for 64-bit little-endian relocatable ELF (x86-64 and aarch64): code and read-only data
are laid out in one image, relocated, written to a sealed memory file and mapped read-execute. The
pages are never writable and executable together, not even through another mapping.

The object may come from disk, so every offset, size and index is checked: damage raises `LinkError`.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct

from skep import foreign
from skep.errors import LinkError
from skep.llvm.relocate import MACHINES, SPREAD, relocate, stub

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm start 5 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Final, Self

_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR: Final = struct.Struct("<IIQQQQIIQQ")
_SYM: Final = struct.Struct("<IBBHQQ")
_RELA: Final = struct.Struct("<QQq")

_ET_REL: Final = 1
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL = 1, 2, 4, 8, 9
_SHF_WRITE, _SHF_ALLOC, _SHF_TLS = 1, 2, 0x400
_SHN_LORESERVE: Final = 0xFF00

#: Functions of the C library that LLVM may call of its own accord.
LIBRARY: Final = frozenset(("memcpy", "memmove", "memset", "memcmp", "bcmp"))
#: Larger images are refused (the small code model reaches 2 GiB; programs have at most a million slots).
MAX_IMAGE: Final = 256 << 20

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 0x10
_F_ADD_SEALS: Final = 1033
_ALL_SEALS: Final = 1 | 2 | 4 | 8  # no more seals, no shrinking, growing or writing


class _Section:
    __slots__ = ("align", "flags", "info", "kind", "link", "offset", "size")

    def __init__(
        self, kind: int, flags: int, offset: int, size: int, link: int, info: int, align: int
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.offset = offset
        self.size = size
        self.link = link
        self.info = info
        self.align = align


class _Symbol:
    __slots__ = ("name", "section", "size", "value")

    def __init__(self, name: str, section: int, value: int, size: int) -> None:
        self.name = name
        self.section = section
        self.value = value
        self.size = size


class Image:
    """Executable pages and the addresses of their global symbols.

    Addresses are valid until `close`; calling one afterwards crashes the process, so keep the image
    as long as the function. A context manager; also closed when it is collected.
    """

    __slots__ = ("_base", "_close", "_sizes", "_symbols", "size", "spread")

    def __init__(
        self,
        libc: _Libc,
        base: int,
        size: int,
        symbols: dict[str, int],
        sizes: dict[str, int],
        spread: int,
    ) -> None:
        self._base = base
        #: address of `skep.llvm.relocate.SPREAD`
        self.spread = spread
        #: bytes of code and constants
        self.size = size
        self._symbols = symbols
        self._sizes = sizes
        self._close = libc.munmap

    def address(self, symbol: str) -> int:
        """Address of a global symbol.

        Raises:
            LinkError: the object does not define it, or the image is closed.
        """
        if not self._base:
            raise LinkError("the image is closed")
        try:
            return self._symbols[symbol]
        except KeyError:
            raise LinkError(f"the object does not define {symbol!r}") from None

    def symbol_size(self, symbol: str) -> int:
        """Bytes of a global symbol's code or data, as the object says."""
        self.address(symbol)
        return self._sizes[symbol]

    def code(self, symbol: str) -> bytes:
        """A copy of the symbol's bytes (machine code, for a listing)."""
        import ctypes  # for listings only

        return ctypes.string_at(self.address(symbol), self._sizes[symbol])

    def close(self) -> None:
        """Unmap the pages. Closing twice is harmless."""
        base, self._base = self._base, 0
        if base:
            self._close(base, _pages(self.size))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def load(obj: bytes, *, symbols: Mapping[str, int] | None = None) -> Image:
    """Link ``obj`` and map it executable.

    ``symbols`` gives addresses of symbols that the object leaves undefined (functions); the few of the
    C library that compilers call (`LIBRARY`) are found without it.

    Raises:
        LinkError: the object is damaged, of another architecture, has writable data or symbols that
            nobody defines, or the system refuses executable memory.
    """
    linker = _Linker(obj, symbols or {})
    size = len(linker.image)
    libc = _Libc()
    base = _reserve(libc, size)
    try:
        linker.link(base)
        _map(libc, base, linker.image)
    except BaseException:
        libc.munmap(base, _pages(size))
        raise
    names: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for symbol in linker.exported():
        names[symbol.name] = base + linker.place[symbol.section] + symbol.value
        sizes[symbol.name] = symbol.size
    return Image(libc, base, size, names, sizes, base + linker.spread)


def place(code: bytes, symbols: Mapping[str, int]) -> Image:
    """Map finished position-independent code executable; ``symbols`` are offsets in it.

    Raises:
        LinkError: a symbol is outside, or the system refuses executable memory.
    """
    if not all(0 <= offset < len(code) for offset in symbols.values()):
        raise LinkError("native code: a symbol lies outside")
    libc = _Libc()
    base = _reserve(libc, len(code))
    try:
        _map(libc, base, bytearray(code))
    except BaseException:
        libc.munmap(base, _pages(len(code)))
        raise
    names = {name: base + offset for name, offset in symbols.items()}
    starts = sorted((*symbols.values(), len(code)))
    sizes = {name: starts[starts.index(offset) + 1] - offset for name, offset in symbols.items()}
    return Image(libc, base, len(code), names, sizes, 0)


class _Linker:
    """One object: parsed and laid out on construction, relocated by `link`."""

    def __init__(self, obj: bytes, symbols: Mapping[str, int]) -> None:
        self.obj = obj
        self.given = symbols
        self.sections = self._read_sections()
        self.symtab, self.strings = self._find_symbols()
        self.place: dict[int, int] = {}
        self.stubs: dict[str, int] = {}
        self.image = self._lay_out()
        self.undefined = len(self.image)

    def _bad(self, why: str) -> LinkError:
        return LinkError(f"native object: {why}")

    def _read_sections(self) -> list[_Section]:
        obj = self.obj
        if len(obj) < _EHDR.size or obj[:4] != b"\x7fELF":
            raise self._bad("not an ELF file")
        ident, kind, machine, _, _, _, shoff, _, _, _, _, shentsize, shnum, _ = _EHDR.unpack_from(obj)
        if ident[4:6] != b"\x02\x01" or kind != _ET_REL:
            raise self._bad("not a 64-bit little-endian relocatable file")
        wanted = MACHINES.get(os.uname().machine)
        if machine != wanted:
            raise self._bad(f"made for machine {machine}, this one is {os.uname().machine}")
        self.machine: int = machine
        if shentsize != _SHDR.size or not shnum or shoff > len(obj) or shnum * 64 > len(obj) - shoff:
            raise self._bad("its section table is outside the file")
        sections = []
        for index in range(shnum):
            _, skind, flags, _, offset, size, link, info, align, _ = _SHDR.unpack_from(
                obj, shoff + 64 * index
            )
            if index and skind != _SHT_NOBITS and (offset > len(obj) or size > len(obj) - offset):
                raise self._bad(f"section {index} is outside the file")
            sections.append(_Section(skind, flags, offset, size, link, info, align))
        return sections

    def _find_symbols(self) -> tuple[_Section | None, _Section | None]:
        for section in self.sections:
            if section.kind == _SHT_SYMTAB:
                if section.link >= len(self.sections) or section.size % _SYM.size:
                    raise self._bad("its symbol table is damaged")
                return section, self.sections[section.link]
        return None, None

    def _lay_out(self) -> bytearray:
        image = bytearray()
        for index, section in enumerate(self.sections):
            if not section.flags & _SHF_ALLOC or not section.size:
                continue
            if section.flags & (_SHF_WRITE | _SHF_TLS):
                # Tables of addresses are born writable only for a dynamic linker; they are constants here.
                if section.kind != _SHT_PROGBITS or not self._is_relro(index):
                    raise self._bad("it has writable data, which native code here may not have")
            elif section.kind != _SHT_PROGBITS:
                continue  # unwind tables and notes
            align = section.align or 1
            if align & (align - 1) or align > mmap.PAGESIZE:
                raise self._bad(f"section {index} asks for an alignment of {align}")
            image += bytes(-len(image) % align)
            if len(image) + section.size > MAX_IMAGE:
                raise self._bad(f"larger than {MAX_IMAGE >> 20} MiB")
            self.place[index] = len(image)
            image += self.obj[section.offset : section.offset + section.size]
        # Room for one stub of 16 bytes for each undefined symbol.
        image += bytes(-len(image) % 16)
        self.stub_base = len(image)
        if self.symtab is not None:
            for index in range(self.symtab.size // _SYM.size):
                symbol = self._symbol(index)
                if symbol.section == 0 and symbol.name and symbol.name not in self.stubs:
                    self.stubs[symbol.name] = len(image)
                    image += bytes(16)
        if not image:
            raise self._bad("it has no code")
        self.spread = len(image)
        image += SPREAD[self.machine]
        return image

    def _is_relro(self, index: int) -> bool:
        shstr = _EHDR.unpack_from(self.obj)[13]
        if shstr >= len(self.sections):
            return False
        at = _EHDR.unpack_from(self.obj)[6] + 64 * index
        name = self._string(self.sections[shstr], _SHDR.unpack_from(self.obj, at)[0])
        return name.startswith(".data.rel.ro")

    def _string(self, table: _Section, at: int) -> str:
        if at >= table.size:
            raise self._bad("a name is outside its string table")
        end = self.obj.find(b"\0", table.offset + at, table.offset + table.size)
        if end < 0:
            raise self._bad("a name does not end")
        return self.obj[table.offset + at : end].decode("utf-8", "replace")

    def _symbol(self, index: int) -> _Symbol:
        assert self.symtab is not None and self.strings is not None
        if index >= self.symtab.size // _SYM.size:
            raise self._bad(f"symbol {index} does not exist")
        name, _, _, section, value, size = _SYM.unpack_from(self.obj, self.symtab.offset + index * _SYM.size)
        return _Symbol(self._string(self.strings, name) if name else "", section, value, size)

    def exported(self) -> list[_Symbol]:
        """Global symbols that the image holds."""
        if self.symtab is None:
            return []
        found = []
        for index in range(self.symtab.size // _SYM.size):
            at = self.symtab.offset + index * _SYM.size
            if self.obj[at + 4] >> 4 not in (1, 2):
                continue
            symbol = self._symbol(index)
            if symbol.section in self.place:
                room = self.sections[symbol.section].size
                if symbol.value > room or symbol.size > room - symbol.value:
                    raise self._bad(f"symbol {symbol.name!r} is outside its section")
                found.append(symbol)
        return found

    def link(self, base: int) -> None:
        """Apply every relocation, for an image that will start at address ``base``."""
        for section in self.sections:
            if section.kind == _SHT_REL and section.info in self.place:
                raise self._bad("relocations without addends")
            if section.kind != _SHT_RELA or section.info not in self.place:
                continue
            if self.symtab is None or section.size % _RELA.size:
                raise self._bad("its relocations are damaged")
            place, room = self.place[section.info], self.sections[section.info].size
            data = self.obj[section.offset : section.offset + section.size]
            for offset, info, addend in _RELA.iter_unpack(data):
                target = self._target(base, info >> 32)
                problem = relocate(
                    self.machine, info & 0xFFFFFFFF, self.image, place, room, offset, base, target + addend
                )
                if problem:
                    raise self._bad(problem)
        for name, at in self.stubs.items():
            self.image[at : at + 16] = stub(self.machine, self._outside(name))

    def _target(self, base: int, index: int) -> int:
        symbol = self._symbol(index)
        if symbol.section == 0:
            if not symbol.name:
                raise self._bad("a relocation names no symbol")
            return base + self.stubs[symbol.name]
        if symbol.section >= _SHN_LORESERVE or symbol.section not in self.place:
            raise self._bad(f"symbol {symbol.name!r} lies in a section that is not loaded")
        return base + self.place[symbol.section] + symbol.value

    def _outside(self, name: str) -> int:
        address = self.given.get(name)
        if address is None and name in LIBRARY:
            address = foreign.address_of(name)
        if not address:
            raise LinkError(f"native object: nobody defines {name!r}")
        return address


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


class _Libc:
    """The C library's calls for memory, with types of our own. Made once for each image."""

    __slots__ = ("mmap", "mprotect", "munmap")

    def __init__(self) -> None:
        size, number = foreign.Size, foreign.Int
        self.mmap = foreign.library(
            "mmap", foreign.Address, foreign.Address, size, number, number, number, foreign.Long
        )
        self.munmap = foreign.library("munmap", number, foreign.Address, size)
        self.mprotect = foreign.library("mprotect", number, foreign.Address, size, number)


_PROT_NONE: Final = 0
_MAP_FIXED: Final = 0x10
_FAILED: Final = foreign.Address(-1).value


def _reserve(libc: _Libc, size: int) -> int:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base: int | None = libc.mmap(None, _pages(size), _PROT_NONE, flags, -1, 0)
    if base is None or base == _FAILED:
        raise LinkError(f"no room for {size} bytes of code: {os.strerror(foreign.get_errno())}")
    return base


def _map(libc: _Libc, base: int, image: bytearray) -> None:
    try:
        fd = _memory_file()
    except OSError:
        _map_without_file(libc, base, image)
        return
    try:
        view = memoryview(image)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
        protection = mmap.PROT_READ | mmap.PROT_EXEC
        flags = mmap.MAP_PRIVATE | _MAP_FIXED
        if libc.mmap(base, _pages(len(image)), protection, flags, fd, 0) == _FAILED:
            raise LinkError(f"executable memory is refused: {os.strerror(foreign.get_errno())}")
    except OSError as error:
        raise LinkError(f"executable memory is refused: {error.strerror}") from None
    finally:
        os.close(fd)


def _memory_file() -> int:
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        return os.memfd_create("skep", flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3
            raise
        return os.memfd_create("skep", flags)


def _map_without_file(libc: _Libc, base: int, image: bytearray) -> None:
    """Where memory files are forbidden: write first, then exchange writing for executing."""
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    if libc.mprotect(base, _pages(len(image)), writable):
        raise LinkError(f"memory is refused: {os.strerror(foreign.get_errno())}")
    import ctypes

    ctypes.memmove(base, bytes(image), len(image))
    if libc.mprotect(base, _pages(len(image)), mmap.PROT_READ | mmap.PROT_EXEC):
        raise LinkError(f"executable memory is refused: {os.strerror(foreign.get_errno())}")
