"""Which functions are programs, of which type, and what iproute2's section names mean."""

from __future__ import annotations

from skep.obj.sections import Section, guess, lookup
from skep.obj.source import Function, Source, is_text
from skep.obj.spec import MapSpec, ProgramSpec
from skep.uapi.enums import MapType, ProgType
from skep.uapi.flags import BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS


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
            if made.type == ProgType.UNSPEC:
                unknown.append(made)
            _tail(spec.maps, tails, name, function.key)
    types = {program.type for program in spec.programs.values()} - {ProgType.UNSPEC}
    if len(types) == 1:  # tail programs and the like are of the type of the program that reaches them
        for program in unknown:
            program.type = next(iter(types))


def _program(function: Function, section: str) -> ProgramSpec:
    meaning: Section | None = lookup(section) or guess(section, function.name)
    if meaning is None:
        return ProgramSpec(function.key, section, ProgType.UNSPEC, autoload=not section.startswith("?"))
    flags = BPF_F_SLEEPABLE if meaning.sleepable else 0
    if "frags" in meaning.flags:
        flags |= BPF_F_XDP_HAS_FRAGS
    return ProgramSpec(
        function.key,
        section,
        meaning.type,
        meaning.attach_type,
        hook=meaning.prefix,
        attach_to=meaning.rest,
        sleepable=meaning.sleepable,
        flags=flags,
        autoload=not section.startswith("?"),
    )


def _tail(maps: dict[str, MapSpec], tails: dict[int, str], section: str, function: str) -> None:
    first, slash, second = section.partition("/")
    if not slash:
        return
    try:
        id, key = int(first, 0), int(second, 0)
    except ValueError:
        return
    name = tails.get(id)
    if name is not None and maps[name].type == MapType.PROG_ARRAY:
        maps[name].contents.setdefault(key, function)
