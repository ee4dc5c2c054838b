"""A program put together: what `link_program` gives and a loader fills in."""

from __future__ import annotations

import struct
from sys import byteorder

from skep.errors import CoreReloError
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.isa import Insn
    from skep.obj.spec import ObjectSpec, ProgramSpec

_PSEUDO_MAP_FD: Final = 1
_PSEUDO_MAP_VALUE: Final = 2
FUNC_INFO_BYTES: Final = 8
LINE_INFO_BYTES: Final = 16


class MapRef(NamedTuple):
    """The LD_IMM64 at slot ``pc`` takes map ``map``; with ``offset`` not None that byte of its value."""

    pc: int
    map: str
    offset: int | None = None


class JumpRef(NamedTuple):
    """The LD_IMM64 at slot ``pc`` takes byte ``offset`` of an instruction array of these slots."""

    pc: int
    slots: tuple[int, ...]
    offset: int = 0


class ExternRef(NamedTuple):
    """Slot ``pc`` takes extern ``name`` (a key of `ObjectSpec.externs`): a call of it, or an LD_IMM64."""

    pc: int
    name: str
    is_call: bool


class FailedRelo(NamedTuple):
    """A CO-RE relocation without an answer; the instruction at ``pc`` was made invalid, as libbpf does it.

    ``kind`` is the relocation's name (`field_byte_offset`), ``what`` the C expression it stands for,
    ``function`` the function it is in, ``reason`` why the target has no answer.
    """

    pc: int
    kind: str
    what: str
    function: str
    reason: str

    def error(self, where: str) -> CoreReloError:
        """The error for a program that can reach the instruction."""
        return CoreReloError(f"{where}: {self.function} at insn {self.pc}: {self.what}: {self.reason}")


class LinkedProgram:
    """A program with all subprograms it calls, calls and types relocated; maps and externs left open.

    ``code`` is in host byte order. A loader calls `set_map`, `set_value`, `set_kfunc` for every entry of
    ``map_refs`` and ``extern_refs``, then loads ``bytes(code)`` with `func_info` and `line_info` (records
    of FUNC_INFO_BYTES and LINE_INFO_BYTES, only where the object's BTF is loaded as well: type ids and string
    offsets are those of `skep.obj.kernel_btf`).
    """

    __slots__ = (
        "code",
        "extern_refs",
        "failed_relos",
        "func_infos",
        "jump_refs",
        "line_infos",
        "map_refs",
        "object",
        "spec",
        "subprogs",
    )

    def __init__(self, object: ObjectSpec, spec: ProgramSpec) -> None:
        self.object = object
        self.spec = spec
        self.code = bytearray()
        #: (first slot, name of the function), the program itself first
        self.subprogs: list[tuple[int, str]] = []
        self.map_refs: list[MapRef] = []
        self.extern_refs: list[ExternRef] = []
        self.jump_refs: list[JumpRef] = []
        #: (slot, FUNC id), one for each of `subprogs`, or empty
        self.func_infos: list[tuple[int, int]] = []
        #: (slot, file, text, line << 10 | column): strings as BTF string offsets
        self.line_infos: list[tuple[int, int, int, int]] = []
        self.failed_relos: list[FailedRelo] = []

    def __repr__(self) -> str:
        return f"<LinkedProgram {self.spec.name} {len(self.code) // 8} insns, {len(self.subprogs)} functions>"

    @property
    def insns(self) -> list[Insn]:
        """The instructions, decoded."""
        from skep.isa import decode

        return decode(self.code, byteorder)

    def func_info(self) -> bytes:
        """`func_infos` as the kernel takes them (struct bpf_func_info)."""
        return struct.pack(f"={2 * len(self.func_infos)}I", *[n for row in self.func_infos for n in row])

    def line_info(self) -> bytes:
        """`line_infos` as the kernel takes them (struct bpf_line_info)."""
        return struct.pack(f"={4 * len(self.line_infos)}I", *[n for row in self.line_infos for n in row])

    def function_at(self, pc: int) -> str:
        """The name of the function that slot ``pc`` belongs to."""
        name = self.spec.name
        for start, function in self.subprogs:
            if start > pc:
                break
            name = function
        return name

    # --- filling in ----------------------------------------------------------------------------

    def set_map(self, ref: MapRef, fd: int) -> None:
        """Make the load take the map with this descriptor, or the address in its value."""
        kind = _PSEUDO_MAP_FD if ref.offset is None else _PSEUDO_MAP_VALUE
        self._set_load(ref.pc, kind, fd, ref.offset or 0)

    def set_value(self, pc: int, value: int, *, pseudo: int = 0, high: int | None = None) -> None:
        """Make the load at ``pc`` take ``value`` (64 bits; with ``high`` the two halves apart).

        ``pseudo`` is the source register: 3 (BPF_PSEUDO_BTF_ID) for a typed kernel variable.
        """
        if high is None:
            high = value >> 32
        self._set_load(pc, pseudo, value, high)

    def set_kfunc(self, pc: int, btf_id: int, fd_index: int = 0) -> None:
        """Make the call at ``pc`` that of kernel function ``btf_id``, of module BTF ``fd_index``."""
        struct.pack_into("=hi", self.code, 8 * pc + 2, fd_index, btf_id)
        self._set_source(pc, 2)

    def _set_load(self, pc: int, pseudo: int, low: int, high: int) -> None:
        self._set_source(pc, pseudo)
        struct.pack_into("=I", self.code, 8 * pc + 4, low & 0xFFFFFFFF)
        struct.pack_into("=I", self.code, 8 * pc + 12, high & 0xFFFFFFFF)

    def _set_source(self, pc: int, register: int) -> None:
        at = 8 * pc + 1
        if byteorder == "little":
            self.code[at] = self.code[at] & 0x0F | register << 4
        else:
            self.code[at] = self.code[at] & 0xF0 | register
