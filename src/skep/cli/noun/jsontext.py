"""JSON as bpftool writes it, so that outputs can be compared byte by byte.

Compact without spaces, or pretty with bpftool's line breaks. Two slips of bpftool 7.1 are not copied: it
writes a backslash as ``\\n`` and an apostrophe as ``\\'``, neither of which is what the string holds.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    _Pairs = list[tuple[str, Any]]
else:
    _Pairs = list


class Raw(str):
    """Text that is written as it is: ``0x1f`` in plain output of typed values."""

    __slots__ = ()


class Pairs(_Pairs):
    """An object whose names may repeat, as those of anonymous members do."""

    __slots__ = ()


#: so many pieces are put together before they are handed on
_PIECES = 1 << 14
_ROWS = 1 << 10


class _Pieces(list[str]):
    """Text in the making; what is finished goes to ``sink`` now and then, if there is one."""

    __slots__ = ("sink",)

    def __init__(self, sink: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self.sink = sink


def text(value: Any, *, pretty: bool = False) -> str:
    """``value`` as JSON: dicts and `Pairs`, any other iterable as a list, str, int, bool, None, `Raw`."""
    out = _Pieces()
    _write(out, value, "\n" if pretty else "", " " if pretty else "")
    return "".join(out)


def write(sink: Callable[[str], object], value: Any, *, pretty: bool = False) -> None:
    """`text`, handed to ``sink`` in parts: a generator's million items need no memory."""
    out = _Pieces(sink)
    _write(out, value, "\n" if pretty else "", " " if pretty else "")
    sink("".join(out))


def rows(values: Iterable[Any]) -> Iterator[str]:
    """`text` of a list of ``values``, in parts, by the interpreter's own encoder: five times as fast.

    It knows dicts, lists, str, int, bool and None; `Raw` and `Pairs` it would take for str and list.
    """
    # `json` itself brings `re` along.
    from _json import encode_basestring, make_encoder
    from itertools import islice

    encode = make_encoder(None, str, encode_basestring, None, ":", ",", False, False, True)
    rest = iter(values)
    before = "["
    while part := list(islice(rest, _ROWS)):
        # DEL is the one character that it leaves alone and `quoted` does not
        yield before + "".join(encode(part, 0))[1:-1].replace("\x7f", "\\u007f")
        before = ","
    yield "]" if before == "," else "[]"


def _write(out: _Pieces, value: Any, line: str, space: str) -> None:
    """``line`` is a new line with the indentation of the value's own depth, or "" when not pretty."""
    if isinstance(value, Raw):
        out.append(value)
    elif isinstance(value, str):
        out.append(quoted(value))
    elif value is None:
        out.append("null")
    elif isinstance(value, bool):
        out.append("true" if value else "false")
    elif isinstance(value, int):
        out.append(str(int(value)))
    elif isinstance(value, (dict, Pairs)):
        _object(out, value.items() if isinstance(value, dict) else value, line, space)
    else:
        _list(out, value, line, space)


def _object(out: _Pieces, items: Iterable[tuple[str, Any]], line: str, space: str) -> None:
    inner = line and line + "    "
    out.append("{")
    comma = ""
    for name, value in items:
        out.append(f"{comma}{inner}{quoted(name)}:{space}")
        _write(out, value, inner, space)
        comma = ","
    out.append(line + "}" if comma else "}")


def _list(out: _Pieces, items: Iterable[Any], line: str, space: str) -> None:
    inner = line and line + "    "
    out.append("[")
    comma = ""
    for value in items:
        out.append(comma)
        _write(out, value, inner, space)
        comma = ","
        if len(out) > _PIECES and out.sink is not None:
            out.sink("".join(out))
            out.clear()
    out.append(line + "]" if comma else "]")


_ESCAPES = {
    **{code: f"\\u{code:04x}" for code in (*range(32), 127)},
    8: "\\b",
    9: "\\t",
    10: "\\n",
    12: "\\f",
    13: "\\r",
    34: '\\"',
    92: "\\\\",
}


def quoted(value: str) -> str:
    """A JSON string."""
    if value.isidentifier():
        return f'"{value}"'
    return f'"{value.translate(_ESCAPES)}"'
