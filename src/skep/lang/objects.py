"""Python objects that a program names: modules, constants, maps, types, functions."""

from __future__ import annotations

import ast
from types import ModuleType
from typing import TYPE_CHECKING, Any

from skep.bpf.globals import Global
from skep.bpf.maps import Map
from skep.bpf.types import Named
from skep.lang.values import BUILTIN, OBJECT, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker


def wrap(c: Walker, obj: Any, node: ast.AST, name: str) -> Value:
    """The value of a Python object called ``name``."""
    from skep.lang.exprs import constant

    if obj is None or isinstance(obj, (bool, int, str, bytes, float)):
        return constant(c, obj, node)
    if isinstance(obj, tuple):
        return c.tuple([wrap(c, item, node, f"{name}_{i}") for i, item in enumerate(obj)])
    if isinstance(obj, Global):
        return c.unit.read_global(c, obj, name, node)
    if isinstance(obj, Map):
        from skep.lang.maps import map_value

        return map_value(c, obj, name, node)
    if isinstance(obj, Named):
        return named(c, obj.name, node)
    if isinstance(obj, (list, dict, set, frozenset, range)):
        hint = "declare a map: bpf.Hash(K, V)"
        if isinstance(obj, (list, frozenset)):
            hint = "a constant table is a tuple; data that changes goes in a map"
        elif isinstance(obj, range):
            hint = f"write it where it is used: {obj!r}"
        raise c.error(node, f"{name} is a Python {type(obj).__name__}, which programs cannot see", hint)
    return Value(OBJECT, obj=obj)


def attribute(c: Walker, obj: Any, name: str, node: ast.AST) -> Value:
    """``obj.name`` of a Python object."""
    if isinstance(obj, ModuleType):
        if obj.__name__ == "skep.bpf":
            return bpf_name(c, obj, name, node)
        found = getattr(obj, name, _MISSING)
        if found is _MISSING:
            hint = c.nearest(name, vars(obj))
            raise c.error(
                node,
                f"module {obj.__name__} has no {name!r}",
                hint if hint.startswith("did") else "see dir() of the module",
            )
        return wrap(c, found, node, name)
    if isinstance(obj, type):
        members = getattr(obj, "__members__", None)
        if members is not None:
            if name not in members:
                raise c.error(node, f"{obj.__name__} has no member {name!r}", c.nearest(name, members))
            return wrap(c, members[name].value, node, name)
        found = getattr(obj, name, _MISSING)
        if isinstance(found, (bool, int, str, bytes)):
            return wrap(c, found, node, name)
        if obj is int and name == "from_bytes":
            from skep.lang.builtins import from_bytes

            return Value(BUILTIN, obj=from_bytes)
    if isinstance(obj, Named):
        found = getattr(obj, name, _MISSING)
    raise c.error(
        node,
        f"{describe(obj)} has nothing that programs can use called {name!r}",
        "integers and texts of a class can be used",
    )


_MISSING = object()


def bpf_name(c: Walker, module: Any, name: str, node: ast.AST) -> Value:
    """``bpf.NAME`` inside a program."""
    from skep.lang.builtins import language

    found = language(name)
    if found is not None:
        return found
    obj = vars(module).get(name, _MISSING)
    if obj is _MISSING:
        obj = getattr(module, name, _MISSING)
    if isinstance(obj, Named) or type(obj).__name__ == "Hook":
        return named(c, name, node)
    return wrap(c, obj, node, name)


def named(c: Walker, name: str, node: ast.AST) -> Value:
    """A name of the kernel's: a helper, a kfunc, an enumerator, a type."""
    from skep.lang import helpers

    found = helpers.lookup(c, name, node)
    if found is None:
        raise c.error(
            node, f"bpf has no {name!r}: no helper, kfunc, type or constant is called so", _like(c, name)
        )
    return found


def _like(c: Walker, name: str) -> str:
    """A hint: what is called nearly so."""
    from skep.lang.builtins import _LANGUAGE
    from skep.uapi import flags
    from skep.uapi.helpers import helpers

    known = [*_LANGUAGE, "comm", "pid", "user_str", "printk", *(h.name for h in helpers().values())]
    if name.isupper():
        known = [key for key in vars(flags) if key.isupper()]
    else:
        known += _structs()
    hint = c.nearest(name, known)
    return hint if hint.startswith("did") else "docs/language.md lists what there is"


def _structs() -> list[str]:
    """Structs of the kernel's that programs are about most."""
    import skep

    try:  # those that the stubs name, for type checkers
        with open(f"{skep.__path__[0]}/bpf/_kernel.pyi", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError:
        return []
    return [line[6:].partition("(")[0].rstrip(":") for line in lines if line.startswith("class ")]


def describe(obj: Any) -> str:
    """What an object is, for messages."""
    name = getattr(obj, "__name__", None)
    if isinstance(obj, type):
        return f"class {name}"
    if callable(obj) and name:
        return f"{name}()"
    return f"an object of class {type(obj).__name__}"
