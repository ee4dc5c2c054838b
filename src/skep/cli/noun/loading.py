"""Object files loaded for verbs that pin what they load."""

from __future__ import annotations

import os
from contextlib import contextmanager

from skep.cli.noun.command import Call
from skep.cli.noun.pinning import pin
from skep.errors import SkepError
from skep.uapi.enums import AttachType, MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from skep.kernel.link import Link
    from skep.kernel.map import Map
    from skep.kernel.object import Object
    from skep.kernel.program import Program
    from skep.obj.spec import ObjectSpec


class Loaded:
    """An object in the kernel, until the verb is done."""

    def __init__(self, call: Call, made: Object) -> None:
        self.call = call
        self.made = made

    def first(self, kind: str = "") -> Program:
        """The object's first program; with "ITER" its first iterator."""
        for program in self.made.programs.values():
            if not kind or program.spec.attach_type == AttachType.TRACE_ITER:
                return program
        raise SkepError(f"{self.made.name}: the object has no {'iterator ' if kind else ''}program")

    def register_struct_ops(self, folder: str | None) -> None:
        """Register every struct_ops map, for good: those with links have them pinned in ``folder``."""
        found = 0
        for name, spec in self.made.spec.maps.items():
            if spec.type != MapType.STRUCT_OPS:
                continue
            linked = spec.section.removeprefix("?") == ".struct_ops.link"
            if linked and folder is None:
                raise SkepError(f"{name}: SEC('.struct_ops.link') lives as long as its link: give a LINK_DIR")
            link = self.made.attach_struct_ops(name)
            if linked:
                assert folder is not None
                with link:
                    os.makedirs(folder, exist_ok=True)
                    pin(self.call, link.fd, os.path.join(folder, name))
            else:
                keep(link)
            found += 1
            self.call.note(f"Registered {name} id {self.made.maps[name].id}")
        if not found:
            raise SkepError(f"{self.made.name}: the object has no struct_ops map")


def keep(link: Link) -> None:
    """Let an attachment that has no link of its own outlive this process."""
    from skep.kernel.link import ManualLink

    if isinstance(link, ManualLink):
        link.keep()


@contextmanager
def load_object(
    call: Call,
    source: str | ObjectSpec,
    *,
    reuse: Mapping[str, Map] | None = None,
    **options: Any,
) -> Iterator[Loaded]:
    """The object of a file or spec, loaded; closed at the end. ``options``: further ones of `skep.load`."""
    from skep import load

    level = 7 if "debug" in call.options else 0
    with load(source, reuse=dict(reuse or {}), log_level=level, **options) as made:
        if level:
            for program in made.programs.values():
                call.note(f"{program.name}:\n{program.log}")
        yield Loaded(call, made)


def pin_link(call: Call, link: Link, path: str) -> None:
    """Pin an attachment.

    Raises:
        SkepError: it was not made by a bpf_link, so nothing can be pinned.
    """
    if link.kind != "bpf_link":
        raise SkepError(f"an attachment made by {link.kind} cannot be pinned")
    pin(call, link.fd, path)
