"""Section names that are also the name of a function.

LLVM will not define a function ``xdp`` in a section ``xdp``: the assembler takes the second for the
section's own symbol. Such a section is called ``~xdp`` in IR; here the object gets its real name back.
Names are offsets into string tables, so the offset moves past the first character.
"""

from __future__ import annotations

import struct

_MARK = b"~"


def marked(section: str) -> str:
    """The name to give LLVM."""
    return "~" + section


def unmark(obj: bytes) -> bytes:
    """The object with real section names, in the section table and in .BTF.ext."""
    data = bytearray(obj)
    shoff = struct.unpack_from("<Q", data, 40)[0]
    shentsize, shnum, shstrndx = struct.unpack_from("<3H", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, shoff + i * shentsize) for i in range(shnum)]
    names = headers[shstrndx][4]
    btf = ext = None
    for i, header in enumerate(headers):
        at = names + header[0]
        if data[at : at + 1] == _MARK:
            struct.pack_into("<I", data, shoff + i * shentsize, header[0] + 1)
        elif data[at : at + 5] == b".BTF\0":
            btf = header[4]
        elif data[at : at + 9] == b".BTF.ext\0":
            ext = header[4]
    if btf is not None and ext is not None:
        _unmark_ext(data, btf, ext)
    return bytes(data)


def _unmark_ext(data: bytearray, btf: int, ext: int) -> None:
    """Each part of .BTF.ext (functions, lines, CO-RE) has a record size and then one block a section."""
    header, _, _, str_off, _ = struct.unpack_from("<5I", data, btf + 4)
    strings = btf + header + str_off
    ext_header = struct.unpack_from("<I", data, ext + 4)[0]
    for part in range((ext_header - 8) // 8):
        offset, length = struct.unpack_from("<2I", data, ext + 8 + 8 * part)
        at = ext + ext_header + offset
        end = at + length
        if not length:
            continue
        size = struct.unpack_from("<I", data, at)[0]
        at += 4
        while at < end:
            name, count = struct.unpack_from("<2I", data, at)
            if data[strings + name : strings + name + 1] == _MARK:
                struct.pack_into("<I", data, at, name + 1)
            at += 8 + size * count
