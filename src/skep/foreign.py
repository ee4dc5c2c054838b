"""Calls into C from what `ctypes` itself is made of: the module around it takes 3 ms of a short run.

Types and functions behave as those of `ctypes` do.
"""

from __future__ import annotations

from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, Structure, _SimpleCData
from _ctypes import addressof as addressof
from _ctypes import byref as byref
from _ctypes import dlopen as _dlopen
from _ctypes import dlsym as _dlsym
from _ctypes import get_errno as get_errno
from _ctypes import sizeof as sizeof

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm start 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _Simple = _SimpleCData[Any]
else:
    _Simple = _SimpleCData

__all__ = [
    "Address", "Byte", "Bytes", "Int", "Long", "Size", "Structure", "Word",
    "address_of", "address_of_bytes", "addressof", "byref", "function", "get_errno", "library", "sizeof",
]  # fmt: skip


class Address(_Simple):
    """``void *``: an integer, or None for 0."""

    _type_ = "P"


class Size(_Simple):
    """``size_t``."""

    _type_ = "L"


class Long(_Simple):
    """``long``."""

    _type_ = "l"


class Int(_Simple):
    """``int``."""

    _type_ = "i"


class Word(_Simple):
    """``uint32_t``."""

    _type_ = "I"


class Byte(_Simple):
    """``char``."""

    _type_ = "c"


class Bytes(_Simple):
    """``char *`` of a bytes object."""

    _type_ = "z"


def function(address: int, result: type[_Simple] | None, *arguments: type[_Simple]) -> Callable[..., Any]:
    """The C function at ``address``, which leaves errno to `get_errno`."""

    class Function(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
        _restype_ = result
        _argtypes_ = arguments

    made: Callable[..., Any] = Function(address)
    return made


def address_of_bytes(data: bytes) -> int:
    """Where the bytes of ``data`` lie, for as long as somebody keeps ``data``."""
    return Address.from_buffer(Bytes(data)).value or 0


def address_of(name: str) -> int:
    """Address of a function that the process has loaded, the C library's among them."""
    process: Any = None  # not a library's file, but all that the process has loaded
    return _dlsym(_dlopen(process, 0), name)


def library(name: str, result: type[_Simple] | None, *arguments: type[_Simple]) -> Callable[..., Any]:
    """A function of the C library."""
    return function(address_of(name), result, *arguments)
