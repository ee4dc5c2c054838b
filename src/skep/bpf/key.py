"""What an object depends on, as bytes: the key under which a compiled one is kept.

Computed without parsing anything: source files as they are, the values that functions refer to, and the
compiler itself by its files' sizes and times. Whatever could change the object changes the key; the
reverse is not promised.
"""

from __future__ import annotations

import os
import sys

from skep.bpf.globals import Global
from skep.bpf.maps import Map
from skep.bpf.programs import Program, Subprog
from skep.bpf.types import BpfType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: folders of skep whose code decides what an object looks like, and those that read it
_COMPILER = ("bpf", "lang", "llvm", "net")
_READERS = ("btf", "elf", "obj")


def of_programs(programs: Iterable[Program], *options: str) -> list[bytes]:
    """The parts of the key of an object with these programs, compiled with these options."""
    seen = _Seen()
    for program in programs:
        seen.note(f"program {program.section} {program.__name__} {program.options}")
        seen.function(program.fn)
        seen.module(program.fn.__globals__)
    files = []
    for path in sorted(seen.files):
        try:
            with open(path, "rb") as file:
                files.append(file.read())
        except OSError:
            files.append(path.encode())
    return [
        _files_of(_COMPILER),
        "\0".join(options).encode(),
        "\n".join(seen.notes).encode("utf-8", "replace"),
        *files,
    ]


def of_readers() -> bytes:
    """One more part for what was read from the object and is kept beside it (`skep.obj.prepared`)."""
    return _files_of(_READERS)


def _files_of(folders: tuple[str, ...]) -> bytes:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = [sys.version]
    for folder in folders:
        try:
            entries = os.scandir(os.path.join(root, folder))
        except OSError:
            continue
        for entry in entries:
            if entry.name.endswith(".py"):
                info = entry.stat()
                found.append(f"{folder}/{entry.name} {info.st_size} {info.st_mtime_ns}")
    return "\n".join(sorted(found)).encode()


class _Seen:
    """Everything that a program's functions reach."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.files: set[str] = set()
        self._done: set[int] = set()
        self._kept: list[Any] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def first(self, obj: Any) -> bool:
        if id(obj) in self._done:
            return False
        self._done.add(id(obj))
        self._kept.append(obj)  # so that its id stays its own
        return True

    def function(self, fn: Any) -> None:
        if not self.first(fn):
            return
        code = fn.__code__
        self.files.add(code.co_filename)
        base = code.co_filename.rpartition("/")[2]  # line information has it
        self.note(f"function {code.co_name} {base} {code.co_firstlineno}")
        space = fn.__globals__
        for name in code.co_names:
            if name in space:
                self.value(name, space[name], code.co_names)
        for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=False):
            try:
                self.value(name, cell.cell_contents, code.co_names)
            except ValueError:
                self.note(f"{name} is empty")
        for name, annotation in fn.__annotations__.items():
            self.value(name, annotation, ())
        for default in fn.__defaults__ or ():
            self.value("default", default, ())
        for name, default in (fn.__kwdefaults__ or {}).items():
            self.value(name, default, ())

    def module(self, space: dict[str, Any]) -> None:
        """Maps and global variables of a module are in the object whether used or not."""
        annotations = space.get("__annotations__") or {}
        for name, obj in space.items():
            if isinstance(obj, (Map, Global)):
                self.value(name, obj, ())
                self.value(f"{name}:", annotations.get(name), ())
        for name in ("license", "LICENSE", "__license__"):
            self.note(f"{name} {space.get(name)!r}")

    def value(self, name: str, obj: Any, names: tuple[str, ...]) -> None:
        """What ``name`` stands for; ``names`` are the attributes that the function may take of a module."""
        if obj is None or isinstance(obj, (bool, int, float, str, bytes)):
            self.note(f"{name}={obj!r}")
        elif isinstance(obj, tuple):
            for i, item in enumerate(obj):
                self.value(f"{name}[{i}]", item, names)
        elif isinstance(obj, (Program, Subprog)):
            self.note(f"{name} {obj!r}")
            self.function(obj.fn)
        elif isinstance(obj, (Map, Global, BpfType)):
            self.note(f"{name} {type(obj).__name__}")
            self._slots(name, obj)
        elif isinstance(obj, type):
            self._class(name, obj)
        elif hasattr(obj, "__code__"):
            self.function(obj)
        elif type(obj) is type(sys):
            self._module(name, obj, names)
        else:
            self.note(f"{name}:{type(obj).__name__}")

    def _slots(self, name: str, obj: Any) -> None:
        if not self.first(obj):
            return
        for cls in type(obj).__mro__:
            for slot in getattr(cls, "__slots__", ()):
                inner = getattr(obj, slot, None)
                if isinstance(inner, dict):
                    inner = tuple(inner.items())
                elif isinstance(inner, list):
                    inner = tuple(inner)
                self.value(f"{name}.{slot}", inner, ())

    def _class(self, name: str, cls: type) -> None:
        if not self.first(cls):
            return
        info = cls.__dict__.get("__bpf__")
        if info is not None:
            self.note(f"struct {info.name} {info.union} {info.packed} {info.align} {info.kernel}")
            for field, kind in info.fields:
                self.value(field, kind, ())
            return
        members = getattr(cls, "__members__", None)
        if members is not None:
            self.note(f"{cls.__name__} {[(key, int(value)) for key, value in members.items()]}")
            return
        self.note(f"class {cls.__name__}")

    def _module(self, name: str, module: Any, names: tuple[str, ...]) -> None:
        self.note(f"{name} module {module.__name__}")
        if module.__name__.startswith("skep."):
            return
        space = vars(module)
        for attribute in names:
            if attribute in space:
                self.value(f"{name}.{attribute}", space[attribute], names)


__all__ = ["of_programs", "of_readers"]
