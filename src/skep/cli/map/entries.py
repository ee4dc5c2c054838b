"""Verbs that read a map: dump, lookup, getnext, peek and pop."""

from __future__ import annotations

import errno

from skep.cli.map.layout import MapView
from skep.cli.map.show import header_json, header_plain
from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.hextext import json_bytes, plain_bytes
from skep.cli.noun.jsontext import text
from skep.cli.noun.words import Words
from skep.errors import KernelError
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def dump(call: Call, words: Words) -> None:
    kernel = call.kernel
    fds = objects.maps(kernel, words)
    with objects.closing(kernel, *fds):
        words.end()
        views = [MapView(call, fd) for fd in fds]
        typed = not call.json and all(view.about["btf_id"] for view in views)
        several = len(views) > 1
        if call.json or typed:
            answers: list[Any] = []
            for view in views:
                rows: Any = _entries(view, typed)
                if several:
                    rows = header_json(view.about) | {"elements": list(rows)}
                answers.append(rows)
            answer = answers if several else answers[0]
            if typed:
                call.write(text(answer, pretty=True) + "\n")
            else:
                call.emit(answer)
            return
        for number, view in enumerate(views):
            _dump_plain(call, view, several, last=number == len(views) - 1)


def _dump_plain(call: Call, view: MapView, several: bool, *, last: bool) -> None:
    out = [header_plain(view.about)] if several else []
    count = 0
    for key in keys(view):
        value = view.room()
        try:
            call.kernel.map_lookup_elem(view.fd, key, value)
        except KernelError as error:
            out += _unreadable(view, key, error)
        else:
            out.append(view.entry_plain(key, value))
            count += 1
    out.append(f"Found {count} element{'' if count == 1 else 's'}\n")
    if not last:
        out.append("\n")
    call.write("".join(out))


def keys(view: MapView) -> Iterator[bytes]:
    """Every key; one deleted meanwhile makes the kernel start again, so as many as the map can hold."""
    kernel = view.call.kernel
    key: bytes | None = None
    for _ in range(2 * max(view.about["max_entries"], 1) + 64):
        following = bytearray(view.key_size)
        try:
            kernel.map_get_next_key(view.fd, key, following)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        key = bytes(following)
        yield key


def _entries(view: MapView, typed: bool) -> Iterator[Any]:
    kernel = view.call.kernel
    shown = view.shown()
    for key in keys(view):
        value = view.room()
        try:
            kernel.map_lookup_elem(view.fd, key, value)
        except KernelError as error:
            if not typed and not _is_hole(view, error):
                yield view.error_json(key, error.errno or 0)
        else:
            if typed and shown is not None:
                yield view.formatted(key, value, shown)
            elif typed:
                yield {"key": json_bytes(key), "value": json_bytes(value)}
            else:
                yield view.entry_json(key, value)


def _is_hole(view: MapView, error: KernelError) -> bool:
    """Maps of maps and of programs have indexes without an entry."""
    return error.errno == errno.ENOENT and (view.of_maps or view.of_programs)


def _unreadable(view: MapView, key: bytes, error: KernelError) -> list[str]:
    if _is_hole(view, error):
        return []
    if error.errno == errno.ENOENT:
        message = "<no entry>"
    elif error.errno == errno.ENOSPC and view.type == MapType.REUSEPORT_SOCKARRAY:
        message = "<cannot read>"
    else:
        import os

        message = os.strerror(error.errno or 0)
    return [view.error_plain(key, message)]


def lookup(call: Call, words: Words) -> int:
    kernel = call.kernel
    fd = objects.map_(kernel, words)
    with objects.closing(kernel, fd):
        view = MapView(call, fd)
        key = view.key(words)
        value = view.room()
        try:
            kernel.map_lookup_elem(fd, key, value)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            if call.json:
                call.emit(None)
            else:
                call.write(f"key:\n{plain_bytes(key)}\n\nNot found\n")
            return 1
        view.print(key, value)
    return 0


def getnext(call: Call, words: Words) -> None:
    kernel = call.kernel
    fd = objects.map_(kernel, words)
    with objects.closing(kernel, fd):
        view = MapView(call, fd)
        key = view.key(words) if words else None
        following = bytearray(view.key_size)
        kernel.map_get_next_key(fd, key, following)
    if call.json:
        call.emit({"key": None if key is None else json_bytes(key), "next_key": json_bytes(following)})
    else:
        shown = "key: None\n" if key is None else f"key:\n{plain_bytes(key)}\n"
        call.write(f"{shown}next key:\n{plain_bytes(following)}\n")


def pop(call: Call, words: Words) -> int:
    kernel = call.kernel
    fd = objects.map_(kernel, words)
    with objects.closing(kernel, fd):
        view = MapView(call, fd)
        words.end()
        value = view.room()
        key = bytearray(view.key_size)
        try:
            kernel.map_lookup_and_delete_elem(fd, key, value)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            if call.json:
                call.emit(None)
            else:
                call.write("Error: empty map\n")
            return 1
        view.print(bytes(key), value)
    return 0
