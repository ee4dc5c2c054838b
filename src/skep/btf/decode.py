"""One decoder for each kind: words and names in, a value of `skep.btf.types` out.

``words`` are the types' 32-bit words in host order and ``at`` the index of the info word; ``names`` maps name
offsets to strings.
"""

from __future__ import annotations

from skep.btf.strings import Strings
from skep.btf.types import (
    Array,
    Const,
    DataSec,
    DeclTag,
    Enum,
    Enum64,
    EnumValue,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Param,
    Ptr,
    Restrict,
    SectionVar,
    Struct,
    Type,
    Typedef,
    TypeTag,
    Union,
    Var,
    Volatile,
)
from skep.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    Words = Any  # a memoryview of format "I": typeshed has no name for one that indexes to int
    Decoder = Callable[[Words, int, Strings], Type]


SIZES: Final = (
    (0, 0),
    (1, 0),  # INT
    (0, 0),  # PTR
    (3, 0),  # ARRAY
    (0, 3),  # STRUCT
    (0, 3),  # UNION
    (0, 2),  # ENUM
    (0, 0),  # FWD
    (0, 0),  # TYPEDEF
    (0, 0),  # VOLATILE
    (0, 0),  # CONST
    (0, 0),  # RESTRICT
    (0, 0),  # FUNC
    (0, 2),  # FUNC_PROTO
    (1, 0),  # VAR
    (0, 3),  # DATASEC
    (0, 0),  # FLOAT
    (1, 0),  # DECL_TAG
    (0, 0),  # TYPE_TAG
    (0, 3),  # ENUM64
)
"""Kind -> (words after the first three, words for each of vlen)."""

_new = tuple.__new__


def _rest(words: Words, at: int, count: int) -> list[int]:
    """The ``count`` words after the three that every type has."""
    rest: list[int] = words[at + 2 : at + 2 + count].tolist()
    if len(rest) != count:
        raise BtfError("runs past the end of the types")
    return rest


def _void(words: Words, at: int, names: Strings) -> Type:
    raise BtfError("kind 0 is no type")


def _int(words: Words, at: int, names: Strings) -> Type:
    (bits,) = _rest(words, at, 1)
    size = words[at + 1]
    return _new(Int, (1, names[words[at - 1]], size, bits >> 24 & 15, bits >> 16 & 255, bits & 255))


def _reference(made: type[Type], kind: int) -> Decoder:
    def decode(words: Words, at: int, names: Strings) -> Type:
        return _new(made, (kind, names[words[at - 1]], words[at + 1]))

    return decode


def _array(words: Words, at: int, names: Strings) -> Type:
    return _new(Array, (3, names[words[at - 1]], *_rest(words, at, 3)))


def _composite(made: type[Type], kind: int) -> Decoder:
    def decode(words: Words, at: int, names: Strings) -> Type:
        info = words[at]
        rest = _rest(words, at, 3 * (info & 0xFFFFFF))
        rows = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        flag = bool(info >> 31)
        if flag:
            members = tuple(
                [_new(Member, (names[n], t, offset & 0xFFFFFF, offset >> 24)) for n, t, offset in rows]
            )
        else:
            members = tuple([_new(Member, (names[n], t, offset, 0)) for n, t, offset in rows])
        return _new(made, (kind, names[words[at - 1]], words[at + 1], members, flag))

    return decode


def _enum(words: Words, at: int, names: Strings) -> Type:
    info = words[at]
    rest = _rest(words, at, 2 * (info & 0xFFFFFF))
    signed = bool(info >> 31)
    values = tuple(
        [
            _new(EnumValue, (names[n], value - 0x100000000 if signed and value >> 31 else value))
            for n, value in zip(rest[::2], rest[1::2], strict=True)
        ]
    )
    return _new(Enum, (6, names[words[at - 1]], words[at + 1], values, signed))


def _enum64(words: Words, at: int, names: Strings) -> Type:
    info = words[at]
    rest = _rest(words, at, 3 * (info & 0xFFFFFF))
    signed = bool(info >> 31)
    values = tuple(
        [
            _new(EnumValue, (names[n], (high << 32 | low) - (1 << 64 if signed and high >> 31 else 0)))
            for n, low, high in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        ]
    )
    return _new(Enum64, (19, names[words[at - 1]], words[at + 1], values, signed))


def _fwd(words: Words, at: int, names: Strings) -> Type:
    return _new(Fwd, (7, names[words[at - 1]], bool(words[at] >> 31)))


def _func(words: Words, at: int, names: Strings) -> Type:
    return _new(Func, (12, names[words[at - 1]], words[at + 1], words[at] & 0xFFFFFF))


def _func_proto(words: Words, at: int, names: Strings) -> Type:
    rest = _rest(words, at, 2 * (words[at] & 0xFFFFFF))
    params = tuple([_new(Param, (names[n], t)) for n, t in zip(rest[::2], rest[1::2], strict=True)])
    return _new(FuncProto, (13, names[words[at - 1]], words[at + 1], params))


def _var(words: Words, at: int, names: Strings) -> Type:
    return _new(Var, (14, names[words[at - 1]], words[at + 1], *_rest(words, at, 1)))


def _datasec(words: Words, at: int, names: Strings) -> Type:
    rest = _rest(words, at, 3 * (words[at] & 0xFFFFFF))
    rows = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    return _new(
        DataSec, (15, names[words[at - 1]], words[at + 1], tuple([_new(SectionVar, row) for row in rows]))
    )


def _float(words: Words, at: int, names: Strings) -> Type:
    return _new(Float, (16, names[words[at - 1]], words[at + 1]))


def _decl_tag(words: Words, at: int, names: Strings) -> Type:
    (component,) = _rest(words, at, 1)
    if component >> 31:
        component -= 1 << 32
    flag = bool(words[at] >> 31)
    return _new(DeclTag, (17, names[words[at - 1]], words[at + 1], component, flag))


def _type_tag(words: Words, at: int, names: Strings) -> Type:
    return _new(TypeTag, (18, names[words[at - 1]], words[at + 1], bool(words[at] >> 31)))


DECODERS: Final[tuple[Decoder, ...]] = (
    _void,
    _int,
    _reference(Ptr, 2),
    _array,
    _composite(Struct, 4),
    _composite(Union, 5),
    _enum,
    _fwd,
    _reference(Typedef, 8),
    _reference(Volatile, 9),
    _reference(Const, 10),
    _reference(Restrict, 11),
    _func,
    _func_proto,
    _var,
    _datasec,
    _float,
    _decl_tag,
    _type_tag,
    _enum64,
)
