"""Arguments of the language's own functions."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from skep.lang.values import Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker


def positional(
    c: Walker,
    name: str,
    args: list[Value],
    kwargs: dict[str, Value],
    node: ast.AST,
    least: int,
    most: int | None = None,
) -> list[Value]:
    """The arguments, counted. Keyword arguments are refused."""
    most = least if most is None else most
    if kwargs:
        raise c.error(
            node, f"{name}() takes no argument called {next(iter(kwargs))!r}", "give it by position"
        )
    if not least <= len(args) <= most:
        want = f"{least}" if least == most else f"{least} to {most}"
        raise c.error(
            node,
            f"{name}() takes {want} argument{'s' if most != 1 else ''}, {len(args)} are given",
            f"{name}({', '.join('xyzw'[:most])})",
        )
    return args


def named(
    c: Walker,
    name: str,
    names: tuple[str, ...],
    required: int,
    args: list[Value],
    kwargs: dict[str, Value],
    node: ast.AST,
) -> dict[str, Value]:
    """The arguments by parameter name; the first ``required`` must be there."""
    if len(args) > len(names):
        most = f"at most {len(names)}" if len(names) > required else len(names) or "no"
        raise c.error(
            node,
            f"{name}() takes {most} argument{'s' if len(names) != 1 else ''}, "
            f"{len(args)} {'is' if len(args) == 1 else 'are'} given",
            f"{name}({', '.join(names)})",
        )
    found = dict(zip(names, args, strict=False))
    for key, value in kwargs.items():
        if key not in names:
            raise c.error(node, f"{name}() has no argument {key!r}", c.nearest(key, names))
        if key in found:
            raise c.error(node, f"{name}() is given {key!r} twice", f"{name}({', '.join(names)})")
        found[key] = value
    for key in names[:required]:
        if key not in found:
            raise c.error(node, f"{name}() needs {key!r}", f"{name}({', '.join(names)})")
    return found
