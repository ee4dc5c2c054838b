"""Undefined symbols: kconfig values, kernel symbols and functions, by what the object's BTF says of them."""

from __future__ import annotations

from skep.btf import types as t
from skep.elf import constants as c
from skep.errors import BtfError, LinkError
from skep.obj.source import Source
from skep.obj.spec import Extern, MapSpec
from skep.uapi.enums import MapType
from skep.uapi.flags import BPF_F_MMAPABLE, BPF_F_RDONLY_PROG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.btf import Btf

KCONFIG = ".kconfig"
KSYMS = ".ksyms"


def collect(source: Source) -> None:
    """Fill in `ObjectSpec.externs`, and map ``.kconfig`` where there are kconfig values."""
    undefined = [
        symbol
        for symbol in source.symbols_in.get(c.SHN_UNDEF, ())
        if symbol.name and symbol.type in (c.STT_NOTYPE, c.STT_OBJECT, c.STT_FUNC)
    ]
    if not undefined:
        return
    known: dict[str, tuple[int, str]] = {}
    if source.btf is not None:
        known = _declared(source.btf)
    externs: list[Extern] = []
    for symbol in undefined:
        name = symbol.name
        source.extern_keys[symbol.index] = name
        weak = symbol.bind == c.STB_WEAK
        btf_id, section = known.get(name, (0, ""))
        if not btf_id or source.btf is None:
            externs.append(Extern(name, "unknown", 0, weak))
            continue
        externs.append(_extern(source, source.btf, name, btf_id, section, weak))
    kconfig = [extern for extern in externs if extern.kind == "kconfig"]
    if kconfig:
        assert source.btf is not None
        externs = _place(source, source.btf, kconfig) + [e for e in externs if e.kind != "kconfig"]
    for extern in externs:
        source.spec.externs[extern.name] = extern


def _declared(btf: Btf) -> dict[str, tuple[int, str]]:
    """Name of an extern -> its VAR or FUNC and the section that it is declared for."""
    found: dict[str, tuple[int, str]] = {}
    for section in (KCONFIG, KSYMS):
        for id in btf.ids_named(section):
            value = btf[id]
            if isinstance(value, t.DataSec):
                for row in value.vars:
                    found[btf[row.type].name] = (row.type, section)
    return found


def _extern(source: Source, btf: Btf, name: str, btf_id: int, section: str, weak: bool) -> Extern:
    declared = btf[btf_id]
    if not isinstance(declared, (t.Var, t.Func)):
        btf.fail(btf_id, f"extern {name!r} is neither variable nor function")
    if section == KSYMS:
        if isinstance(declared, t.Func):
            return Extern(name, "kfunc", declared.type, weak, btf_id=btf_id)
        type_id = btf.resolve(declared.type)
        kind = "ksym_var" if type_id else "ksym"
        return Extern(name, kind, type_id, weak, btf_id=btf_id)
    if isinstance(declared, t.Func):
        raise LinkError(f"{source.where}: extern function {name!r} cannot be a kconfig value")
    return Extern(name, "kconfig", declared.type, weak, size=btf.size_of(declared.type), btf_id=btf_id)


def _place(source: Source, btf: Btf, externs: list[Extern]) -> list[Extern]:
    """Give each kconfig value its place in the map, in libbpf's order: align descending, size, name."""
    try:
        aligns = {extern.name: btf.align_of(extern.type_id) for extern in externs}
    except BtfError as error:
        raise LinkError(f"{source.where}: .kconfig: {error}") from None
    externs.sort(key=lambda e: (-aligns[e.name], e.size, e.name))
    placed: list[Extern] = []
    at = 0
    for extern in externs:
        at = -(-at // aligns[extern.name]) * aligns[extern.name]
        placed.append(extern._replace(offset=at))
        at += extern.size
    datasec = btf.find(KCONFIG, t.DATASEC) or 0
    edits = source.spec.btf_edits
    edits.sizes[datasec] = at
    for extern in placed:
        edits.offsets[extern.btf_id] = extern.offset
        edits.linkages[extern.btf_id] = t.LINKAGE_GLOBAL
    name = kernel_name(source.spec.name, KCONFIG)
    source.spec.maps[KCONFIG] = MapSpec(
        KCONFIG,
        MapType.ARRAY,
        4,
        at,
        1,
        BPF_F_RDONLY_PROG | BPF_F_MMAPABLE,
        value_type_id=datasec,
        data=bytearray(at),
        section=KCONFIG,
        btf_id=datasec,
        kernel_name=name,
    )
    return placed


def kernel_name(object_name: str, section: str) -> str:
    """The name libbpf gives the map of a data section: up to 15 bytes, the object's name first.

    The section keeps at least seven of them; sections of the user's own (``.data.x``) keep all.
    """
    suffix = min(max(7, len(section)), 15)
    prefix = "" if "." in section[1:] else object_name[: 15 - suffix]
    name = f"{prefix}{section[:suffix]}"
    return "".join(char if char.isascii() and (char.isalnum() or char in "_.") else "_" for char in name)
