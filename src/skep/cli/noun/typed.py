"""Bytes shown as BTF describes them, in bpftool's way: what ``map dump`` prints as "formatted".

Values become what `jsontext` writes: structs are `Pairs`, arrays lists, enums their enumerators' names,
bitfields and 128-bit integers strings of hex digits; in plain text pointers and those are bare words.
"""

from __future__ import annotations

from sys import byteorder

from skep.btf import types as t
from skep.cli.noun.jsontext import Pairs, Raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skep.btf import Btf

_DEEPEST = 64


class Shown:
    """Turns bytes of ``btf``'s types into values. ``plain``: for text, not JSON.

    ``pointer``, when given, is asked first about the pointers to functions of struct_ops: it gets the id of
    the function's type and the pointer's value, and may answer text.
    """

    __slots__ = ("btf", "plain", "pointer")

    def __init__(
        self, btf: Btf, *, plain: bool = False, pointer: Callable[[int, int], str | None] | None = None
    ) -> None:
        self.btf = btf
        self.plain = plain
        self.pointer = pointer

    def value(self, type_id: int, data: bytes | bytearray | memoryview, at: int = 0, bit: int = 0) -> Any:
        """The value of type ``type_id`` at byte ``at`` (and bit ``bit`` of it) of ``data``."""
        return self._value(type_id, bytes(data), at, bit, 0)

    def _value(self, id: int, data: bytes, at: int, bit: int, depth: int) -> Any:
        if depth > _DEEPEST:
            self.btf.fail(id, f"types nested more than {_DEEPEST} deep")
        value = self.btf[id]
        kind = value[0]
        if kind == t.INT:
            return self._int(value, data, at, bit)
        if kind in (t.STRUCT, t.UNION):
            return self._composite(value, data, at, depth)
        if kind == t.ARRAY:
            return self._array(value, data, at, depth)
        if kind in (t.ENUM, t.ENUM64):
            return self._enum(value, data, at)
        if kind == t.PTR:
            return self._pointer(value, data, at)
        if kind == t.VAR:
            return Pairs([(value[1], self._value(value[2], data, at, bit, depth + 1))])
        if kind == t.DATASEC:
            items = [self._value(type_id, data, at + start, 0, depth + 1) for type_id, start, _ in value[3]]
            return Pairs([(value[1], items)])
        if kind == t.FLOAT:
            return self._float(value[2], data, at)
        if kind == t.TYPEDEF or kind in t.MODIFIERS:
            return self._value(self.btf.resolve(id), data, at, bit, depth + 1)
        if kind == t.VOID:
            return Raw("(unknown)") if self.plain else "(unknown)"
        self.btf.fail(id, "no value has this type")

    # --- one kind each -------------------------------------------------------------------------

    def _composite(self, value: Any, data: bytes, at: int, depth: int) -> Any:
        out = Pairs()
        for name, type_id, offset, bits in value[3]:
            start, bit = at + offset // 8, offset % 8
            if bits:
                out.append((name, self._bits(bits, data, start, bit)))
            else:
                out.append((name, self._value(type_id, data, start, bit, depth + 1)))
        return out

    def _array(self, value: Any, data: bytes, at: int, depth: int) -> Any:
        element, length = value[2], value[4]
        size = self.btf.size_of(element)
        if length and (shown := self._string(element, data[at : at + length])) is not None:
            return shown
        return [self._value(element, data, at + i * size, 0, depth + 1) for i in range(length)]

    def _string(self, element: int, data: bytes) -> str | None:
        """An array of char that holds printable ASCII up to a zero byte, as text."""
        value = self.btf[element]
        while value[0] in t.MODIFIERS:
            value = self.btf[value[2]]
        if value[0] != t.INT or value[2] != 1 or not (value[3] == t.CHAR or value[1] == "char"):
            return None
        text, zero, _ = data.partition(b"\0")
        if not zero or any(not 0x1F < byte < 0x7F for byte in text):
            return None
        return text.decode("ascii")

    def _enum(self, value: Any, data: bytes, at: int) -> Any:
        size: int = value[2]
        raw = data[at : at + size]
        mask = (1 << 8 * size) - 1
        number = int.from_bytes(raw, byteorder)
        for name, known in value[3]:
            if known & mask == number:
                return str(name)
        return int.from_bytes(raw, byteorder, signed=True)

    def _pointer(self, value: Any, data: bytes, at: int) -> Any:
        number = int.from_bytes(data[at : at + self.btf.ptr_size], byteorder)
        if self.pointer is not None and number <= 0xFFFFFFFF:
            target = self.btf.resolve(value[2])
            if self.btf[target][0] == t.FUNC_PROTO and (shown := self.pointer(target, number)) is not None:
                return shown
        if self.plain:
            return Raw(f"0x{number:x}") if number else Raw("(nil)")
        return number

    def _float(self, size: int, data: bytes, at: int) -> Any:
        import struct

        code = {4: "f", 8: "d"}.get(size)
        if code is None:
            return Raw(f"0x{data[at : at + size].hex()}") if self.plain else data[at : at + size].hex()
        (number,) = struct.unpack_from("=" + code, data, at)
        return Raw(repr(number)) if number - number == 0 else repr(number)

    def _int(self, value: Any, data: bytes, at: int, bit: int) -> Any:
        size, encoding, offset, bits = value[2], value[3], value[4], value[5]
        if bit or offset or bits % 8 or bits not in (8, 16, 32, 64, 128):
            start = bit + offset
            return self._bits(bits, data, at + start // 8, start % 8)
        if bits == 128:
            return self._hex(int.from_bytes(data[at : at + 16], byteorder))
        if encoding == t.CHAR:
            byte = data[at]
            if 0x20 <= byte < 0x7F:
                return chr(byte)
            return Raw(f"0x{byte:x}") if self.plain else chr(byte)
        if encoding == t.BOOL:
            return any(data[at : at + size]) if size > 1 else bool(data[at])
        return int.from_bytes(data[at : at + bits // 8], byteorder, signed=bool(encoding & t.SIGNED))

    def _bits(self, bits: int, data: bytes, at: int, bit: int) -> Any:
        """A bitfield's bits as they are: bpftool does not extend signs."""
        length = (bit + bits + 7) // 8
        number = int.from_bytes(data[at : at + length], byteorder)
        shift = bit if byteorder == "little" else 8 * length - bit - bits
        return self._hex(number >> shift & (1 << bits) - 1)

    def _hex(self, number: int) -> Any:
        text = f"0x{number:x}"
        return Raw(text) if self.plain else text


def signature(btf: Btf, type_id: int) -> str:
    """A type in bpftool's short notation, ``int xdp_prog(struct xdp_md * ctx)``; "" when it has none."""
    text = _type_text(btf, type_id, "", 0)
    return "" if text is None else text


def _type_text(btf: Btf, id: int, text: str, depth: int) -> str | None:
    """``text`` with the type's notation after it; None for kinds without one."""
    if not id:
        return text + "void "
    if depth > _DEEPEST:
        return None
    value = btf[id]
    kind = value[0]
    if kind in (t.INT, t.TYPEDEF, t.FLOAT):
        return f"{text}{value[1]} "
    if kind in _TAGS:
        return f"{text}{_TAGS[kind]} {value[1]} "
    if kind == t.FWD:
        return f"{text}{'union' if value[2] else 'struct'} {value[1]} "
    if kind == t.ARRAY:
        inner = _type_text(btf, value[2], text, depth + 1)
        return None if inner is None else f"{inner}[{value[4]}]"
    if kind == t.PTR:
        inner = _type_text(btf, value[2], text, depth + 1)
        return None if inner is None else inner + "* "
    if kind in _QUALIFIERS:
        return _type_text(btf, value[2], f"{text}{_QUALIFIERS[kind]} ", depth + 1)
    if kind == t.TYPE_TAG:
        return _type_text(btf, value[2], text, depth + 1)
    if kind == t.FUNC_PROTO:
        return _function_text(btf, value, "", text, depth)
    if kind == t.FUNC:
        return _function_text(btf, btf[value[2]], value[1], text, depth)
    if kind == t.VAR:
        start = text + ("static " if value[3] == t.LINKAGE_STATIC else "")
        inner = _type_text(btf, value[2], start, depth + 1)
        return None if inner is None else f"{inner} {value[1]}"
    if kind == t.DATASEC:
        return f'{text}section ("{value[1]}") '
    return None


def _function_text(btf: Btf, proto: Any, name: str, text: str, depth: int) -> str | None:
    shown = _type_text(btf, proto[2], text, depth + 1)
    if shown is None:
        return None
    shown += f"{name}("
    for index, (param, type_id) in enumerate(proto[3]):
        if index:
            shown += ", "
        if not type_id:
            shown += "..."
            continue
        inner = _type_text(btf, type_id, shown, depth + 1)
        if inner is None:
            return None
        shown = inner + param if param else inner.removesuffix(" ")
    return shown + ")"


_TAGS = {t.STRUCT: "struct", t.UNION: "union", t.ENUM: "enum", t.ENUM64: "enum"}
_QUALIFIERS = {t.VOLATILE: "volatile", t.CONST: "const", t.RESTRICT: "restrict"}
