"""Variables that depend on the path: which ones the turns of a loop change differently, read off the source.

The verifier follows every path through a loop. A number that each turn changes alike is the same on all of
them; one that is counted up under a condition, or is what a comparison chose, has another value on each.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

#: expressions whose value LLVM may choose by a branch, and calls, which may be inlined with theirs
_CHOICES = (ast.IfExp, ast.BoolOp, ast.Compare, ast.Call)
_STEPS = (ast.Add, ast.Sub)


class Changes(ast.NodeVisitor):
    """What the body of a loop assigns, and under which conditions."""

    def __init__(self, body: list[ast.stmt]) -> None:
        #: every variable that is assigned
        self.assigned: set[str] = set()
        #: those that not every turn changes alike
        self.uneven: set[str] = set()
        #: those that are only stepped by constants, or set to one
        self.counted: set[str] = set()
        #: the constants that others are set to
        self.constants: dict[str, set[object]] = {}
        self._others: set[str] = set()
        self._from: list[tuple[set[str], ast.expr]] = []
        self._conditional = False
        for part in body:
            self.visit(part)
        self.counted = self.assigned - self._others
        before = -1
        while before < len(self.uneven):  # and what is computed from those
            before = len(self.uneven)
            for names, value in self._from:
                if self.uneven & {one.id for one in ast.walk(value) if isinstance(one, ast.Name)}:
                    self.uneven |= names

    def _set(
        self, targets: Iterable[ast.expr], value: ast.expr | None, step: ast.operator | None = None
    ) -> None:
        names = {one.id for target in targets for one in ast.walk(target)
                 if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}  # fmt: skip
        self.assigned |= names
        if self._conditional or (value is not None and any(isinstance(n, _CHOICES) for n in ast.walk(value))):
            self.uneven |= names
        if not isinstance(value, ast.Constant) or (step is not None and not isinstance(step, _STEPS)):
            self._others |= names
        for name in names:
            self.constants.setdefault(name, set()).update(_constants(value) if step is None else {self})
        if value is not None:
            self._from.append((names, value))

    def visit_Assign(self, node: ast.Assign) -> None:
        self._set(node.targets, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._set([node.target], node.value)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._set([node.target], node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._set([node.target], node.value, node.op)
        self.generic_visit(node)

    def _under_condition(self, node: ast.AST) -> None:
        around, self._conditional = self._conditional, True
        if isinstance(node, ast.For):
            self._set([node.target], None)
        self.generic_visit(node)
        # What follows a turn that may have ended here is not reached by every turn.
        ends = any(isinstance(one, ast.Continue) for one in ast.walk(node))
        self._conditional = around or ends

    visit_If = visit_While = visit_For = visit_With = visit_Match = _under_condition  # noqa: N815  (names of ast)


def _constants(value: ast.expr | None) -> set[object]:
    """The constants that an expression may be; it itself where it may be something else."""
    if isinstance(value, ast.IfExp):
        return _constants(value.body) | _constants(value.orelse)
    return {value.value if isinstance(value, ast.Constant) else value}


def compared(loop: ast.stmt) -> set[str]:
    """The variables that a loop compares: the verifier learns about them in each turn."""
    return {
        name.id
        for one in ast.walk(loop)
        if isinstance(one, ast.Compare)
        for side in (one.left, *one.comparators)
        for name in ast.walk(side)
        if isinstance(name, ast.Name)
    }
