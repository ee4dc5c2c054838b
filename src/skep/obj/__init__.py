"""Object files as data: `ObjectSpec`, `ProgramSpec`, `MapSpec`; section names; relocations; linking.

    >>> spec = obj.read("opensnoop.bpf.o")
    >>> program = obj.link_program(spec, "tracepoint__syscalls__sys_enter_open")

The names are loaded when first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.obj.core import CoreTarget as CoreTarget
    from skep.obj.fixed_btf import kernel_btf as kernel_btf
    from skep.obj.kconfig import fill_kconfig as fill_kconfig
    from skep.obj.link import link_program as link_program
    from skep.obj.linked import ExternRef as ExternRef
    from skep.obj.linked import FailedRelo as FailedRelo
    from skep.obj.linked import LinkedProgram as LinkedProgram
    from skep.obj.linked import MapRef as MapRef
    from skep.obj.reader import read as read
    from skep.obj.spec import Extern as Extern
    from skep.obj.spec import MapSpec as MapSpec
    from skep.obj.spec import ObjectSpec as ObjectSpec
    from skep.obj.spec import ProgramSpec as ProgramSpec
    from skep.obj.spec import Reloc as Reloc
    from skep.obj.spec import SubprogSpec as SubprogSpec
    from skep.obj.static import static_link as static_link

_HOMES = {
    "CoreTarget": "skep.obj.core",
    "Extern": "skep.obj.spec",
    "ExternRef": "skep.obj.linked",
    "FailedRelo": "skep.obj.linked",
    "LinkedProgram": "skep.obj.linked",
    "MapRef": "skep.obj.linked",
    "MapSpec": "skep.obj.spec",
    "ObjectSpec": "skep.obj.spec",
    "ProgramSpec": "skep.obj.spec",
    "Reloc": "skep.obj.spec",
    "SubprogSpec": "skep.obj.spec",
    "fill_kconfig": "skep.obj.kconfig",
    "kernel_btf": "skep.obj.fixed_btf",
    "link_program": "skep.obj.link",
    "read": "skep.obj.reader",
    "static_link": "skep.obj.static",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep.obj' has no attribute {name!r}")
    return getattr(__import__(home, fromlist=[name]), name)
