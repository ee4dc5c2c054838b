"""Programs that are nearly right: valid ones with pieces of their syntax exchanged."""

from __future__ import annotations

import ast
import copy
import random


def mutant(source: str, rng: random.Random, most: int = 3) -> str:
    """The source with up to ``most`` expressions or statements of its functions exchanged or changed."""
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for _ in range(rng.randint(1, most)):
        function = rng.choice(functions)
        rng.choice([_exchange, _exchange, _constant, _drop, _operator, _name, _rename])(function, rng)
    return ast.unparse(ast.fix_missing_locations(tree))


def _slots(function: ast.FunctionDef) -> list[tuple[ast.AST, str, int | None]]:
    """Where expressions are."""
    found: list[tuple[ast.AST, str, int | None]] = []
    for statement in function.body:
        for node in ast.walk(statement):
            for field, value in ast.iter_fields(node):
                if isinstance(value, ast.expr) and not _stored(value):
                    found.append((node, field, None))
                elif isinstance(value, list):
                    found += [
                        (node, field, i)
                        for i, item in enumerate(value)
                        if isinstance(item, ast.expr) and not _stored(item)
                    ]
    return found


def _stored(node: ast.expr) -> bool:
    return not isinstance(getattr(node, "ctx", ast.Load()), ast.Load) or isinstance(
        node, (ast.JoinedStr, ast.Starred)
    )


def _get(slot: tuple[ast.AST, str, int | None]) -> ast.expr:
    node, field, at = slot
    value = getattr(node, field)
    found: ast.expr = value if at is None else value[at]
    return found


def _put(slot: tuple[ast.AST, str, int | None], value: ast.expr) -> None:
    node, field, at = slot
    if at is None:
        setattr(node, field, value)
    else:
        getattr(node, field)[at] = value


def _exchange(function: ast.FunctionDef, rng: random.Random) -> None:
    slots = _slots(function)
    if slots:
        _put(rng.choice(slots), copy.deepcopy(_get(rng.choice(slots))))


def _constant(function: ast.FunctionDef, rng: random.Random) -> None:
    slots = _slots(function)
    if slots:
        value = rng.choice([0, 1, -1, 3, 64, 1 << 32, 1 << 64, None, True, "text", b"x", 1.5])
        _put(rng.choice(slots), ast.Constant(value))


def _drop(function: ast.FunctionDef, rng: random.Random) -> None:
    bodies: list[list[ast.stmt]] = []
    for node in ast.walk(function):
        found = getattr(node, "body", None)
        if isinstance(found, list) and len(found) > 1:
            bodies.append(found)
    if bodies:
        body = rng.choice(bodies)
        if rng.random() < 0.5:
            del body[rng.randrange(len(body))]
        else:
            i, j = rng.randrange(len(body)), rng.randrange(len(body))
            body[i], body[j] = body[j], body[i]


def _operator(function: ast.FunctionDef, rng: random.Random) -> None:
    nodes = [n for n in ast.walk(function) if isinstance(n, (ast.BinOp, ast.AugAssign, ast.Compare))]
    if not nodes:
        return
    node = rng.choice(nodes)
    if isinstance(node, ast.Compare):
        node.ops[0] = rng.choice([ast.Lt, ast.Eq, ast.Is, ast.In, ast.NotIn, ast.GtE, ast.IsNot])()
    else:
        node.op = rng.choice(
            [ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.LShift, ast.Pow, ast.MatMult]
        )()


def _name(function: ast.FunctionDef, rng: random.Random) -> None:
    names = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    if len(names) > 1:
        rng.choice(names).id = rng.choice(names).id


def _rename(function: ast.FunctionDef, rng: random.Random) -> None:
    nodes = [n for n in ast.walk(function) if isinstance(n, ast.Attribute)]
    if len(nodes) > 1:
        rng.choice(nodes).attr = rng.choice(nodes).attr
