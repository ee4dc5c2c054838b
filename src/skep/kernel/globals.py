"""Global variables of an object's programs: before loading in its spec, afterwards in the kernel."""

from __future__ import annotations

import errno

from skep.errors import KernelError, LinkError
from skep.kernel.typed import Codecs
from skep.obj.spec import ARENA
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from skep.kernel.codec import Codec
    from skep.kernel.map import Map
    from skep.obj.spec import MapSpec, ObjectSpec

_DATASEC: Final = 15
_MMAPABLE: Final = 1 << 10
_RDONLY_PROG: Final = 1 << 7


class Variable:
    """Where a variable lies in its section, and its type."""

    __slots__ = ("codec", "name", "offset")

    def __init__(self, name: str, offset: int, codec: Codec) -> None:
        self.name = name
        self.offset = offset
        self.codec = codec


def variables(spec: ObjectSpec, section: MapSpec, codecs: Codecs) -> dict[str, Variable]:
    """The variables of a section by name, as far as the object's BTF describes them."""
    btf = spec.btf
    if btf is None:
        return {}
    datasec = btf.find(ARENA, _DATASEC) if section.type == MapType.ARENA else section.btf_id
    if not datasec or btf.kind_of(datasec) != _DATASEC or section.data is None:
        return {}
    offsets = spec.btf_edits.offsets
    found: dict[str, Variable] = {}
    for type_id, offset, _ in btf[datasec][3]:
        var = btf[type_id]
        codec = codecs.of(var[2])
        at = offsets.get(type_id, offset)
        if at >= 0 and at + codec.size <= len(section.data):
            found[var[1]] = Variable(var[1], at, codec)
    return found


def set_variables(spec: ObjectSpec, values: dict[str, Any]) -> None:
    """Give variables their first values, in whatever section they are (``.rodata`` too).

    Raises LinkError for a name that is no variable of the object, or a value that does not fit its type.
    """
    codecs = _codecs(spec)
    known: dict[str, tuple[MapSpec, Variable]] = {}
    for section in spec.maps.values():
        if section.data is not None:
            for name, variable in variables(spec, section, codecs).items():
                known[name] = section, variable
    for name, value in values.items():
        found = known.get(name)
        if found is None:
            names = ", ".join(known) or "none"
            raise LinkError(f"{spec.path or spec.name}: no global variable {name!r}; there are: {names}")
        section, variable = found
        assert section.data is not None
        try:
            data = variable.codec.encode(value)
        except ValueError as error:
            raise LinkError(f"{spec.path or spec.name}: variable {name}: {error}") from None
        section.data[variable.offset : variable.offset + len(data)] = data


def _codecs(spec: ObjectSpec) -> Codecs:
    if spec.btf is None:
        raise LinkError(
            f"{spec.path or spec.name}: global variables have no names without BTF: compile with -g"
        )
    return Codecs(spec.btf)


class Globals:
    """The variables of one section (``obj.data``, ``obj.bss``, ``obj.rodata``) as attributes.

    Reads and writes go to the map's memory where it can be mapped (Linux 5.5), else through the map: then
    a write stores the whole section, and variables that programs change meanwhile may lose an update.
    """

    __slots__ = ("_map", "_read_only", "_variables", "_view")

    def __init__(self, map: Map, known: dict[str, Variable], *, offset: int = 0) -> None:
        view: memoryview | None = None
        read_only = bool(map.flags & _RDONLY_PROG)
        if map.type == MapType.ARENA:
            view = map.arena()[offset:]
        elif map.flags & _MMAPABLE:
            view = map.memory(writable=not read_only)
        for name, value in (("_map", map), ("_variables", known), ("_view", view), ("_read_only", read_only)):
            object.__setattr__(self, name, value)

    def _find(self, name: str) -> Variable:
        found: Variable | None = self._variables.get(name)
        if found is None:
            known = ", ".join(self._variables) or "none that BTF describes"
            raise AttributeError(f"{self._map.name} has no variable {name!r}; there are: {known}")
        return found

    def __getattr__(self, name: str) -> Any:
        variable = self._find(name)
        view = self._view
        if view is not None:
            size = variable.codec.size
            return variable.codec.decode(bytes(view[variable.offset : variable.offset + size]))
        return variable.codec.decode(self._map.raw[bytes(4)], variable.offset)

    def __setattr__(self, name: str, value: Any) -> None:
        variable = self._find(name)
        try:
            data = variable.codec.encode(value)
        except ValueError as error:
            raise KernelError(errno.EINVAL, f"variable {name}: {error}") from None
        if self._read_only:
            raise KernelError(
                errno.EPERM,
                f"variable {name} is constant once loaded: pass variables={{{name!r}: …}} to load",
            )
        end = variable.offset + len(data)
        if self._view is not None:
            self._view[variable.offset : end] = data
            return
        raw = self._map.raw
        whole = bytearray(raw[bytes(4)])
        whole[variable.offset : end] = data
        raw[bytes(4)] = bytes(whole)

    def __dir__(self) -> list[str]:
        return sorted(self._variables)

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._variables)
        return f"<{self._map.name}: {shown}>"

    def _close(self) -> None:
        view = self._view
        if view is not None:
            object.__setattr__(self, "_view", None)
            if self._map.type == MapType.ARENA:
                view.release()
            else:
                self._map.kernel.munmap(view)
