"""`skep prog load` and `loadall`: programs of an object file, pinned."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.loading import Loaded, load_object, pin_link
from skep.cli.noun.pinning import pin
from skep.cli.noun.words import Usage, Words
from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.kernel.map import Map
    from skep.kernel.program import Program
    from skep.obj.spec import ObjectSpec


def load(call: Call, words: Words) -> None:
    """Load all programs, pin the first at PATH."""
    _load(call, words, everything=False)


def loadall(call: Call, words: Words) -> None:
    """Load all programs, pin each below PATH by its name."""
    _load(call, words, everything=True)


def _load(call: Call, words: Words, *, everything: bool) -> None:
    file, path = words.take("OBJ"), words.take("PATH")
    type_name: str | None = None
    pinmaps: str | None = None
    autoattach = False
    device: dict[str, str] = {}
    replaced: list[tuple[str | int, int]] = []
    with ExitStack() as stack:
        while words:
            if words.accept("type"):
                if type_name is not None:
                    raise Usage("a second type")
                type_name = words.take("TYPE")
            elif words.accept("map"):
                replaced.append(_replacement(call, words, stack))
            elif words.next_is("dev", "offload_dev", "xdpmeta_dev"):
                option = "device" if words.accept("xdpmeta_dev") else "offload"
                words.accept("dev", "offload_dev")
                if device:
                    raise Usage("one device: offload_dev or xdpmeta_dev, once")
                device[option] = words.take("NAME")
            elif words.accept("pinmaps"):
                pinmaps = words.take("DIR")
            elif words.accept("autoattach"):
                autoattach = True
            else:
                expected = "type, map, offload_dev, xdpmeta_dev, pinmaps or autoattach"
                raise Usage(f"expected {expected}, got {words.peek()!r}")
        from skep.obj import read

        spec = read(file)
        if type_name is not None:
            _retype(spec, type_name)
        reuse = _reused(call, spec, replaced, stack)
        with load_object(call, spec, reuse=reuse, **device) as loaded:
            _pin_all(call, loaded, path, pinmaps, everything=everything, autoattach=autoattach)
    call.done()


def _replacement(call: Call, words: Words, stack: ExitStack) -> tuple[str | int, int]:
    """``{ idx IDX | name NAME } MAP``: which of the object's maps, and the descriptor to take for it."""
    which: str | int
    if words.accept("idx"):
        which = words.number("IDX")
    elif words.accept("name"):
        which = words.take("NAME")
    else:
        raise Usage(f"expected idx or name, got {words.peek()!r}")
    fd = objects.map_(call.kernel, words)
    stack.callback(call.kernel.close, fd)
    return which, fd


def _reused(
    call: Call, spec: ObjectSpec, replaced: list[tuple[str | int, int]], stack: ExitStack
) -> dict[str, Map]:
    from skep.kernel.open import map_from_fd

    names = list(spec.maps)
    out: dict[str, Map] = {}
    for which, fd in replaced:
        if isinstance(which, int):
            if which >= len(names):
                raise SkepError(f"map idx {which}: the object has {len(names)} maps")
            which = names[which]
        if which not in spec.maps:
            raise SkepError(f"map name {which}: the object has {', '.join(names) or 'no maps'}")
        out[which] = stack.enter_context(map_from_fd(call.kernel, call.kernel.dup(fd)))
    return out


def _retype(spec: ObjectSpec, word: str) -> None:
    """Give every program the type that a section called ``word`` would have."""
    from skep.obj.sections import lookup

    meaning = lookup(word) or lookup(f"{word}/")
    if meaning is None:
        raise Usage(f"no program type {word!r}: give one as in section names: xdp, tc, kprobe, cgroup/skb, …")
    for program in spec.programs.values():
        program.type = meaning.type
        program.attach_type = meaning.attach_type


def _pin_all(
    call: Call, loaded: Loaded, path: str, pinmaps: str | None, *, everything: bool, autoattach: bool
) -> None:
    """Pin what was loaded; on an error the pins made are removed again."""
    made = loaded.made
    done: list[str] = []
    try:
        if everything:
            _folder(call, path)
            for program in made.programs.values():
                _pin(call, program, os.path.join(path, program.name), autoattach, done)
        else:
            _pin(call, loaded.first(), path, autoattach, done)
        if pinmaps is not None:
            _folder(call, pinmaps)
            for name, map in made.maps.items():
                # bpffs takes no dots in names
                target = os.path.join(pinmaps, (made.spec.maps[name].kernel_name or name).replace(".", "_"))
                pin(call, map.fd, target)
                done.append(target)
    except BaseException:
        for target in done:
            with suppress(OSError):
                os.unlink(target)
        raise


def _pin(call: Call, program: Program, path: str, autoattach: bool, done: list[str]) -> None:
    if autoattach and program.spec.attach_to:
        with program.attach() as link:
            pin_link(call, link, path)
    else:
        if autoattach:
            call.note(f"{program.name}: its section does not say where it attaches; pinned instead")
        pin(call, program.fd, path)
    done.append(path)


def _folder(call: Call, path: str) -> None:
    """Make a folder for pins; bpffs is mounted above where it is missing."""
    from skep.cli.noun.pinning import ensure

    ensure(call, os.path.dirname(os.path.abspath(path)))
    os.makedirs(path, mode=0o700, exist_ok=True)
