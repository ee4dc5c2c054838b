"""Specs: what an object file says, as data. Nothing here has a descriptor or touches a kernel.

Values are plain classes that a caller may change before loading: raise a map's `max_entries`, set a
`.rodata` variable, drop a program.
"""

from __future__ import annotations

from sys import byteorder

from skep.plain import NamedTuple
from skep.uapi.enums import AttachType, MapType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf
    from skep.isa import Insn

PIN_NONE: Final = 0
PIN_BY_NAME: Final = 1
#: the section of global variables that live in an arena
ARENA: Final = ".addr_space.1"
#: library functions that are linked in where an object calls them and no object has them
LIBRARY: Final = ("memcpy", "memmove", "memset", "memcmp")


class MapSpec:
    """A map to create: sizes in bytes, ``flags`` the BPF_F_* bits of map_flags."""

    __slots__ = (
        "btf_id",
        "contents",
        "data",
        "data_offset",
        "extra",
        "flags",
        "inner",
        "kernel_name",
        "key_size",
        "key_type_id",
        "max_entries",
        "name",
        "numa_node",
        "pin_value",
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
        pin_value: int = 0,
        numa_node: int | None = None,
        extra: int = 0,
        data: bytearray | None = None,
        contents: dict[int, str] | None = None,
        section: str = "",
        btf_id: int = 0,
        kernel_name: str = "",
    ) -> None:
        self.name = name
        #: the name to give the kernel, which keeps 15 bytes of it (libbpf's, for global data)
        self.kernel_name = kernel_name or name
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
        #: PIN_NONE or PIN_BY_NAME; `pin_value` is the number in the object, which other loaders may use
        #: otherwise (iproute2: 1 object, 2 global name space; Cilium: 16 replace)
        self.pinning = pinning
        self.pin_value = pin_value or pinning
        self.numa_node = numa_node
        #: map_extra: the Bloom filter's hash count, the arena's address
        self.extra = extra
        #: first contents of a global-data map (.data, .rodata, .bss, .kconfig), and the global variables of
        #: an arena; else None
        self.data = data
        #: where an arena's global variables start, in bytes; loaders put them there
        self.data_offset = 0
        #: `values` of the declaration: slot -> name of the map or program that goes there;
        #: of a struct_ops map: byte offset in `data` -> name of the program whose address goes there
        self.contents = contents if contents is not None else {}
        self.section = section
        #: BTF id of the variable (or of the DATASEC of a global-data map)
        self.btf_id = btf_id

    def __repr__(self) -> str:
        kind = self.type.name if isinstance(self.type, MapType) else self.type
        return f"MapSpec({self.name!r}, {kind}, {self.key_size}→{self.value_size}, max {self.max_entries})"


class Reloc(NamedTuple):
    """A reference from slot ``pc`` of a function.

    ``kind`` is "map" (``symbol`` names a map), "data" (a global: map ``symbol``, byte offset ``offset``
    into its value), "call" (BPF-to-BPF, function ``symbol``), "func" (address of function ``symbol``),
    "extern" (the value or address of extern ``symbol``), "extern_call" (a kfunc, or a library function),
    "jumptable" (table ``symbol`` of `ObjectSpec.jump_tables`, byte ``offset``).
    """

    pc: int
    kind: str
    symbol: str
    offset: int = 0


class SubprogSpec:
    """Code of one function as it stands in the object: slots, and what is to be filled in."""

    __slots__ = (
        "btf_id",
        "code",
        "core_relos",
        "is_global",
        "is_weak",
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
        code: bytes,
        *,
        is_global: bool = True,
        is_weak: bool = False,
        btf_id: int = 0,
        relocs: list[Reloc] | None = None,
        line_infos: list[tuple[int, ...]] | None = None,
        core_relos: list[tuple[int, ...]] | None = None,
    ) -> None:
        self.name = name
        self.section = section
        #: first slot within the section
        self.start = start
        #: the instructions, 8 bytes a slot, in the host's byte order whatever the object's
        self.code = code
        self.is_global = is_global
        self.is_weak = is_weak
        #: BTF id of its FUNC, 0 without
        self.btf_id = btf_id
        #: sorted by slot, counted from this function's first
        self.relocs = relocs if relocs is not None else []
        #: rows of .BTF.ext, byte offsets counted from the section's start, strings as BTF string offsets:
        #: (offset, file, text, line << 10 | column)
        self.line_infos = line_infos if line_infos is not None else []
        #: (offset, type id, access string, kind)
        self.core_relos = core_relos if core_relos is not None else []

    @property
    def insns(self) -> list[Insn]:
        """The instructions, decoded."""
        from skep.isa import decode

        return decode(self.code, byteorder)

    def __repr__(self) -> str:
        return f"SubprogSpec({self.name!r}, {self.section!r}, {len(self.code) // 8} insns)"


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
    """An undefined symbol.

    ``kind`` is "kconfig" (``offset`` and ``size`` in bytes of its place in map ``.kconfig``), "ksym" (an
    untyped kernel symbol), "ksym_var" (a typed one: ``type_id`` in the object's BTF), "kfunc" or "unknown"
    (no BTF says). ``type_id`` is the type of the variable or the function's prototype, ``btf_id`` its VAR
    or FUNC; 0 without. Weak ones may stay unresolved: their value is 0.
    """

    name: str
    kind: str
    type_id: int
    weak: bool
    offset: int = 0
    size: int = 0
    btf_id: int = 0


class BtfEdits:
    """What the section table and symbols know and the object's types do not; `kernel_btf` writes it in."""

    __slots__ = ("linkages", "offsets", "sizes")

    def __init__(self) -> None:
        #: DATASEC id -> bytes
        self.sizes: dict[int, int] = {}
        #: VAR id -> byte offset in its section
        self.offsets: dict[int, int] = {}
        #: VAR or FUNC id -> linkage
        self.linkages: dict[int, int] = {}


class ObjectSpec:
    """Everything an object file holds: programs, functions, maps, types."""

    __slots__ = (
        "_btf",
        "_kernel_btf",
        "btf_edits",
        "byteorder",
        "externs",
        "functions",
        "jump_tables",
        "license",
        "maps",
        "name",
        "path",
        "programs",
        "version",
    )

    def __init__(self, name: str = "", path: str | None = None) -> None:
        #: the file's name up to its first dot, 15 characters at most
        self.name = name
        self.path = path
        self.byteorder: str = byteorder
        self.license = ""
        #: the kernel version of SEC("version"), which kernels before 5.0 asked kprobes for
        self.version = 0
        #: by name, in the order of the object
        self.programs: dict[str, ProgramSpec] = {}
        self.functions: dict[str, SubprogSpec] = {}
        #: global data under their sections' names (".rodata", ".bss", ".data.x", ".kconfig")
        self.maps: dict[str, MapSpec] = {}
        self.externs: dict[str, Extern] = {}
        #: jump tables (.jumptables) by their symbol and byte: slots of the section that the jump is in
        self.jump_tables: dict[str, tuple[int, ...]] = {}
        self._btf: Btf | bytes | None = None
        self._kernel_btf: bytes | None = None
        self.btf_edits = BtfEdits()

    @property
    def btf(self) -> Btf | None:
        """The types as the object has them; `skep.obj.kernel_btf` gives what a kernel takes."""
        held = self._btf
        if isinstance(held, bytes):  # their reader is imported when somebody looks at them
            from skep.btf.read import Btf

            held = self._btf = Btf(held)
        return held

    @btf.setter
    def btf(self, btf: Btf | None) -> None:
        self._btf = btf
        self._kernel_btf = None

    @property
    def has_btf(self) -> bool:
        return self._btf is not None

    def btf_mentions(self, text: str) -> bool:
        """Whether a name in the types has ``text`` in it; they are not decoded for it."""
        held = self._btf
        if isinstance(held, bytes):
            return text.encode() in held
        return held is not None and held.strings.holds(text)

    def put_btf(self, raw: bytes, for_kernel: bytes) -> None:
        """Set the types without decoding them; ``for_kernel`` is what `kernel_btf` makes of them."""
        self._btf = raw
        self._kernel_btf = for_kernel

    def take_kernel_btf(self) -> bytes | None:
        """What `put_btf` was told, once: the specs it was made of may be changed afterwards."""
        made, self._kernel_btf = self._kernel_btf, None
        return made

    def __repr__(self) -> str:
        return f"ObjectSpec({self.name!r}, programs={list(self.programs)}, maps={list(self.maps)})"
