"""Verbs that change a map or its pins: update, push, delete, freeze, pin."""

from __future__ import annotations

from skep.cli.map.layout import MapView
from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Words


def update(call: Call, words: Words) -> None:
    kernel = call.kernel
    fd = objects.map_(kernel, words)
    with objects.closing(kernel, fd):
        view = MapView(call, fd)
        key, value, flags = view.element(words)
        given = [int.from_bytes(value, "little")] if view.of_maps or view.of_programs else []
        with objects.closing(kernel, *given):
            kernel.map_update_elem(fd, key, value, flags)
    call.done()


def delete(call: Call, words: Words) -> None:
    kernel = call.kernel
    fd = objects.map_(kernel, words)
    with objects.closing(kernel, fd):
        kernel.map_delete_elem(fd, MapView(call, fd).key(words))
    call.done()


def freeze(call: Call, words: Words) -> None:
    kernel = call.kernel
    fd = objects.map_(kernel, words)
    with objects.closing(kernel, fd):
        words.end()
        kernel.map_freeze(fd)
    call.done()


def pin(call: Call, words: Words) -> None:
    from skep.cli.noun.pinning import pin as pin_fd

    kernel = call.kernel
    fd = objects.map_(kernel, words)
    with objects.closing(kernel, fd):
        path = words.take("FILE")
        words.end()
        pin_fd(call, fd, path)
    call.done()
