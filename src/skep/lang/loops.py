"""``while`` and ``for``.

A loop is walked without effect until its variables settle, then once for good. Loops are real loops in the
object; what has a few items of different types (a tuple) is unrolled. Every loop needs a bound that the
verifier can see: a range whose length is known, or a condition on a number that the body changes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

from skep.lang import bounds, forget, tests
from skep.lang.aggregates import StructStorage
from skep.lang.arena import ArenaRef
from skep.lang.bounds import MOST
from skep.lang.scope import Env, Loop, equal, join, widen
from skep.lang.values import INT, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_PASSES = 24
#: loops of fewer turns end in few ways
_LONG = 4


class RangeValue:
    """``range(start, stop, step)``, in a Value's ``obj``."""

    def __init__(
        self, start: Value, stop: Value, step: int, unroll: bool = False, counted_by_kernel: bool = False
    ) -> None:
        self.start = start
        self.stop = stop
        self.step = step
        self.unroll = unroll
        self.counted_by_kernel = counted_by_kernel


class Enumerated:
    """``enumerate(array)``."""

    def __init__(self, array: Value, start: int) -> None:
        self.array = array
        self.start = start


def settle(c: Walker, walk: Callable[[Env], list[Env]]) -> Env:
    """The variables at the head of a loop: ``walk`` walks its body from an environment, and gives those
    with which it comes back to the head."""
    entry = dict(c.env)
    head = entry
    for count in range(_PASSES):
        back = _dry(c, walk, head)
        new = join([head, *back], c.lost)
        if count >= 2:
            new = widen(head, new, count >= 6)
        if equal(new, head):
            break
        head = new
    else:
        raise AssertionError("a loop's variables do not settle")
    # One step back: what widening gave away and the conditions of the loop can bound.
    back = _dry(c, walk, head)
    tight = join([entry, *back], c.lost) if back else dict(entry)
    if not equal(tight, head):
        again = _dry(c, walk, tight)
        if equal(join([entry, *again], c.lost) if again else dict(entry), tight):
            return tight
    return head


def _dry(c: Walker, walk: Callable[[Env], list[Env]], head: Env) -> list[Env]:
    """Walk without effect."""
    mark = c.em.mark()
    env, live, lost = c.env, c.live, dict(c.lost)
    c.env, c.live = dict(head), True
    back = walk(dict(head))
    c.em.back(mark)
    c.env, c.live, c.lost = env, live, lost
    return back


def _body(c: Walker, loop: Loop, body: list[ast.stmt]) -> list[Env]:
    """Walk the body; the variables with which it ends or continues."""
    from skep.lang.stmts import block

    c.scope.loops.append(loop)
    block(c, body)
    c.scope.loops.pop()
    ends = list(loop.continues)
    if c.live:
        c.em.br(loop.on_continue)
        ends.append(c.env)
    return ends


def finish(
    c: Walker, node: ast.While | ast.For, ends: list[Env | None], loop: Loop, no_break: str, out: str
) -> None:
    """Walk ``else`` where the loop ends by itself, then join with the breaks."""
    from skep.lang.stmts import block

    natural = [env for env in ends if env is not None]
    after = list(loop.breaks)
    if natural:
        c.em.place(no_break)
        c.env, c.live = join(natural, c.lost), True
        block(c, node.orelse)
        if c.live:
            c.em.br(out)
            after.append(c.env)
    if not after:
        c.live = False
        return
    c.em.place(out)
    c.env, c.live = join(after, c.lost), True


# --- while --------------------------------------------------------------------------------------------


def while_(c: Walker, node: ast.While) -> None:
    turns = 1

    def walk(head: Env) -> list[Env]:
        nonlocal turns
        back = _while_once(c, node, 1)[0]
        turns = bounds.turns(c, node, back)
        return back

    outer, c.zero_known = c.zero_known, forget.zero(c) if c.unit.target == "bpf" else ""
    most = bounds.divided(c, node)
    counter = c.em.slot("i64", ("turns", c.scope.prefix, id(node))) if most else ""
    if most:
        c.em.do(f"store i64 0, ptr {counter}")
    head = settle(c, walk)
    around = prod(loop.turns for scope in c.scopes for loop in scope.loops)
    carried = forget.carried(c, head, _dry(c, walk, head), node.body, turns * around)
    steady = {c.scope.prefix + name for name in bounds.progressing(c, node)}
    carried = [name for name in carried if name not in steady]
    end = forget.begin(c, carried)
    c.env = dict(head)
    back, ends, loop, no_break, out = _while_once(c, node, min(turns, MOST), counter, most, carried)
    end()
    bounds.check(c, node, back)
    finish(c, node, [ends], loop, no_break, out)
    forget.behind(c, node)
    c.zero_known = outer


def _while_once(
    c: Walker, node: ast.While, turns: int, counter: str = "", most: int = 0, carried: Sequence[str] = ()
) -> tuple[list[Env], Env | None, Loop, str, str]:
    """Walk the loop. A ``counter`` shows the verifier that there are no more than ``most`` turns."""
    test, inside, no_break, out = (c.label(x) for x in ("while", "do", "od", "out"))
    loop = Loop(out, test, len(c.scope.withs), turns=max(1, turns))
    c.em.place(test)
    forget.turn(c, carried, node)
    yes, no = tests.branch(c, node.test, inside, no_break)
    back: list[Env] = []
    if yes is not None:
        c.em.place(inside)
        c.env, c.live = yes, True
        if counter:
            now = c.opaque(c.em.op(f"load i64, ptr {counter}"))
            c.em.do(f"store i64 {c.em.op(f'add i64 {now}, 1')}, ptr {counter}")
            c.abort_unless(c.em.op(f"icmp ult i64 {now}, {most}"))
        back = _body(c, loop, node.body)
    return back, no, loop, no_break, out


# --- for ----------------------------------------------------------------------------------------------


def for_(c: Walker, node: ast.For) -> None:
    from skep.lang import iterators

    source = c.expr(node.iter)
    if isinstance(source.type, iterators.IterationType):
        iterators.loop(c, node, source.obj(node))
        return
    if isinstance(source.obj, Enumerated):
        length = source.obj.array.type.length(c, source.obj.array, node.iter)
        _counted(c, node, RangeValue(c.int_const(0), length, 1), source)
        return
    if isinstance(source.obj, RangeValue):
        span = source.obj
        counts = _constants(span)
        if span.counted_by_kernel:
            iterators.loop(c, node, iterators.of_range(c, node, span))
        elif span.unroll:
            if counts is None or len(counts) > 4096:
                raise c.error(
                    node.iter, "only a constant range of at most 4,096 is unrolled", "leave bpf.unroll out"
                )
            _unrolled(c, node, [c.int_const(n) for n in counts])
        else:
            _counted(c, node, span, None)
        return
    items = source.type.items(c, source, node.iter)
    if items is not None:
        _unrolled(c, node, items)
        return
    kind = source.type
    if isinstance(kind, (PtrType, ArenaRef)) and not kind.nullable and not isinstance(kind.of, StructStorage):
        length = kind.length(c, source, node.iter)
        _counted(c, node, RangeValue(c.int_const(0), length, 1), source)
        return
    if kind.nullable:
        c.refuse_none(source, node.iter)
    raise c.error(node.iter, f"{kind.name} cannot be looped over", how_to_loop(kind))


def how_to_loop(kind: Type) -> str:
    """What to write in place of a loop over something of this type."""
    from skep.lang.maps import MapType

    if isinstance(kind, MapType):
        return "for i in range(n): x = rows[i] of an array; table.for_each(f) for other maps"
    return "loop over range(...), an array, or a tuple"


def _constants(span: RangeValue) -> range | None:
    if span.start.const is None or span.stop.const is None:
        return None
    return range(span.start.const, span.stop.const, span.step)


def _unrolled(c: Walker, node: ast.For, items: list[Value]) -> None:
    from skep.lang.stmts import assign

    no_break, out = c.label("od"), c.label("out")
    loop = Loop(out, "", len(c.scope.withs))
    ended = False
    for item in items:
        turn = Loop(out, c.label("next"), loop.withs)  # one turn: each is walked by itself
        turn.breaks = loop.breaks
        assign(c, node.target, item, node)
        ends = _body(c, turn, node.body)
        if not ends:
            ended = True
            break
        c.em.place(turn.on_continue)
        c.env, c.live = join(ends, c.lost), True
    finish(c, node, [None if ended else c.env], loop, no_break, out)


def _counted(c: Walker, node: ast.For, span: RangeValue, array: Value | None) -> None:
    """A loop over numbers, or over the elements of ``array``."""
    start, stop, step = span.start, span.stop, span.step
    lo, hi = (start.lo, stop.hi - 1) if step > 0 else (stop.lo + 1, start.hi)
    turns = (hi - lo) // abs(step) + 1 if hi >= lo else 0
    around = prod(loop.turns for scope in c.scopes for loop in scope.loops)
    if turns * around > MOST and c.unit.target == "bpf":
        raise c.error(
            node.iter,
            f"this loop may turn {turns * around:,} times{', with those around it' if around > 1 else ''}: "
            "the verifier follows at most about a million instructions",
            "bound it: range(min(n, 256)), or use bpf.loop(n, function)",
        )
    counter = c.em.slot("i64", ("counter", c.scope.prefix, id(node)))
    c.em.do(f"store i64 {start.ir}, ptr {counter}")
    limits = bounds.counters(c, node, turns)

    carried: list[str] = []
    outer, c.zero_known = c.zero_known, forget.zero(c) if c.unit.target == "bpf" else ""
    if stop.const is None and c.unit.target == "bpf":
        # What the loop's end says of the number of turns is not to be known of what they come from.
        span = RangeValue(start, Value(INT, forget.unknown(c, stop.ir), stop.lo, stop.hi), step)

    def once() -> tuple[list[Env], Env | None, Loop, str, str]:
        return _for_once(c, node, span, array, counter, (lo, hi), limits, carried)

    def walk(head: Env) -> list[Env]:
        return once()[0]

    head = settle(c, walk)
    carried += forget.carried(c, head, _dry(c, walk, head), node.body, turns * around)
    end = forget.begin(c, carried)
    c.env = dict(head)
    _, ends, loop, no_break, out = once()
    end()
    finish(c, node, [ends], loop, no_break, out)
    if turns >= _LONG and (loop.breaks or stop.const is None):
        forget.behind(c, node)
    c.zero_known = outer


def _for_once(
    c: Walker,
    node: ast.For,
    span: RangeValue,
    array: Value | None,
    counter: str,
    ends_at: tuple[int, int],
    limits: dict[str, tuple[int, int]],
    carried: list[str],
) -> tuple[list[Env], Env | None, Loop, str, str]:
    em = c.em
    test, inside, onward, no_break, out = (c.label(x) for x in ("for", "do", "next", "od", "out"))
    lo, hi = ends_at
    turns = (hi - lo) // abs(span.step) + 1 if hi >= lo else 0
    loop = Loop(out, onward, len(c.scope.withs), turns=turns)
    if hi < lo:
        em.br(no_break)
        return [], dict(c.env), loop, no_break, out
    start, stop = span.start, span.stop
    if start.hi < stop.lo if span.step > 0 else start.lo > stop.hi:
        # At least one turn: the test comes after the body, and the variable has a value after the loop.
        em.place(inside)
        c.env = bounds.within(c.env, limits)
        forget.turn(c, carried, node)
        back = turn(c, node, loop, Value(INT, em.op(f"load i64, ptr {counter}"), lo, hi), array)
        em.place(onward)
        if not back:
            em.do("unreachable")
            em.ended = True
            return [], None, loop, no_break, out
        now = _step(c, counter, span.step)
        _, going = _going(c, span, ends_at, counter, now)
        em.cond(going, inside, no_break)
        return back, join(back, c.lost), loop, no_break, out
    em.place(test)
    now, going = _going(c, span, ends_at, counter, em.op(f"load i64, ptr {counter}"))
    ends = dict(c.env)
    em.cond(going, inside, no_break)
    em.place(inside)
    c.env = bounds.within(c.env, limits)
    forget.turn(c, carried, node)
    back = turn(c, node, loop, Value(INT, now, lo, hi), array)
    em.place(onward)
    _step(c, counter, span.step)
    em.br(test)
    return back, ends, loop, no_break, out


def turn(c: Walker, node: ast.For, loop: Loop, index: Value, array: Value | None) -> list[Env]:
    """One turn: the variable gets its value, the body is walked."""
    from skep.lang.stmts import assign

    item = index
    if array is not None and isinstance(array.obj, Enumerated):
        of = array.obj.array
        number = c.binary(ast.Add(), index, c.int_const(array.obj.start), node)
        item = c.tuple([number, of.type.item(c, of, index, node)])
    elif array is not None:
        item = array.type.item(c, array, index, node)
    assign(c, node.target, item, node)
    return _body(c, loop, node.body)


def _step(c: Walker, counter: str, by: int) -> str:
    """Move the counter on; its new value."""
    new = c.em.op(f"add i64 {c.em.op(f'load i64, ptr {counter}')}, {by}")
    c.em.do(f"store i64 {new}, ptr {counter}")
    return new


def _going(c: Walker, span: RangeValue, ends_at: tuple[int, int], counter: str, now: str) -> tuple[str, str]:
    """(the counter's value, whether another turn follows)."""
    em = c.em
    lo, hi = ends_at
    word = "slt" if span.step > 0 else "sgt"
    if lo >= 0 and span.step > 0:
        word = "ult"
    if span.stop.const is not None and (hi - lo) // abs(span.step) < 2 and c.unit.target == "bpf":
        # Of two turns LLVM would make a flag, in which the verifier does not see the count.
        now = c.opaque(now)
        em.do(f"store i64 {now}, ptr {counter}")
    going = em.op(f"icmp {word} i64 {now}, {span.stop.ir}")
    if span.stop.const is None and c.unit.target == "bpf":
        # The verifier has to see a number; LLVM must not find out that it is implied.
        seen = c.opaque(now)
        limit = hi + 1 if span.step > 0 else lo - 1
        em.do(f"store i64 {seen}, ptr {counter}")
        going = em.op(f"select i1 {em.op(f'icmp {word} i64 {seen}, {limit}')}, i1 {going}, i1 false")
        now = seen
    return now, going
