"""Loading an object's types, made to fit kernels that lack some kinds.

Ids and string offsets must stay what programs and maps say, so a kind is replaced in place by one of the
same length: what libbpf does, and with the same replacements.
"""

from __future__ import annotations

import struct

from skep.errors import KernelError
from skep.kernel.protocol import Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.btf import Btf


def load(kernel: Kernel, data: bytes) -> int:
    """A descriptor of ``data`` in the kernel. Raises KernelError with the kernel's log."""
    try:
        return kernel.btf_load(data)
    except KernelError as error:
        from skep.kernel import probes

        if probes.refuses_all(error):
            raise
        lacking = {name for name in probes.BTF_KINDS if not probes.btf_kind(kernel, name)}
        if not lacking:
            raise
    return kernel.btf_load(adapt(data, lacking))


def adapt(data: bytes, lacking: set[str]) -> bytes:
    """The same types without those kinds (keys of `probes.BTF_KINDS`)."""
    from skep.btf import Btf
    from skep.btf import types as t

    btf = Btf(data)
    raw = bytearray(data)
    order = btf.order
    names: set[int] = set()
    for id, value in btf.items():
        kind, at = value[0], btf.offset_of(id)
        words = list(struct.unpack_from(order + "3I", raw, at))
        vlen = words[1] & 0xFFFF
        if (kind == t.VAR and "datasec" in lacking) or (kind == t.DECL_TAG and "decl_tag" in lacking):
            words[1:] = [t.INT << 24, 1]
            struct.pack_into(order + "I", raw, at + 12, 8)
        elif kind == t.DATASEC and "datasec" in lacking:
            words[1] = t.STRUCT << 24 | vlen
            names.add(words[0])
            for index, row in enumerate(value[3]):
                var_name = struct.unpack_from(order + "I", data, btf.offset_of(row[0]))[0]
                struct.pack_into(order + "3I", raw, at + 12 + 12 * index, var_name, row[0], row[1] * 8)
        elif kind == t.DATASEC and value[1].startswith("?") and "optional datasec" in lacking:
            raw[_string(raw, order, words[0])] = ord("_")
        elif kind == t.FUNC and "func" in lacking:
            words[1] = t.TYPEDEF << 24
        elif kind == t.FUNC_PROTO and "func" in lacking:
            words[1:] = [t.ENUM << 24 | vlen, 4]
        elif kind == t.FUNC and "global func" in lacking:
            words[1] &= ~0xFFFF
        elif kind == t.FLOAT and "float" in lacking:
            words[1] = t.STRUCT << 24
        elif kind == t.TYPE_TAG and "type_tag" in lacking:
            words[:2] = [0, t.CONST << 24]
        elif kind == t.ENUM and words[1] >> 31 and "enum64" in lacking:
            words[1] &= ~(1 << 31)  # that its values are signed is told since the same version
        elif kind == t.ENUM64 and "enum64" in lacking:
            words[1] = t.UNION << 24 | vlen
            filler = _small_int(btf, words[2])
            for index in range(vlen):
                struct.pack_into(order + "2I", raw, at + 12 + 12 * index + 4, filler, 0)
        else:
            continue
        struct.pack_into(order + "3I", raw, at, *words)
    for name in names:
        _plain_name(raw, btf, name)
    return bytes(raw)


def _small_int(btf: Btf, size: int) -> int:
    from skep.btf.types import INT

    for id, value in btf.items():
        if value[0] == INT and value[2] <= size:
            return id
    return 0


def _plain_name(raw: bytearray, btf: Btf, offset: int) -> None:
    """Structs have no dots in their names, as sections do."""
    at = _string(raw, btf.order, offset)
    while raw[at]:
        if not (chr(raw[at]).isalnum() or raw[at] == 0x5F):
            raw[at] = 0x5F
        at += 1


def _string(raw: bytearray, order: str, offset: int) -> int:
    """Where a string starts."""
    head, _, _, start, _ = struct.unpack_from(order + "5I", raw, 4)
    at: int = head + start + offset
    return at
