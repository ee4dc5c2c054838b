"""A loaded object: its maps, programs and global variables."""

from __future__ import annotations

from skep.errors import LinkError
from skep.kernel.protocol import Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Any, Self, TypeVar

    from skep.btf import Btf
    from skep.kernel.codec import Codec
    from skep.kernel.globals import Globals
    from skep.kernel.link import Link
    from skep.kernel.map import Map
    from skep.kernel.perfbuf import PerfBuffer
    from skep.kernel.program import Program
    from skep.kernel.ringbuf import RingBuf
    from skep.obj.spec import ObjectSpec

    _T = TypeVar("_T")

_VAR = 14  # kind of BTF
_LOST_NAMES = ("lost", "dropped", "drops", "missed")


class Object:
    """Owns everything that was loaded: closing it detaches what is not pinned.

    ``obj.NAME`` is the map or program of that name, ``obj.data``, ``obj.bss``, ``obj.rodata`` and
    ``obj.data_x`` (section ``.data.x``) the global variables. Where a map and a program share a name, and
    for names that are Python's or this class's own: `maps` and `programs`.
    """

    def __init__(self, kernel: Kernel, spec: ObjectSpec) -> None:
        self.kernel = kernel
        self.spec = spec
        self.name = spec.name
        #: by name; global data under its section's name
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
        #: links made by `attach`
        self.links: list[Link] = []
        self._globals: dict[str, Globals] = {}
        self._readers: list[RingBuf | PerfBuffer] = []
        self._struct_ops: dict[str, bytes] = {}
        self._closed = False

    def _add_map(self, name: str, map: Map) -> None:
        self.maps[name] = map

    def _add_program(self, name: str, program: Program) -> None:
        self.programs[name] = program

    def __repr__(self) -> str:
        return f"<Object {self.name} programs={list(self.programs)} maps={list(self.maps)}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self.programs:
            return self.programs[name]
        if name in self.maps:
            return self.maps[name]
        section = next((key for key in self.maps if _attribute(key) == name), None)
        if section is not None:
            return self.globals(section)
        known = ", ".join([*self.programs, *map(_attribute, self.maps)]) or "nothing"
        raise AttributeError(f"object {self.name} has no program or map {name!r}; there are: {known}")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self.programs, *map(_attribute, self.maps)})

    def globals(self, section: str) -> Globals:
        """The variables of a section by its name in the object (".data", ".rodata.cfg")."""
        known = self._globals.get(section)
        if known is None:
            from skep.kernel.globals import Globals, variables
            from skep.kernel.typed import Codecs

            map = _known(self, "map", self.maps, section)
            spec = self.spec.maps[section]
            if spec.data is None:
                raise LinkError(f"{self.name}: map {section} holds no global variables")
            btf = self.spec.btf
            found = variables(self.spec, spec, Codecs(btf)) if btf is not None else {}
            known = self._globals[section] = Globals(map, found, offset=spec.data_offset)
        return known

    def require(
        self, *, maps: Iterable[str] = (), programs: Iterable[str] = (), variables: Iterable[str] = ()
    ) -> None:
        """Raises LinkError that names what of these the object does not have (`skep gen subskeleton`)."""
        from skep.kernel.globals import variables as of_section
        from skep.kernel.typed import Codecs

        known: set[str] = set()
        if self.spec.btf is not None:
            codecs = Codecs(self.spec.btf)
            for section in self.spec.maps.values():
                known.update(of_section(self.spec, section, codecs))
        missing = [
            *(f"map {name}" for name in maps if name not in self.maps),
            *(f"program {name}" for name in programs if name not in self.spec.programs),
            *(f"variable {name}" for name in variables if name not in known),
        ]
        if missing:
            raise LinkError(f"object {self.name} has no {', no '.join(missing)}")

    # --- attaching -----------------------------------------------------------------------------

    def attach(self, *names: str) -> list[Link]:
        """Attach programs (by default all whose section says where); the object keeps the links.

        When one fails, those made by this call are closed again.
        """
        chosen = (
            [_known(self, "program", self.programs, name) for name in names] if names else self._attachable()
        )
        made: list[Link] = []
        try:
            for program in chosen:
                made.append(program.attach())  # noqa: PERF401 - those made are closed on an error
            if not names:
                made += [self.attach_struct_ops(name) for name in self._struct_ops if self._linked_ops(name)]
        except BaseException:
            for link in made:
                link.close()
            raise
        self.links += made
        return made

    def _linked_ops(self, name: str) -> bool:
        return self.spec.maps[name].section.removeprefix("?") == ".struct_ops.link"

    def _attachable(self) -> list[Program]:
        return [p for p in self.programs.values() if p.spec.attach_to and p.spec.hook not in _BY_HAND]

    def attach_struct_ops(self, name: str) -> Link:
        """Register the operations of a struct_ops map with the kernel, until the link is closed."""
        from skep.kernel.struct_ops import register

        value = _known(self, "struct_ops map", self._struct_ops, name)
        return register(self.maps[name], value, linked=self._linked_ops(name))

    # --- reading -------------------------------------------------------------------------------

    def codec(self, name: str) -> Codec:
        """The codec of a struct, union, enum or typedef of the object.

        Structs and unions that BTF leaves out, types of local variables most of them, are looked for in the
        debugging information (DWARF) of the file that the object was read from.

        Raises:
            LinkError: no such type, or several of one name.
        """
        from skep.kernel.typed import Codecs

        btf = self.spec.btf
        plain = name.removeprefix("struct ").removeprefix("union ")
        id = btf.find(plain) if btf is not None else None
        if btf is None or id is None:
            btf, id = self._debug_type(plain)
        return Codecs(btf).of(id)

    def _debug_type(self, name: str) -> tuple[Btf, int]:
        """A struct or union of the sources, made from the file's DWARF: its types, and which it is."""
        from skep.btf.dwarf import DebugTypes
        from skep.elf import Elf

        path = self.spec.path
        debug = DebugTypes(Elf.open(path)) if path is not None else None
        found = [row for row in debug.structs if row[0] == name] if debug is not None else []
        if debug is None or not found:
            raise LinkError(
                f"{self.name}: the object's BTF has no type {name!r}, nor have its sources by their DWARF; "
                f"a global `struct {name} *unused;` brings it in"
            )
        if len({size for _, _, size in found}) > 1:
            sizes = ", ".join(str(size) for size in sorted({size for _, _, size in found}))
            raise LinkError(f"{self.name}: there are several types {name!r}, of {sizes} bytes")
        return debug.btf(found[0][1])

    def reader(self, name: str, type: str | Codec | None = None) -> RingBuf | PerfBuffer:
        """The reader of a ring buffer or perf event array; closed with the object.

        ``type`` names the records' struct, as for `codec`; by default that of the map's declaration, else
        they are bytes.
        A global variable or a map of counts called ``NAME_lost``, ``lost`` or ``dropped`` is taken for the
        count of records that the program could not write.
        """
        map = _known(self, "map", self.maps, name)
        codec = self.codec(type) if isinstance(type, str) else type
        if codec is None and self.spec.maps[name].value_type_id and map.type_name.endswith("ringbuf"):
            from skep.kernel.typed import Codecs

            btf = self.spec.btf
            codec = Codecs(btf).of(self.spec.maps[name].value_type_id) if btf is not None else None
        if codec is None and type is None:
            codec = self._record_codec(name)
        made: RingBuf | PerfBuffer
        if map.type_name == "perf_event_array":
            from skep.kernel.perfbuf import PerfBuffer

            made = PerfBuffer(map, codec)
        else:
            from skep.kernel.ringbuf import ring_reader

            made = ring_reader(map, codec, lost=self._lost_counter(name))
        self._readers.append(made)
        return made

    def _record_codec(self, name: str) -> Codec | None:
        """The records of a ring as an object built from Python names them: by variable ``NAME__record``."""
        btf = self.spec.btf
        id = btf.find(f"{name}__record", _VAR) if btf is not None else None
        if btf is None or id is None:
            return None
        from skep.kernel.typed import Codecs

        pointer = btf[btf[id][2]]
        return Codecs(btf).of(pointer[2])

    def _lost_counter(self, ring: str) -> Any:
        names = [f"{ring}_{word}" for word in _LOST_NAMES] + list(_LOST_NAMES)
        sections = [key for key, spec in self.spec.maps.items() if spec.data is not None]
        for name in names:
            for section in sections:
                found = self.globals(section) if self.spec.btf is not None else ()
                if name in found:
                    return lambda found=found, name=name: int(getattr(found, name))
            map = self.maps.get(name)
            if map is not None and map.value_size in (4, 8) and map.type_name in ("array", "percpu_array"):
                return lambda map=map: sum(map[0]) if map.per_cpu else map[0]
        return None

    # --- closing -------------------------------------------------------------------------------

    def close(self) -> None:
        """Detach and close everything; may be called again."""
        if self._closed:
            return
        self._closed = True
        for reader in self._readers:
            reader.close()
        for section in self._globals.values():
            section._close()
        for link in reversed(self.links):
            link.close()
        for program in self.programs.values():
            program.close()
        for map in self.maps.values():
            map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


#: hooks whose section says what they are, not where they attach
def _known(made: Object, kind: str, table: dict[str, _T], name: str) -> _T:
    found = table.get(name)
    if found is None:
        known = ", ".join(table) or "none"
        raise LinkError(f"object {made.name}: no {kind} {name!r} is loaded; there are: {known}")
    return found


_BY_HAND = frozenset(("xdp", "tc", "tcx", "cgroup", "sk_reuseport", "struct_ops", "struct_ops.s", "freplace"))


def _attribute(key: str) -> str:
    return key[1:].replace(".", "_") if key.startswith(".") else key
