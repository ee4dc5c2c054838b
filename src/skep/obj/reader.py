"""Reading an object file into an `ObjectSpec`."""

from __future__ import annotations

import os
import struct

from skep.elf import constants as c
from skep.elf.read import Elf
from skep.obj import data, externs, functions, legacy, maps, programs, relocs
from skep.obj.source import Source
from skep.obj.spec import ObjectSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


_NAME_BYTES: Final = 15


def read(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview, name: str | None = None
) -> ObjectSpec:
    """Read a BPF object: a path, or the file's contents.

    ``name`` is the object's name, which prefixes its global data in the kernel; by default the file's up to
    the first dot. Takes either byte order, REL and RELA, ``e_machine`` 0 and 247, symbols of all types, maps
    in BTF and older forms (docs/objects.md). Raises ElfError or BtfError for a damaged file (with section and
    offset), LinkError for one whose parts do not fit.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        elf, path = Elf(source), None
    else:
        path = os.fspath(source)
        elf = Elf.open(path)
    if elf.machine not in (c.EM_NONE, c.EM_BPF):
        raise elf.error(f"ELF machine {elf.machine}: BPF objects have 247 (or, old ones, 0)", 18)
    if elf.type != c.ET_REL:
        raise elf.error(f"ELF type {elf.type}: a relocatable object (1) is needed", 16)
    spec = ObjectSpec(_object_name(name, path), path)
    spec.byteorder = "little" if elf.order == "<" else "big"
    _fill(Source(elf, spec))
    return spec


def _object_name(name: str | None, path: str | None) -> str:
    if name is None:
        name = os.path.basename(path).split(".", 1)[0] if path else ""
    return name[:_NAME_BYTES]


def _fill(source: Source) -> None:
    try:
        _read_types(source)
        _read_words(source)
        functions.collect(source)
        data.note_layout(source)
        tails = legacy.collect(source)
        maps.collect(source)
        data.collect(source)
        externs.collect(source)
        maps.struct_ops(source)
        relocs.collect(source)
        programs.collect(source, tails)
    except RecursionError:  # a declaration nested without end
        raise source.elf.error("types nested too deep") from None


def _read_types(source: Source) -> None:
    section = source.section_named(".BTF")
    if section is None or not section.size:
        return
    from skep.btf.read import Btf

    btf = Btf(section.data, path=source.elf.path, origin=section.offset)
    source.btf = source.spec.btf = btf
    ext = source.section_named(".BTF.ext")
    if ext is not None and ext.size:
        from skep.obj.ext import read_records

        source.ext = read_records(ext.data, btf.strings, source.elf.path, ext.offset)


def _read_words(source: Source) -> None:
    """License and version."""
    spec = source.spec
    license = source.section_named("license")
    if license is not None:
        spec.license = bytes(license.data).split(b"\0", 1)[0].decode("utf-8", "replace")
    version = source.section_named("version")
    if version is not None and version.size == 4:
        spec.version = struct.unpack(source.elf.order + "I", version.data)[0]
