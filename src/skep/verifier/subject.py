"""What is checked: a program put together, and all that its verdict depends on outside its instructions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from sys import byteorder
from typing import TYPE_CHECKING, Final, NamedTuple

from skep.errors import BtfError
from skep.isa import opcodes as op
from skep.isa.ebpf import Insn
from skep.uapi.enums import MapType, ProgType

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.obj import CoreTarget, LinkedProgram
    from skep.obj.spec import MapSpec, ObjectSpec, ProgramSpec

BPF_F_SLEEPABLE: Final = 1 << 4
BPF_F_RDONLY_PROG: Final = 1 << 7
BPF_F_WRONLY_PROG: Final = 1 << 8

_READ_ONLY: Final = (int(MapType.DEVMAP), int(MapType.DEVMAP_HASH))
#: what a call of a weak kernel function that is not there becomes (libbpf's number)
POISON_CALL: Final = 2002000000
#: the licenses that the kernel takes for compatible (license_is_gpl_compatible)
GPL: Final = (
    "GPL",
    "GPL v2",
    "GPL and additional rights",
    "Dual BSD/GPL",
    "Dual MIT/GPL",
    "Dual MPL/GPL",
)


class LineFacts(NamedTuple):
    """The code from slot ``slot`` on comes from here. ``line`` and ``column`` are 1-based, 0 when unknown."""

    slot: int
    file: str
    line: int
    column: int
    text: str


class FuncFacts(NamedTuple):
    """The function that starts at ``slot``; ``btf_id`` its FUNC in the program's BTF."""

    slot: int
    name: str
    btf_id: int


class KfuncFacts(NamedTuple):
    """A kernel function that the program calls: its FUNC in ``btf``."""

    name: str
    btf: Btf
    btf_id: int


class MapFacts:
    """A map, as the verifier looks at it. Sizes in bytes.

    ``contents`` is the value of a frozen read-only array of one element (``.rodata``), whose loads are known
    constants; ``btf`` and ``value_type`` name the value's type where the map has one, ``record`` its special
    fields (locks, timers, kptrs; filled in on first use by `facts.records`). ``table`` are the slots that a
    jump table (INSN_ARRAY) names. ``extent`` is what a pointer to a value may reach: the value, or the table.
    """

    __slots__ = (
        "btf",
        "contents",
        "excl_prog",
        "extent",
        "extra",
        "flags",
        "inner",
        "key_size",
        "key_type",
        "max_entries",
        "name",
        "record",
        "record_known",
        "table",
        "type",
        "value_size",
        "value_type",
    )

    def __init__(
        self,
        name: str,
        type: MapType | int,
        key_size: int = 4,
        value_size: int = 8,
        max_entries: int = 1,
        flags: int = 0,
        *,
        inner: MapFacts | None = None,
        contents: bytes | None = None,
        btf: Btf | None = None,
        key_type: int = 0,
        value_type: int = 0,
        extra: int = 0,
        table: tuple[int, ...] | None = None,
    ) -> None:
        self.name = name
        self.type = int(type)
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = flags
        self.inner = inner
        self.contents = contents
        self.btf = btf
        self.key_type = key_type
        self.value_type = value_type
        self.extra = extra
        self.table = table
        self.extent = value_size if self.type != MapType.INSN_ARRAY else 8 * max_entries
        self.record: object = None
        self.record_known = False

    @property
    def readable(self) -> bool:
        """Programs may read its values."""
        return not self.flags & BPF_F_WRONLY_PROG

    @property
    def writable(self) -> bool:
        """Programs may write its values. The kernel itself keeps those of device maps from them."""
        return not self.flags & BPF_F_RDONLY_PROG and self.type not in _READ_ONLY

    def __repr__(self) -> str:
        return f"MapFacts({self.name!r}, {self.type}, {self.key_size}→{self.value_size})"


class Subject:
    """A program after linking.

    ``insns`` are slots. An LD_IMM64 with source BPF_PSEUDO_MAP_FD or _MAP_IDX has the index into ``maps`` as
    its immediate; BPF_PSEUDO_MAP_VALUE and _MAP_IDX_VALUE as well, with the byte offset in the second half;
    BPF_PSEUDO_BTF_ID a type id of the kernel's BTF. ``attach_btf_id`` is what a program of a type that
    attaches by BTF attaches to (in ``attach_btf``, by default the kernel's).
    """

    __slots__ = (
        "_types",
        "attach_btf",
        "attach_btf_id",
        "attach_name",
        "attach_prog",
        "attach_type",
        "btf",
        "funcs",
        "insns",
        "kfuncs",
        "license",
        "lines",
        "maps",
        "name",
        "prog_flags",
        "prog_type",
        "struct_ops",
    )

    def __init__(
        self,
        insns: Sequence[Insn],
        prog_type: ProgType | int,
        *,
        name: str = "",
        attach_type: int = 0,
        license: str = "GPL",
        prog_flags: int = 0,
        maps: Sequence[MapFacts] = (),
        btf: Btf | None = None,
        funcs: Sequence[FuncFacts] = (),
        lines: Sequence[LineFacts] = (),
        types: Btf | Callable[[], Btf] | None = None,
        attach_btf_id: int = 0,
        attach_name: str = "",
    ) -> None:
        self.insns = list(insns)
        self.prog_type = int(prog_type)
        self.name = name
        self.attach_type = int(attach_type)
        self.license = license
        self.prog_flags = prog_flags
        self.maps = list(maps)
        #: the program's own types
        self.btf = btf
        #: by slot; empty without types
        self.funcs = {row.slot: row for row in funcs}
        #: ascending by slot
        self.lines = list(lines)
        self._types = types
        self.attach_btf: Btf | None = None
        self.attach_btf_id = attach_btf_id
        self.attach_name = attach_name
        #: the program whose function an EXT program replaces, or that a tracing program watches
        self.attach_prog: Subject | None = None
        #: (struct's name, member's index) of a struct_ops program
        self.struct_ops: tuple[str, int] | None = None
        #: (type id, index of the module) -> kernel function, where the caller knows better than ``types``
        self.kfuncs: dict[tuple[int, int], KfuncFacts] = {}

    @property
    def gpl_compatible(self) -> bool:
        """Helpers for GPL-compatible programs may be called."""
        return self.license in GPL

    @property
    def sleepable(self) -> bool:
        return bool(self.prog_flags & BPF_F_SLEEPABLE)

    @property
    def types(self) -> Btf | None:
        """The kernel's types, read when first asked for; None where there are none."""
        if callable(self._types):
            try:
                self._types = self._types()
            except BtfError:
                self._types = None
        return self._types

    def kfunc(self, btf_id: int, module: int) -> KfuncFacts | None:
        """The kernel function that a call with immediate ``btf_id`` and offset ``module`` names, or None."""
        found = self.kfuncs.get((btf_id, module))
        if found is not None:
            return found
        types = self.types
        if module or types is None or not 0 < btf_id < len(types):
            return None
        value = types[btf_id]
        if value[0] != 12:  # FUNC
            return None
        found = self.kfuncs[btf_id, module] = KfuncFacts(value.name, types, btf_id)
        return found

    def line(self, slot: int) -> LineFacts | None:
        """The source of slot ``slot``, or None."""
        from bisect import bisect_right

        at = bisect_right(self.lines, slot, key=lambda row: row.slot)
        return self.lines[at - 1] if at else None

    def function_name(self, slot: int) -> str:
        """The name of the function that starts at ``slot``, "" when no types say it."""
        row = self.funcs.get(slot)
        return row.name if row is not None else ""

    @classmethod
    def from_insns(
        cls,
        insns: Sequence[Insn],
        prog_type: ProgType | int = ProgType.SOCKET_FILTER,
        *,
        maps: Sequence[MapFacts] = (),
        types: Btf | Callable[[], Btf] | None = None,
        name: str = "",
        attach_type: int = 0,
        license: str = "GPL",
        prog_flags: int = 0,
    ) -> Subject:
        """A program without an object: bare instructions."""
        return cls(
            insns,
            prog_type,
            name=name,
            attach_type=attach_type,
            license=license,
            prog_flags=prog_flags,
            maps=maps,
            types=types,
        )

    @classmethod
    def from_object(
        cls,
        spec: ObjectSpec,
        program: str,
        *,
        types: CoreTarget | None = None,
        kernel: str | tuple[int, int] = "6.18",
    ) -> Subject:
        """Program ``program`` of an object, linked and relocated.

        ``types`` are the kernel's types that CO-RE and kernel functions are looked up in (by default the
        running kernel's, read only when something asks). ``kernel`` is what LINUX_KERNEL_VERSION says;
        other values of a configuration are the running kernel's, or unknown. Raises LinkError and its kind
        as `link_program`.
        """
        from skep.obj import CoreTarget, link_program

        target = types if types is not None else CoreTarget.kernel()
        linked = link_program(spec, program, target=target)
        kernel_types = _Types(target)
        btf = _loaded_btf(spec)
        maps = [_map_facts(row, btf) for row in spec.maps.values()]
        if ".kconfig" in spec.maps:
            from skep.verifier.version import parse

            maps[list(spec.maps).index(".kconfig")].contents = _configured(spec, parse(kernel))
        order = {name: index for index, name in enumerate(spec.maps)}
        _no_maps(linked)
        for ref in linked.map_refs:
            _has_inner(spec.maps[ref.map])
            linked.set_map(ref, order[ref.map])
        _jump_tables(linked, maps)
        _fill_externs(spec, linked, order, kernel_types)
        program_spec = linked.spec
        names = dict(linked.subprogs)
        self = cls(
            linked.insns,
            program_spec.type,
            name=program_spec.name,
            attach_type=int(program_spec.attach_type) if program_spec.attach_type is not None else 0,
            license=spec.license,
            prog_flags=program_spec.flags | (BPF_F_SLEEPABLE if program_spec.sleepable else 0),
            maps=maps,
            btf=btf,
            funcs=[FuncFacts(slot, names[slot], id) for slot, id in linked.func_infos],
            lines=_lines(btf, linked),
            types=kernel_types,
            attach_name=program_spec.attach_to,
        )
        _attach(self, program_spec)
        if program_spec.type == ProgType.STRUCT_OPS:
            self.struct_ops = _struct_ops_member(spec, program_spec.name, kernel_types)
        return self


class _Types:
    """The kernel's types, when asked for."""

    def __init__(self, target: CoreTarget) -> None:
        self.target = target

    def __call__(self) -> Btf:
        return self.target.btf


def _loaded_btf(spec: ObjectSpec) -> Btf | None:
    """The object's types as a kernel gets them, with sizes and offsets of variables that compilers omit."""
    if spec.btf is None:
        return None
    from skep.btf import Btf
    from skep.obj.fixed_btf import kernel_btf

    return Btf(kernel_btf(spec))


def _struct_ops_member(spec: ObjectSpec, program: str, types: Callable[[], Btf]) -> tuple[str, int] | None:
    """(the kernel's struct, the index of its member) that a program is of, None when no map uses it."""
    local = spec.btf
    if local is None:
        return None
    for row in spec.maps.values():
        if row.type != MapType.STRUCT_OPS:
            continue
        offset = next((at for at, name in row.contents.items() if name == program), None)
        if offset is None:
            continue
        value = local[local.resolve(row.value_type_id)]
        struct_name = str(value[1]).split("___")[0]
        member = next((m[0] for m in value[3] if m[2] == 8 * offset), "")
        try:
            kernel = types()
        except BtfError:
            return None
        found = kernel.find(struct_name, 4)
        if found is None:
            return None
        for index, row_member in enumerate(kernel[found][3]):
            if row_member[0] == member:
                return struct_name, index
    return None


def _configured(spec: ObjectSpec, kernel: tuple[int, int]) -> bytes | None:
    """The contents of map .kconfig for a release, None where the configuration is not known."""
    from skep.errors import LinkError
    from skep.obj import fill_kconfig

    data = spec.maps[".kconfig"].data
    if data is None:
        return None
    before = bytes(data)
    has = ["LINUX_HAS_SYSCALL_WRAPPER"] if kernel >= (4, 17) else []
    if kernel >= (5, 15):
        has.append("LINUX_HAS_BPF_COOKIE")
    try:
        fill_kconfig(spec, version=kernel[0] << 16 | kernel[1] << 8, has=has)
        return bytes(data)
    except LinkError:
        return None
    finally:
        data[:] = before


def _has_inner(row: MapSpec) -> None:
    """Raises LinkError for a map of maps whose inner maps are left to the loader: no kernel makes it."""
    if row.inner is None and row.type in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        from skep.errors import LinkError

        raise LinkError(
            f"map {row.name}: a map of maps without the declaration of its inner maps; where they are made "
            f'at run time, declare one (`__array(values, …)`), or set spec.maps["{row.name}"].inner'
        )


def _map_facts(row: MapSpec, btf: Btf | None) -> MapFacts:
    constant = row.data is not None and (row.section.startswith(".rodata") or row.section == ".kconfig")
    typed = row.value_type_id if row.data is None or row.section != ".kconfig" else 0
    return MapFacts(
        row.name,
        row.type,
        row.key_size,
        row.value_size,
        row.max_entries,
        row.flags,
        inner=_map_facts(row.inner, btf) if row.inner is not None else None,
        contents=bytes(row.data) if constant and row.data is not None else None,
        btf=btf if typed else None,
        key_type=row.key_type_id,
        value_type=typed,
        extra=row.extra,
    )


def _jump_tables(linked: LinkedProgram, maps: list[MapFacts]) -> None:
    """The instruction arrays of indirect jumps, as a loader makes them, and references to them."""
    from skep.obj import MapRef

    known: dict[tuple[int, ...], int] = {}
    for ref in linked.jump_refs:
        index = known.get(ref.slots)
        if index is None:
            index = known[ref.slots] = len(maps)
            count = len(ref.slots)
            kind = MapType.INSN_ARRAY
            maps.append(MapFacts(".jumptables", kind, 4, 16, count, BPF_F_RDONLY_PROG, table=ref.slots))
        linked.set_map(MapRef(ref.pc, ".jumptables", ref.offset), index)


def _lines(btf: Btf | None, linked: LinkedProgram) -> list[LineFacts]:
    if btf is None:
        return []
    text = btf.strings  # those of functions that were added are not in the object's own
    return [
        LineFacts(slot, text[file], where >> 10, where & 0x3FF, text[line])
        for slot, file, line, where in linked.line_infos
    ]


def _fill_externs(
    spec: ObjectSpec, linked: LinkedProgram, order: dict[str, int], types: Callable[[], Btf]
) -> None:
    from skep.obj import MapRef

    for ref in linked.extern_refs:
        extern = spec.externs[ref.name]
        if extern.kind == "kconfig":
            linked.set_map(MapRef(ref.pc, ".kconfig", extern.offset), order[".kconfig"])
            continue
        if extern.kind == "ksym":
            linked.set_value(ref.pc, 0xFFFF_FFFF_8000_0000 if not extern.weak else 0)  # an address, whichever
            continue
        name = extern.name.split("___")[0]
        found: int | None = None
        try:
            found = types().find(name, 14 if extern.kind == "ksym_var" else 12)
        except BtfError:
            if not extern.weak:
                raise
        if found is None:
            if not extern.weak:
                from skep.errors import UnresolvedSymbol

                raise UnresolvedSymbol(f"{spec.path or spec.name}: the kernel's BTF has no {extern.name!r}")
            if ref.is_call:
                _poison(linked, ref.pc)
            else:
                linked.set_value(ref.pc, 0)
        elif ref.is_call:
            linked.set_kfunc(ref.pc, found, 0)
        else:
            linked.set_value(ref.pc, found, pseudo=op.BPF_PSEUDO_BTF_ID, high=0)


def _no_maps(linked: LinkedProgram) -> None:
    """Descriptors that the code itself names are no maps of this object: no index may be taken from them."""
    code = linked.code
    for pc, insn in enumerate(linked.insns):
        if insn.opcode == op.LD_IMM64 and insn.src in (op.BPF_PSEUDO_MAP_FD, op.BPF_PSEUDO_MAP_VALUE):
            struct.pack_into("=i", code, 8 * pc + 4, -1)


def _poison(linked: LinkedProgram, pc: int) -> None:
    linked.set_kfunc(pc, POISON_CALL)
    at = 8 * pc + 1
    linked.code[at] = linked.code[at] & (0x0F if byteorder == "little" else 0xF0)
    struct.pack_into("=h", linked.code, 8 * pc + 2, 0)


_PREFIXES: Final = {23: ("btf_trace_", 8), 27: ("bpf_lsm_", 12), 43: ("bpf_lsm_", 12), 28: ("bpf_iter_", 12)}
_BY_BTF: Final = (ProgType.TRACING, ProgType.LSM)


def _attach(self: Subject, spec: ProgramSpec) -> None:
    """Find what the program attaches to by BTF; none is left to the check to complain about."""
    if spec.type not in _BY_BTF or not spec.attach_to:
        return
    prefix, kind = _PREFIXES.get(self.attach_type, ("", 12))
    types = self.types
    if types is not None:
        self.attach_btf_id = types.find(prefix + spec.attach_to.rpartition(":")[2], kind) or 0
