"""Functions without arguments that say who and when: ``bpf.pid()``, ``bpf.comm()``, ``bpf.ktime()``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from skep.lang.aggregates import TextStorage
from skep.lang.arguments import positional
from skep.lang.core_refs import KernelRef
from skep.lang.kernel_types import KernelType, KStruct, types_of
from skep.lang.values import INT, S64_MAX, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.layout import Storage
    from skep.lang.walk import Walker

Function = Callable[["Walker", list[Value], dict[str, Value], ast.AST], Value]
_COMM: Final = 16


def _call(c: Walker, name: str, node: ast.AST) -> str:
    from skep.lang.helpers import check

    check(c, c.unit.helper_number(name), name, node)
    return c.helper(name, [])


def _half(name: str, helper: str, high: bool) -> Function:
    def function(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        positional(c, f"bpf.{name}", args, kwargs, node, 0)
        got = _call(c, helper, node)
        got = c.em.op(f"lshr i64 {got}, 32" if high else f"and i64 {got}, 4294967295")
        return Value(INT, got, 0, (1 << 32) - 1)

    return function


def _number(name: str, helper: str, hi: int) -> Function:
    def function(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        positional(c, f"bpf.{name}", args, kwargs, node, 0)
        got = _call(c, helper, node)
        if hi == (1 << 32) - 1:
            got = c.em.op(f"and i64 {got}, {hi}")
        return Value(INT, got, 0, hi)

    return function


class CommText(Type):
    """The name of the current task, written where it is wanted."""

    name = "the task's name"

    def same(self, other: Type) -> bool:
        return isinstance(other, CommText)

    def write(self, c: Walker, v: Value, address: str, into: Storage, node: ast.AST) -> bool:
        if not isinstance(into, TextStorage):
            return False
        # The kernel pads with zeros to the length given.
        c.helper("get_current_comm", [f"ptr {address}", f"i64 {into.size}"])
        return True

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        of = TextStorage(_COMM, True)
        room = c.buffer(_COMM, 8)
        self.write(c, v, room, of, node)
        return Value(PtrType(of, "stack"), room)

    def compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        return c.compare(op, self.materialise(c, a, node), b, node)

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return c.int_const(_COMM)

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        made = self.materialise(c, v, node)
        return made.type.item(c, made, index, node)

    def format(self, c: Walker, v: Value, node: ast.AST) -> tuple[str, str] | None:
        """How printk shows it."""
        return "%s", f"ptr {self.materialise(c, v, node).ir}"


def _comm(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    from skep.lang.helpers import check

    positional(c, "bpf.comm", args, kwargs, node, 0)
    check(c, c.unit.helper_number("get_current_comm"), "get_current_comm", node)
    return Value(CommText())


def task(c: Walker, operand: str, mode: str, node: ast.AST) -> Value:
    """A pointer to a task."""
    kind = types_of(c, node).by_name("task_struct")
    return Value(KernelRef(kind if isinstance(kind, KStruct) else KernelType(), mode), operand)


def _current_task(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    positional(c, "bpf.current_task", args, kwargs, node, 0)
    got = _call(c, "get_current_task", node)
    return task(c, c.em.op(f"inttoptr i64 {got} to ptr"), "kernel", node)


FUNCTIONS: Final[dict[str, Function]] = {
    "pid": _half("pid", "get_current_pid_tgid", True),
    "tid": _half("tid", "get_current_pid_tgid", False),
    "uid": _half("uid", "get_current_uid_gid", False),
    "gid": _half("gid", "get_current_uid_gid", True),
    "cpu": _number("cpu", "get_smp_processor_id", (1 << 32) - 1),
    "ktime": _number("ktime", "ktime_get_ns", S64_MAX),
    "random": _number("random", "get_prandom_u32", (1 << 32) - 1),
    "cgroup_id": _number("cgroup_id", "get_current_cgroup_id", (1 << 64) - 1),
    "comm": _comm,
    "current_task": _current_task,
}
