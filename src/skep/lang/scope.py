"""What the walker knows about the function it is in, and about variables where paths meet."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from skep.lang import held, paths
from skep.lang.values import (
    BOOL,
    INT,
    NONE,
    OPTIONAL,
    S64_MAX,
    S64_MIN,
    U64,
    BoolType,
    IntType,
    OptionalType,
    TupleType,
    Value,
)

if TYPE_CHECKING:
    from skep.lang.layout import Storage
    from skep.lang.source import SourceFile

Env = dict[str, Value]


class Loop:
    """A loop being walked: where ``break`` and ``continue`` go, and the variables they arrive with."""

    __slots__ = ("breaks", "continues", "on_break", "on_continue", "turn_withs", "turns", "withs")

    def __init__(
        self, on_break: str, on_continue: str, withs: int, turn_withs: int = -1, turns: int = 1
    ) -> None:
        self.on_break = on_break
        self.on_continue = on_continue
        #: how many with blocks are open outside the loop, and inside it around its body
        self.withs = withs
        self.turn_withs = withs if turn_withs < 0 else turn_withs
        #: how often the verifier may follow the body
        self.turns = turns
        self.breaks: list[Env] = []
        self.continues: list[Env] = []


class Scope:
    """One function body: the program's own, or one that is inlined into it."""

    def __init__(
        self, fn: Any, node: ast.FunctionDef, file: SourceFile, prefix: str, debug_scope: str
    ) -> None:
        self.fn = fn
        self.node = node
        self.file = file
        #: put before the names of its variables
        self.prefix = prefix
        self.debug_scope = debug_scope
        code = fn.__code__
        self.locals: frozenset[str] = frozenset(code.co_varnames + code.co_cellvars)
        self.globals: dict[str, Any] = fn.__globals__
        self.closure: dict[str, Any] = {}
        for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=False):
            try:
                self.closure[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        #: storage types of annotated locals: assignments wrap
        self.declared: dict[str, Storage] = {}
        self.loops: list[Loop] = []
        #: open with blocks, as calls that leave them
        self.withs: list[Any] = []
        #: of an inlined function: where return goes
        self.on_return = ""
        self.returns: list[Env] = []
        #: how the function's result is returned when it is not inlined: "i32", "i64", "ptr", "void"
        self.result = ""
        self.result_storage: Storage | None = None
        #: the numbers it may return, where they are restricted
        self.verdicts: tuple[int, int] | None = None
        #: those that the hook of a program allows
        self.hook_verdicts: tuple[int, int] | None = None
        #: a function without a result returns 0
        self.optional_result = False
        self.sensitive = _sensitive(node)
        #: members that bound something, "table.used"
        self.members = paths.bounding(node)
        #: parameters, and then all variables, that may hold the result of a division (`skep.lang.remainders`)
        self.divided_params: set[str] = set()
        self.divided: set[str] | None = None
        #: those of which the verifier was made to forget the bounds (`skep.lang.forget`)
        self.forgotten: set[str] = set()
        #: those whose value a test chooses
        self.chosen: set[str] | None = None
        #: variables (and "$ret") that are None on some path: numbers in them carry a flag
        self.noneable = _noneable(node)


def _noneable(node: ast.FunctionDef) -> frozenset[str]:
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Assign) and _is_none(part.value):
            names |= {target.id for target in part.targets if isinstance(target, ast.Name)}
        elif isinstance(part, (ast.AnnAssign, ast.NamedExpr)) and part.value is not None:
            if _is_none(part.value) and isinstance(part.target, ast.Name):
                names.add(part.target.id)
        elif isinstance(part, ast.Return) and (part.value is None or _is_none(part.value)):
            names.add("$ret")
    return frozenset(names)


def _is_none(node: ast.expr) -> bool:
    """Whether the value may be a plain None."""
    if isinstance(node, ast.IfExp):
        return _is_none(node.body) or _is_none(node.orelse)
    return isinstance(node, ast.Constant) and node.value is None


def _sensitive(node: ast.FunctionDef) -> frozenset[str]:
    """Names whose bounds the verifier will need: those in an index or an argument."""
    names = set()
    for part in ast.walk(node):
        inside: list[ast.AST] = []
        if isinstance(part, ast.Subscript):
            inside = [part.slice]
        elif isinstance(part, ast.Call):
            inside = [*part.args, *part.keywords]
        elif isinstance(part, ast.Return) and part.value is not None:  # it may be the caller's index
            inside = [part.value]
        for one in inside:
            names |= {n.id for n in ast.walk(one) if isinstance(n, ast.Name)}
    before = -1
    while before < len(names):  # and what they are computed from
        before = len(names)
        for part in ast.walk(node):
            if (
                not isinstance(part, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr))
                or not part.value
            ):
                continue
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            if any(isinstance(n, ast.Name) and n.id in names for target in targets for n in ast.walk(target)):
                names |= {n.id for n in ast.walk(part.value) if isinstance(n, ast.Name)}
    return frozenset(names)


def join_values(a: Value, b: Value) -> Value | None:
    """What a variable is that is ``a`` on one path and ``b`` on another; None when nothing is both."""
    if a is b:
        return a
    good, ref = held.join_refs(a, b)
    made = _join_values(a, b) if good else None
    origin = a.origin if a.origin == b.origin else None
    if made is not None and (made.ref != ref or made.origin != origin):
        made = Value(made.type, made.ir, made.lo, made.hi, obj=made.obj, place=made.place, ref=ref)
        made.origin = origin
    return made


def _join_values(a: Value, b: Value) -> Value | None:
    if INT in (a.type, b.type) and NONE in (a.type, b.type):
        number = a if a.type is INT else b
        if number.obj is None:
            return None
        return Value(OPTIONAL, obj=(number.obj, Value(INT, "", number.lo, number.hi, place=number.place)))
    if INT in (a.type, b.type) and OPTIONAL in (a.type, b.type):
        number, other = (a, b) if a.type is INT else (b, a)
        if number.obj is None:
            return None
        flagged = Value(INT, "", number.lo, number.hi, place=number.place)
        return _join_optional(OPTIONAL, Value(OPTIONAL, obj=(number.obj, flagged)), other)
    if {a.type, b.type} == {INT, BOOL}:
        number, truth = (a, b) if a.type is INT else (b, a)
        if truth.obj is None:
            return None
        return Value(INT, "", min(a.lo, b.lo), max(a.hi, b.hi), place=number.place or truth.obj)
    kind = a.type.join(b.type) or b.type.join(a.type)
    if kind is None:
        return None
    if isinstance(kind, TupleType):
        if len(a.obj) != len(b.obj):
            return None
        items = [join_values(x, y) for x, y in zip(a.obj, b.obj, strict=True)]
        return None if None in items else Value(kind, obj=items)
    place = a.place or b.place
    if isinstance(kind, (IntType, BoolType)):
        flag = a.obj if a.obj == b.obj else None
        return Value(kind, "", min(a.lo, b.lo), max(a.hi, b.hi), obj=flag, place=place)
    if isinstance(kind, OptionalType):
        return _join_optional(kind, a, b)
    if kind.llvm:
        return Value(kind, "", obj=a.obj if a.obj is not None else b.obj, place=place)
    return a if same_object(a, b) else None


def _join_optional(kind: OptionalType, a: Value, b: Value) -> Value:
    if a.type is not kind or b.type is not kind:
        return a if a.type is kind else b  # the other is None
    first, second = a.obj[1], b.obj[1]
    number = Value(
        first.type, "", min(first.lo, second.lo), max(first.hi, second.hi), place=first.place or second.place
    )
    return Value(kind, obj=(a.obj[0], number))


def same_object(a: Value, b: Value) -> bool:
    """Whether two values that exist while compiling only are one."""
    return a.obj is b.obj or (
        type(a.obj) is type(b.obj) and isinstance(a.obj, (bytes, int, str)) and a.obj == b.obj
    )


def join(envs: list[Env], lost: dict[str, str]) -> Env:
    """The variables after several paths; ``lost`` tells why one is no longer usable."""
    first = envs[0]
    if len(envs) == 1:
        return dict(first)
    made: Env = {}
    for name, value in first.items():
        if held.is_slot(name):
            continue
        for other in envs[1:]:
            theirs = other.get(name)
            if theirs is None:
                _unassigned(name, lost)
                break
            joined = join_values(value, theirs)
            if joined is None:
                lost[name] = f"{value.type.name} on one path and {theirs.type.name} on another"
                if not held.join_refs(value, theirs)[0]:
                    lost[name] = "acquired on one path and not on another"
                break
            value = joined
        else:
            made[name] = value
    for other in envs[1:]:
        for name in other:
            if name not in first and not held.is_slot(name):
                _unassigned(name, lost)
    held.join(envs, made)
    return made


def _unassigned(name: str, lost: dict[str, str]) -> None:
    if not lost.get(name, "").startswith(("given", "only")):
        lost[name] = "unassigned"


def equal(a: Env, b: Env) -> bool:
    """Whether a loop's variables have settled."""
    if a.keys() != b.keys():
        return False
    return all(_equal(value, b[name]) for name, value in a.items())


def _equal(a: Value, b: Value) -> bool:
    if a is b:
        return True
    if a.lo != b.lo or a.hi != b.hi or not a.type.same(b.type) or a.type.nullable != b.type.nullable:
        return False
    if a.ref != b.ref or a.origin != b.origin:
        return False
    if isinstance(a.type, TupleType):
        return len(a.obj) == len(b.obj) and all(_equal(x, y) for x, y in zip(a.obj, b.obj, strict=True))
    if isinstance(a.type, OptionalType):
        return _equal(a.obj[1], b.obj[1])
    return bool(a.type.llvm) or same_object(a, b)


_STEPS = (0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, S64_MAX)


def widen(old: Env, new: Env, last: bool) -> Env:
    """``new`` with its growing intervals made larger, so that a loop's variables settle soon."""
    made: Env = {}
    for name, value in new.items():
        before = old.get(name)
        made[name] = value if before is None else _widen(before, value, last)
    return made


def _widen(old: Value, new: Value, last: bool) -> Value:
    if isinstance(new.type, TupleType) and isinstance(old.type, TupleType) and len(new.obj) == len(old.obj):
        return Value(new.type, obj=[_widen(x, y, last) for x, y in zip(old.obj, new.obj, strict=True)])
    if new.type is not INT or old.type is not INT or (new.lo >= old.lo and new.hi <= old.hi):
        return new
    lo, hi = new.lo, new.hi
    if lo < old.lo:
        lo = 0 if lo >= 0 else S64_MIN if last else -1 - next(s for s in _STEPS if -1 - s <= lo)
    if hi > old.hi:
        if old.hi == S64_MAX:
            # A number that only grows turn by turn is taken for s64, as it started: it will not get there.
            hi = S64_MAX
        else:
            hi = U64 if hi > S64_MAX else S64_MAX if last else next(s for s in _STEPS if s >= hi)
    return Value(INT, "", lo, hi, obj=new.obj, place=new.place)
