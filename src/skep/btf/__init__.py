"""BTF, the type information of BPF programs and of the kernel: read, built, deduplicated and printed.

The names are loaded when first used: a program that reads one struct needs neither builder nor printers.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs more than the rest: start-up counts, here and below
if TYPE_CHECKING:
    from typing import Any

    from skep.btf.build import BtfBuilder as BtfBuilder
    from skep.btf.cdump import c_dump as c_dump
    from skep.btf.duplicates import dedup as dedup
    from skep.btf.ext import BtfExt as BtfExt
    from skep.btf.ext import CoreRelo as CoreRelo
    from skep.btf.ext import FuncInfo as FuncInfo
    from skep.btf.ext import LineInfo as LineInfo
    from skep.btf.pydump import py_dump as py_dump
    from skep.btf.rawdump import raw_dump as raw_dump
    from skep.btf.rawdump import raw_json as raw_json
    from skep.btf.read import Btf as Btf

_HOMES = {
    "Btf": "skep.btf.read",
    "BtfBuilder": "skep.btf.build",
    "BtfExt": "skep.btf.ext",
    "CoreRelo": "skep.btf.ext",
    "FuncInfo": "skep.btf.ext",
    "LineInfo": "skep.btf.ext",
    "c_dump": "skep.btf.cdump",
    "dedup": "skep.btf.duplicates",
    "py_dump": "skep.btf.pydump",
    "raw_dump": "skep.btf.rawdump",
    "raw_json": "skep.btf.rawdump",
}

__all__ = [
    "Btf",
    "BtfBuilder",
    "BtfExt",
    "CoreRelo",
    "FuncInfo",
    "LineInfo",
    "c_dump",
    "dedup",
    "py_dump",
    "raw_dump",
    "raw_json",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep.btf' has no attribute {name!r}")
    return getattr(__import__(home, fromlist=[name]), name)
