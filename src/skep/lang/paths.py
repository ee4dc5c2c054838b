"""What a test says of a member: after ``if table.used < 16:`` the index ``table.used`` is known to fit.

The value that was tested is kept like a variable and taken again where the member is read, until the member
may have changed: something is stored that may be it, something is called, or the name means another object.
Only members and global variables that bound something (in an index or an argument), and those that may be
None, are kept.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from skep.bpf.globals import Global
from skep.lang.values import INT, OPTIONAL, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_MARK: Final = "@"


def text(node: ast.expr) -> str | None:
    """``a.b.c`` of names and members, None for anything else."""
    if isinstance(node, ast.Attribute):
        base = text(node.value)
        return None if base is None else f"{base}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def bounding(node: ast.FunctionDef) -> frozenset[str]:
    """Members in an index, an argument, or the count of a shift."""
    found = set()
    for part in ast.walk(node):
        inside: list[ast.AST] = []
        if isinstance(part, ast.Subscript):
            inside = [part.slice]
        elif isinstance(part, ast.Call):
            inside = [*part.args, *part.keywords]
        elif isinstance(part, ast.BinOp) and isinstance(part.op, (ast.LShift, ast.RShift)):
            inside = [part.right]
        for one in inside:
            found |= {t for n in ast.walk(one) if isinstance(n, ast.Attribute) and (t := text(n)) is not None}
    return frozenset(found)


def key(c: Walker, node: ast.expr) -> str | None:
    """The key under which the member that ``node`` names is kept, while it is."""
    made = _key(c, node)
    return made if made is not None and made in c.env else None


def _key(c: Walker, node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        variable = _global(c, node.id)
        return f"{_MARK}{id(variable)}" if variable is not None else None
    if not isinstance(node, ast.Attribute):
        return None
    path = text(node)
    if path is None or c.scope.prefix + path.split(".")[0] not in c.env:
        return None
    return f"{_MARK}{c.scope.prefix}{path}"


def _global(c: Walker, name: str) -> Global | None:
    """The global variable of the module that a name means: it lies in memory as members do."""
    scope = c.scope
    found = None if name in scope.locals or name in scope.closure else scope.globals.get(name)
    return found if isinstance(found, Global) else None


def keep(c: Walker, node: ast.expr, value: Value) -> None:
    """Remember the value of a member that is being tested."""
    made = _key(c, node)
    if made is None or value.ref is not None:
        return
    bounds = c.scope.sensitive if isinstance(node, ast.Name) else c.scope.members
    number = value.type is INT and value.const is None and text(node) in bounds
    if number or (value.type.nullable and value.type is not OPTIONAL):
        c.bind(made, value, node)


def taken(c: Walker, node: ast.expr) -> Value | None:
    """The value that is kept of a member."""
    made = key(c, node)
    return None if made is None else c.read(c.env[made])


def renamed(c: Walker, variable: str) -> None:
    """A variable means something else now."""
    _drop(c, f"{_MARK}{variable}.")


def changed(c: Walker, name: str = "") -> None:
    """Something was stored in members called ``name``, or anywhere."""
    _drop(c, _MARK, f".{name}" if name else "")


def _drop(c: Walker, start: str, end: str = "") -> None:
    for one in [one for one in c.env if one.startswith(start) and one.endswith(end)]:
        del c.env[one]


@contextmanager
def storing(c: Walker, number: bool, name: str) -> Iterator[None]:
    """While a ``number`` is stored in members called ``name`` ("": in elements, which are no member's)."""
    if not number or c.overlaid:
        yield
        return
    c.em.quiet += 1
    try:
        yield
    finally:
        c.em.quiet -= 1
    if name:
        changed(c, name)
