"""Open-coded iterators: ``for i in bpf.range(n)``, ``for task in bpf.iter_task()`` (Linux 6.4, 6.7).

The kernel counts the turns, so the verifier follows one, however many there are. The iterator is destroyed on
every way out of the loop.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from skep.bpf.types import u64
from skep.lang import loops
from skep.lang.loops import RangeValue
from skep.lang.scope import Env, Loop
from skep.lang.values import INT, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker


class Iteration(NamedTuple):
    """How a loop begins, goes on and ends: calls that are emitted."""

    new: Callable[[], None]
    #: the operand of a pointer to the next element, null at the end
    next: Callable[[], str]
    #: the element behind the pointer
    element: Callable[[str], Value]
    destroy: Callable[[], None]


class IterationType(Type):
    """``bpf.iter_task(...)``: ``obj`` makes the `Iteration` at the loop it is for."""

    name = "an iterator of the kernel's"

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        raise c.error(node, "an iterator is used in 'for' only", "for x in bpf.iter_...(...):")

    def dropped(self, c: Walker, v: Value, node: ast.AST) -> None:
        self.materialise(c, v, node)


def of_range(c: Walker, node: ast.For, span: RangeValue) -> Iteration:
    """``bpf.range(a, b)``."""
    di = c.unit.di
    number = di.base("int", 32, "signed")
    words = di.array(di.integer(u64), 64, 1)
    of = di.pointer(di.struct("bpf_iter_num", 8, [("__opaque", words, 0, 64, -1)]))
    iterator = [("it", of)]
    c.unit.kfunc("i32", "bpf_iter_num_new", number, [*iterator, ("start", number), ("end", number)])
    c.unit.kfunc("ptr", "bpf_iter_num_next", di.pointer(number), iterator)
    c.unit.kfunc("void", "bpf_iter_num_destroy", "null", iterator)
    state = c.buffer(8, 8, ("iter", c.scope.prefix, id(node)))
    lo, hi = max(span.start.lo, -(1 << 31)), min(span.stop.hi - 1, (1 << 31) - 1)

    def new() -> None:
        low, high = (c.em.op(f"trunc i64 {v.ir} to i32") for v in (span.start, span.stop))
        c.em.op(f"call i32 @bpf_iter_num_new(ptr {state}, i32 {low}, i32 {high})")

    def element(found: str) -> Value:
        now = c.em.op(f"sext i32 {c.em.op(f'load i32, ptr {found}, align 4')} to i64")
        return Value(INT, now, lo, max(lo, hi))

    return Iteration(
        new,
        lambda: c.em.op(f"call ptr @bpf_iter_num_next(ptr {state})"),
        element,
        lambda: c.em.do(f"call void @bpf_iter_num_destroy(ptr {state})"),
    )


def loop(c: Walker, node: ast.For, of: Iteration) -> None:
    """Compile the loop."""
    of.new()

    def once() -> tuple[list[Env], Env, Loop, str, str]:
        head, inside, no_break, out = (c.label(x) for x in ("iter", "do", "od", "out"))
        outside = len(c.scope.withs)
        loop = Loop(out, head, outside, outside + 1)
        c.em.place(head)
        ends = dict(c.env)
        found = of.next()
        c.em.cond(c.em.op(f"icmp ne ptr {found}, null"), inside, no_break)
        c.em.place(inside)
        element = of.element(found)
        c.scope.withs.append(of.destroy)
        back = loops.turn(c, node, loop, element, None)
        c.scope.withs.pop()
        return back, ends, loop, no_break, out

    head = loops.settle(c, lambda _: once()[0])
    c.env = dict(head)
    _, ends, around, no_break, out = once()
    c.em.place(no_break)
    of.destroy()
    c.em.br(over := c.label("over"))
    loops.finish(c, node, [ends], around, over, out)
