"""Which functions are programs, of which type, and what iproute2's section names mean."""

from __future__ import annotations

from skep.obj.guess import GUESSED, Evidence, by_name, by_section, is_tail, of_type, stem, tail_of
from skep.obj.sections import Section
from skep.obj.source import Function, Source, is_text
from skep.obj.spec import MapSpec, ObjectSpec, ProgramSpec
from skep.uapi.enums import AttachType, MapType, ProgType
from skep.uapi.flags import BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS

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
        _Guesses(spec, unknown).run()


def _program(function: Function, section: str) -> ProgramSpec:
    made = ProgramSpec(function.key, section, ProgType.UNSPEC, autoload=not section.startswith("?"))
    meaning = by_section(section)
    if meaning is not None:
        _become(made, meaning)
    return made


def _become(program: ProgramSpec, meaning: Section) -> None:
    program.type = meaning.type
    program.attach_type = meaning.attach_type
    program.hook = meaning.prefix
    program.attach_to = meaning.rest
    program.sleepable = meaning.sleepable
    program.flags = BPF_F_SLEEPABLE if meaning.sleepable else 0
    if "frags" in meaning.flags:
        program.flags |= BPF_F_XDP_HAS_FRAGS


class _Guesses:
    """Gives types to programs whose sections name none, as far as anything tells."""

    def __init__(self, spec: ObjectSpec, unknown: list[ProgramSpec]) -> None:
        self.unknown = unknown
        self.evidence = {program.name: Evidence(spec.functions[program.name]) for program in unknown}
        #: the types known so far, with the attach types of their programs
        self.types: dict[ProgType, set[AttachType]] = {}
        #: how many programs of each type are in sections of one series
        self.series: dict[tuple[str, ProgType], int] = {}
        for program in spec.programs.values():
            if program.type != ProgType.UNSPEC:
                self.note(program)

    def run(self) -> None:
        tails = {program.name for program in self.unknown if is_tail(program.section)}
        for program in self.unknown:
            if program.name not in tails:
                self.decide(program)
        # What tail calls reach is of the type of what reaches it.
        for program in self.left():
            fits = self.evidence[program.name].fits
            types = set(self.types)
            if len(types) == 1 and (not fits or types <= set(fits) or not types <= GUESSED):
                self.follow(program, types.pop())
            elif program.name in tails:
                self.decide(program)
        for program in self.left():
            fits = self.evidence[program.name].fits
            counts = [(self.series.get((stem(program.section), type), 0), type) for type in fits]
            most = max(counts, default=(0, ProgType.UNSPEC))
            if most[0]:
                self.follow(program, most[1])
            elif program.name in tails and (meaning := of_type(ProgType.SCHED_CLS)) is not None:
                _become(program, meaning)

    def left(self) -> list[ProgramSpec]:
        return [program for program in self.unknown if program.type == ProgType.UNSPEC]

    def decide(self, program: ProgramSpec) -> None:
        named = by_name(program.section, program.name.partition("@")[0])
        meaning = self.evidence[program.name].choose(named, self.types)
        if meaning is not None:
            _become(program, meaning)
            self.note(program)

    def note(self, program: ProgramSpec) -> None:
        attach_types = self.types.setdefault(program.type, set())
        if program.attach_type is not None:
            attach_types.add(program.attach_type)
        key = (stem(program.section), program.type)
        self.series[key] = self.series.get(key, 0) + 1

    def follow(self, program: ProgramSpec, type: ProgType) -> None:
        """Make a program one of a type there is already, with its attach type if there is only one.

        A program array holds programs of one type and, in new kernels, of one attach type.
        """
        program.type = type
        if len(self.types[type]) == 1:
            program.attach_type = next(iter(self.types[type]))


def _tail(maps: dict[str, MapSpec], tails: dict[int, str], section: str, function: str) -> None:
    """Put a program where its section says: iproute2's "ID/KEY", "socket/KEY" of the kernel's samples."""
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
