"""Which functions are programs, of which type, and what iproute2's section names mean."""

from __future__ import annotations

from skep.obj.sections import apply, before, lookup
from skep.obj.source import Function, Source, is_text
from skep.obj.spec import MapSpec, ProgramSpec
from skep.uapi.enums import MapType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: sections whose number after the slash is a slot of the object's one program array
_NUMBERED: Final = ("socket", "kprobe", "kretprobe")


def collect(source: Source, tails: dict[int, str]) -> None:
    """Make a program of every function outside .text (in an object of .text alone, of those nobody calls).

    ``tails`` maps iproute2's map ids to program arrays: section "7/3" is entry 3 of the map with id 7.
    """
    spec = source.spec
    called = {
        reloc.symbol
        for function in spec.functions.values()
        for reloc in function.relocs
        if reloc.kind in ("call", "func")
    }
    sections = [index for index in source.functions if not is_text(source.names[index])]
    text_only = not sections
    unknown: list[ProgramSpec] = []
    for index in sorted(source.functions) if text_only else sections:
        name = source.names[index]
        for function in source.functions[index]:
            # A static function that is called is a subprogram put beside its program; one that nobody
            # calls is reached by tail calls. In .text only what cannot be a subprogram is a program.
            if function.key in called and (text_only or not function.is_global):
                continue
            if text_only and not (function.is_global or len(source.functions[index]) == 1):
                continue
            made = _program(function, name)
            spec.programs[function.key] = made
            if made.type == ProgType.UNSPEC and function.key in called:
                made.autoload = False  # a function for others, in a section of its own
            elif made.type == ProgType.UNSPEC:
                unknown.append(made)
            _tail(spec.maps, tails, name, function.key)
    if unknown:
        from skep.obj.guess import Guesses

        Guesses(spec, unknown).run()


def _program(function: Function, section: str) -> ProgramSpec:
    made = ProgramSpec(function.key, section, ProgType.UNSPEC, autoload=not section.startswith("?"))
    meaning = lookup(section) or before(section)
    if meaning is not None:
        apply(made, meaning)
    return made


def _tail(maps: dict[str, MapSpec], tails: dict[int, str], section: str, function: str) -> None:
    """Put a program where its section says: iproute2's "ID/KEY", "socket/KEY" of the kernel's samples."""
    if "/" not in section or not any(made.type == MapType.PROG_ARRAY for made in maps.values()):
        return
    from skep.obj.guess import tail_of

    place = tail_of(section)
    if place is not None:
        name, key = tails.get(place[0]), place[1]
    else:
        kind, _, word = section.removeprefix("?").partition("/")
        if kind not in _NUMBERED or not (word.isascii() and word.isdigit()):
            return
        arrays = [name for name, made in maps.items() if made.type == MapType.PROG_ARRAY]
        name, key = arrays[0] if len(arrays) == 1 else None, int(word)
    if name is not None and maps[name].type == MapType.PROG_ARRAY and key < maps[name].max_entries:
        maps[name].contents.setdefault(key, function)
