"""`skep map create`."""

from __future__ import annotations

import socket

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.pinning import pin
from skep.cli.noun.words import Usage, Words
from skep.uapi.enums import MapType


def create(call: Call, words: Words) -> None:
    kernel = call.kernel
    path = words.take("FILE")
    sizes: dict[str, int] = {}
    attr: dict[str, int] = {}
    map_type: MapType | None = None
    name: str | None = None
    inner: list[int] = []
    try:
        while words:
            if words.accept("type"):
                if map_type is not None:
                    raise Usage("a second type")
                map_type = _type(words.take("TYPE"))
            elif words.accept("name"):
                name = words.take("NAME")
            elif words.accept("inner_map"):
                inner.append(objects.map_(kernel, words))
                attr["inner_map_fd"] = inner[-1]
            elif words.accept("dev"):
                device = words.take("NAME")
                try:
                    attr["map_ifindex"] = socket.if_nametoindex(device)
                except OSError:
                    raise Usage(f"no interface {device}") from None
            else:
                for word in ("key", "value", "entries", "flags"):
                    if words.accept(word):
                        if word in sizes:
                            raise Usage(f"a second {word}")
                        sizes[word] = words.number(word)
                        break
                else:
                    raise Usage(f"unexpected {words.peek()!r}")
        if map_type is None:
            raise Usage("type TYPE is missing")
        if name is None:
            raise Usage("name NAME is missing")
        fd = kernel.map_create(
            map_type,
            sizes.get("key", 0),
            sizes.get("value", 0),
            sizes.get("entries", 0),
            sizes.get("flags", 0),
            name=name,
            **attr,
        )
    finally:
        for each in inner:
            kernel.close(each)
    with objects.closing(kernel, fd):
        pin(call, fd, path)
    call.done()


def _type(word: str) -> MapType:
    """A map type by its name, or the first one that begins so."""
    for known in MapType:
        if known and word == known.name.lower():
            return known
    for known in MapType:
        if known and word and known.name.lower().startswith(word):
            return known
    raise Usage(f"no map type {word!r}: {', '.join(known.name.lower() for known in MapType if known)}")
