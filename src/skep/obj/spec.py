"""Specs: what an object file says, as data. Nothing here has a descriptor or touches a kernel.

Values are plain classes that a caller may change before loading: raise a map's `max_entries`, set a
`.rodata` variable, drop a program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from skep.uapi.enums import AttachType, MapType, ProgType

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.isa import Insn

PIN_NONE: Final = 0
PIN_BY_NAME: Final = 1


class MapSpec:
    """A map to create: sizes in bytes, ``flags`` the BPF_F_* bits of map_flags."""

    __slots__ = (
        "btf_id",
        "contents",
        "data",
        "extra",
        "flags",
        "inner",
        "key_size",
        "key_type_id",
        "max_entries",
        "name",
        "numa_node",
        "pinning",
        "section",
        "type",
        "value_size",
        "value_type_id",
    )

    def __init__(
        self,
        name: str,
        type: MapType | int,
        key_size: int = 0,
        value_size: int = 0,
        max_entries: int = 0,
        flags: int = 0,
        *,
        key_type_id: int = 0,
        value_type_id: int = 0,
        inner: MapSpec | None = None,
        pinning: int = PIN_NONE,
        numa_node: int | None = None,
        extra: int = 0,
        data: bytearray | None = None,
        contents: dict[int, str] | None = None,
        section: str = "",
        btf_id: int = 0,
    ) -> None:
        self.name = name
        self.type = type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = flags
        #: BTF type ids in the object's BTF, 0 where unknown
        self.key_type_id = key_type_id
        self.value_type_id = value_type_id
        #: the template of a map of maps
        self.inner = inner
        self.pinning = pinning
        self.numa_node = numa_node
        #: map_extra: the Bloom filter's hash count, the arena's address
        self.extra = extra
        #: first contents of a global-data map (.data, .rodata, .bss, .kconfig), else None
        self.data = data
        #: `values` of the declaration: slot -> name of the map or program that goes there
        self.contents = contents if contents is not None else {}
        self.section = section
        #: BTF id of the variable (or of the DATASEC of a global-data map)
        self.btf_id = btf_id

    def __repr__(self) -> str:
        kind = self.type.name if isinstance(self.type, MapType) else self.type
        return f"MapSpec({self.name!r}, {kind}, {self.key_size}→{self.value_size}, max {self.max_entries})"


class Reloc(NamedTuple):
    """A reference from slot ``pc`` that a loader fills in.

    ``kind`` is "map" (``symbol`` names a map), "data" (a global: map ``symbol``, byte offset ``offset``
    into its value), "call" (BPF-to-BPF, subprogram ``symbol``), "func" (address of subprogram ``symbol``),
    "extern" (a ksym, kconfig value or kfunc named ``symbol``).
    """

    pc: int
    kind: str
    symbol: str
    offset: int = 0


class SubprogSpec:
    """Code of one function as it stands in the object: slots, and what is to be filled in."""

    __slots__ = (
        "btf_id",
        "core_relos",
        "insns",
        "is_global",
        "line_infos",
        "name",
        "relocs",
        "section",
        "start",
    )

    def __init__(
        self,
        name: str,
        section: str,
        start: int,
        insns: list[Insn],
        *,
        is_global: bool = True,
        btf_id: int = 0,
        relocs: list[Reloc] | None = None,
        line_infos: list[Any] | None = None,
        core_relos: list[Any] | None = None,
    ) -> None:
        self.name = name
        self.section = section
        #: first slot within the section
        self.start = start
        self.insns = insns
        self.is_global = is_global
        #: BTF id of its FUNC, 0 without
        self.btf_id = btf_id
        self.relocs = relocs if relocs is not None else []
        #: records of .BTF.ext with slots counted from this function's first
        self.line_infos = line_infos if line_infos is not None else []
        self.core_relos = core_relos if core_relos is not None else []

    def __repr__(self) -> str:
        return f"SubprogSpec({self.name!r}, {self.section!r}, {len(self.insns)} insns)"


class ProgramSpec:
    """A program to load: its entry function and how the section name says it is used."""

    __slots__ = (
        "attach_to",
        "attach_type",
        "autoload",
        "flags",
        "hook",
        "name",
        "section",
        "sleepable",
        "type",
    )

    def __init__(
        self,
        name: str,
        section: str,
        type: ProgType,
        attach_type: AttachType | None = None,
        *,
        hook: str = "",
        attach_to: str = "",
        sleepable: bool = False,
        flags: int = 0,
        autoload: bool = True,
    ) -> None:
        self.name = name
        self.section = section
        self.type = type
        self.attach_type = attach_type
        #: the section's prefix, e.g. "uprobe.multi.s", and what follows its slash
        self.hook = hook
        self.attach_to = attach_to
        self.sleepable = sleepable
        #: BPF_F_* bits of prog_flags
        self.flags = flags
        #: False for SEC("?…"): not loaded unless asked for
        self.autoload = autoload

    def __repr__(self) -> str:
        return f"ProgramSpec({self.name!r}, {self.section!r}, {self.type.name})"


class Extern(NamedTuple):
    """An undefined symbol: ``kind`` is "kconfig", "ksym" (untyped), "ksym_var" or "kfunc"; id 0: none."""

    name: str
    kind: str
    type_id: int
    weak: bool
    offset: int = 0
    size: int = 0


class ObjectSpec:
    """Everything an object file holds: programs, functions, maps, types."""

    __slots__ = (
        "btf",
        "byteorder",
        "externs",
        "functions",
        "license",
        "maps",
        "name",
        "path",
        "programs",
        "version",
    )

    def __init__(self, name: str = "", path: str | None = None) -> None:
        self.name = name
        self.path = path
        self.byteorder = "little"
        self.license = ""
        #: the kernel version of SEC("version"), which kernels before 5.0 asked kprobes for
        self.version = 0
        #: by name, in the order of the object
        self.programs: dict[str, ProgramSpec] = {}
        self.functions: dict[str, SubprogSpec] = {}
        self.maps: dict[str, MapSpec] = {}
        self.externs: dict[str, Extern] = {}
        self.btf: Btf | None = None

    def __repr__(self) -> str:
        return f"ObjectSpec({self.name!r}, programs={list(self.programs)}, maps={list(self.maps)})"
