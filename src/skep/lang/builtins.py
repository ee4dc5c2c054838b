"""Python's own functions that programs may call, and the language's: ``bpf.printk``, ``bpf.unroll``, …"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skep.bpf.maps import Map
from skep.lang import arith, callbacks, references
from skep.lang.arena import ArenaRef
from skep.lang.arguments import named, positional
from skep.lang.loops import Enumerated, RangeValue
from skep.lang.values import BUILTIN, INT, OBJECT, TEXT, TUPLE, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

Builtin = Callable[["Walker", list[Value], dict[str, Value], ast.AST], Value]


def python(obj: Any) -> Builtin | None:
    """What calling one of Python's builtins does; refuses those that mean nothing in a program."""
    name = obj.__name__
    return _PYTHON.get(name) or (lambda c, args, kwargs, node: _refused(c, name, node))


_HINTS = {
    "print": 'bpf.printk(f"...") prints to the trace pipe',
    "open": "programs have no files",
    "input": "programs have no input",
    "float": "programs have no floating-point numbers",
    "str": "texts are constants, or fields of a struct",
    "list": "a table is a bpf.array, or a map",
    "dict": "declare a map: bpf.Hash(K, V)",
    "set": "declare a map: bpf.Hash(K, u8)",
    "sum": "write a for loop",
    "sorted": "sort in Python, after reading",
    "isinstance": "types are known while compiling",
    "type": "types are known while compiling",
    "getattr": "write the field's name: x.field",
    "setattr": "write the field's name: x.field = value",
    "hasattr": "bpf.exists(x.field) asks whether the running kernel has a field",
    "reversed": "count down: range(n - 1, -1, -1)",
    "pow": "write x * x, or 2 ** n",
    "round": "programs have integers only: (x + n // 2) // n rounds a quotient",
    "hex": 'bpf.printk(f"{x:#x}") prints it so',
    "oct": 'bpf.printk(f"{x:#o}") prints it so',
    "bin": 'bpf.printk(f"{x:#x}") prints it as hexadecimal',
    "repr": 'bpf.printk(f"{x}") prints it',
    "format": 'bpf.printk(f"{x:5}") formats what it prints',
    "chr": 'characters of texts are numbers: ord("a"), text[0] = 97',
    "map": "write a for loop",
    "filter": "write a for loop with an if",
    "iter": "write a for loop",
    "next": "write a for loop",
    "tuple": "write the items: (a, b)",
    "hash": "use the value as the key of a map",
    "id": "bpf.pid(), bpf.tid(), bpf.cgroup_id() number what runs",
    "sizeof": "bpf.sizeof(T)",
}


def refused(c: Walker, obj: Any, node: ast.AST) -> None:
    """Refuse a call of one of Python's builtins, or of a declaration, that means nothing in a program."""
    name = getattr(obj, "__name__", "")
    if name and name not in _PYTHON and getattr(builtins, name, None) is obj:
        _refused(c, name, node)
    if isinstance(obj, type) and issubclass(obj, Map):
        raise c.error(
            node, f"a {name} is declared at module level, not in a program", f"NAME = bpf.{name}(...)"
        )


def _refused(c: Walker, name: str, node: ast.AST) -> Value:
    raise c.error(
        node, f"{name}() does not exist inside a program", _HINTS.get(name, "do it in Python, outside")
    )


class RangeType(Type):
    """``range(...)``: what a for loop counts."""

    name = "a range"

    def contains(self, c: Walker, v: Value, item: Value, node: ast.AST) -> Value:
        span = v.obj
        if not isinstance(span, RangeValue):
            raise c.error(node, "'in' does not work with enumerate()", "compare in a loop")
        if span.step != 1:
            raise c.error(node, "'in range(...)' works with a step of 1", "compare with % as well")
        low = c.compare(ast.GtE(), item, span.start, node)
        return c.bool_and(low, c.compare(ast.Lt(), item, span.stop, node))


def _range(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    args = [c.as_int(a, node, "of range()") for a in positional(c, "range", args, kwargs, node, 1, 3)]
    start = args[0] if len(args) > 1 else c.int_const(0)
    stop = args[1] if len(args) > 1 else args[0]
    step = args[2].const if len(args) == 3 else 1
    if step is None or step == 0:
        raise c.error(node, "the step of a range is a constant other than 0", "range(a, b, 2)")
    for side in (start, stop):
        arith.sign(c, side, node)
    return Value(RangeType(), obj=RangeValue(start, stop, step))


def _enumerate(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    given = named(c, "enumerate", ("of", "start"), 1, args, kwargs, node)
    start = c.as_int(given["start"], node).const if "start" in given else 0
    if start is None:
        raise c.error(node, "enumerate() starts with a constant", "add the number in the loop")
    of = given["of"]
    items = of.type.items(c, of, node)
    if items is not None:
        return c.tuple([c.tuple([c.int_const(i), item]) for i, item in enumerate(items, start)])
    if not isinstance(of.type, (PtrType, ArenaRef)) or of.type.nullable:
        from skep.lang.loops import how_to_loop

        raise c.error(node, f"{of.type.name} cannot be looped over", how_to_loop(of.type))
    return Value(RangeType(), obj=Enumerated(of, start))


def _zip(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    rows = [arg.type.items(c, arg, node) for arg in args]
    if kwargs or not rows or None in rows:
        raise c.error(node, "zip() takes tuples in a program", "for i in range(...): x = a[i]; y = b[i]")
    return c.tuple([c.tuple(list(row)) for row in zip(*(row or [] for row in rows), strict=False)])


def _unroll(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    span = positional(c, "bpf.unroll", args, kwargs, node, 1)[0]
    if not isinstance(span.obj, RangeValue):
        raise c.error(node, "bpf.unroll() takes a range", "bpf.unroll(range(8))")
    return Value(span.type, obj=RangeValue(span.obj.start, span.obj.stop, span.obj.step, True))


def _len(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    value = positional(c, "len", args, kwargs, node, 1)[0]
    return value.type.length(c, value, node)


def _int(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    value = positional(c, "int", args, kwargs, node, 1)[0]
    if value.type is TEXT:
        raise c.error(node, "a text is not read as a number in a program", "read it in Python")
    return c.as_int(value, node)


def _bool(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    return c.truth(positional(c, "bool", args, kwargs, node, 1)[0], node)


def _abs(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    v = c.as_int(positional(c, "abs", args, kwargs, node, 1)[0], node)
    if not arith.sign(c, v, node):
        return v
    if v.const is not None:
        return c.int_const(abs(v.const))
    got = arith._magnitude(c, v)
    least = 0 if v.hi >= 0 else -v.hi
    return Value(INT, got, least, max(-v.lo, v.hi))


def _least(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    return _extreme(c, "min", args, kwargs, node)


def _most(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    return _extreme(c, "max", args, kwargs, node)


def _extreme(c: Walker, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    if kwargs:
        raise c.error(node, f"{name}() takes no {next(iter(kwargs))!r} in a program", f"{name}(a, b)")
    items = args
    if len(args) == 1:
        items = args[0].type.items(c, args[0], node) or []
    if not items:
        raise c.error(node, f"{name}() needs numbers, or a tuple of them", f"{name}(a, b)")
    best = c.as_int(items[0], node)
    for item in items[1:]:
        other = c.as_int(item, node)
        test = c.compare(ast.LtE() if name == "min" else ast.GtE(), best, other, node)
        if test.const is not None:
            best = best if test.const else other
            continue
        lo = min(best.lo, other.lo) if name == "min" else max(best.lo, other.lo)
        hi = min(best.hi, other.hi) if name == "min" else max(best.hi, other.hi)
        best = Value(INT, c.em.op(f"select i1 {test.ir}, i64 {best.ir}, i64 {other.ir}"), lo, hi)
    return best


def _divmod(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    a, b = (c.as_int(v, node) for v in positional(c, "divmod", args, kwargs, node, 2))
    return c.tuple([arith.binary(c, ast.FloorDiv(), a, b, node), arith.binary(c, ast.Mod(), a, b, node)])


def _any(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    return _each(c, "any", args, kwargs, node)


def _all(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    return _each(c, "all", args, kwargs, node)


def _each(c: Walker, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    value = positional(c, name, args, kwargs, node, 1)[0]
    items = value.type.items(c, value, node)
    if items is None:
        raise c.error(node, f"{name}() takes a tuple in a program", "write a for loop")
    found = c.bool_const(name == "all")
    for item in items:
        truth = c.truth(item, node)
        found = c.bool_and(found, truth) if name == "all" else c.bool_or(found, truth)
    return found


def _ord(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    value = positional(c, "ord", args, kwargs, node, 1)[0]
    if value.type is not TEXT or len(value.obj.decode("utf-8", "replace")) != 1:
        raise c.error(
            node, "ord() takes a constant of one character", "bytes of a field are numbers: text[0]"
        )
    return c.int_const(ord(value.obj.decode("utf-8", "replace")))


def _tuple(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    value = positional(c, "tuple", args, kwargs, node, 1)[0]
    if value.type is not TUPLE:
        raise c.error(node, "tuple() takes a tuple in a program", "write the items: (a, b)")
    return value


def _bytes(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    size = positional(c, "bytes", args, kwargs, node, 1)[0].const
    if size is None or not 0 <= size <= 4096:
        raise c.error(
            node, "bytes() takes a constant size", "bytes(16) is sixteen zeros; bpf.raw(n) is memory"
        )
    return c.text(bytes(size))


def _order(c: Walker, name: str, value: Value | None, node: ast.AST) -> bool:
    """Whether an argument says "big"."""
    said = value.obj if value is not None and value.type is TEXT else b""
    if said not in (b"big", b"little"):
        raise c.error(node, f"{name}() needs an order of bytes", 'write "big" (the network\'s) or "little"')
    return bool(said == b"big")


def _sizes(c: Walker, name: str, size: int | None, node: ast.AST) -> int:
    if size not in (1, 2, 4, 8):
        raise c.error(node, f"{name}() works with 1, 2, 4 or 8 bytes", "take single bytes for other sizes")
    return size


def to_bytes(c: Walker, number: Value, node: ast.AST) -> Value:
    """``number.to_bytes(4, "big")``."""

    def call(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        from skep.lang.aggregates import TextStorage

        given = named(c, "to_bytes", ("length", "byteorder"), 2, args, kwargs, node)
        size = _sizes(c, "to_bytes", given["length"].const, node)
        got, bits = number.ir, size * 8
        if bits < 64:
            got = c.em.op(f"trunc i64 {got} to i{bits}")
        if _order(c, "to_bytes", given["byteorder"], node):
            got = c.swap(got, bits)
        room = c.buffer(size, 8)
        c.em.do(f"store i{bits} {got}, ptr {room}, align {size}")
        return Value(PtrType(TextStorage(size, False), "stack"), room)

    return Value(BUILTIN, obj=call)


def from_bytes(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    given = named(c, "from_bytes", ("bytes", "byteorder"), 2, args, kwargs, node)
    big = _order(c, "from_bytes", given["byteorder"], node)
    value = given["bytes"]
    if value.type is TEXT:
        return c.int_const(int.from_bytes(value.obj, "big" if big else "little"))
    value = value.type.materialise(c, value, node)
    if not isinstance(value.type, PtrType) or not value.type.of.is_text:
        raise c.error(node, f"{value.type.name} is no bytes", "give a field of bytes, or a slice of one")
    if value.type.nullable:
        c.refuse_none(value, node)
    bits = 8 * _sizes(c, "from_bytes", value.type.of.size, node)
    got = c.em.op(f"load i{bits}, ptr {value.ir}, align 1")
    if big:
        got = c.swap(got, bits)
    if bits < 64:
        got = c.em.op(f"zext i{bits} {got} to i64")
    return Value(INT, got, 0, (1 << bits) - 1)


_PYTHON: dict[str, Builtin] = {
    "bytes": _bytes,
    "range": _range,
    "enumerate": _enumerate,
    "zip": _zip,
    "len": _len,
    "int": _int,
    "bool": _bool,
    "abs": _abs,
    "min": _least,
    "max": _most,
    "divmod": _divmod,
    "any": _any,
    "all": _all,
    "ord": _ord,
    "tuple": _tuple,
}


# --- bpf.NAME -----------------------------------------------------------------------------------------


def language(name: str) -> Value | None:
    """The language's own functions, called ``bpf.NAME``."""
    if name == "printk":
        from skep.lang.printk import Printk

        return Value(Printk())
    fn = _LANGUAGE.get(name)
    return None if fn is None else Value(BUILTIN, obj=fn)


def _zero(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.zero(T, field=...)``: ``T(field=...)``, which type checkers take as it is."""
    of = positional(c, "bpf.zero", args, {}, node, 1)[0]
    if of.type is not OBJECT or "__bpf__" not in getattr(of.obj, "__dict__", {}):
        raise c.error(node, "bpf.zero() takes a struct", "bpf.zero(Event, pid=1)")
    return c.object_call(of, [], kwargs, node)


def _of_owned(name: str) -> Builtin:
    """A function of `skep.lang.owned`, which few programs need."""

    def do(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        from skep.lang import owned

        made: Value = getattr(owned, name)(c, args, kwargs, node)
        return made

    return do


def _new_percpu(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.new_percpu(T)``."""
    from skep.lang import percpu

    return percpu.new(c, args, kwargs, node)


def _log2(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """The position of the highest bit that is set; 0 for 0."""
    v = c.as_int(positional(c, "bpf.log2", args, kwargs, node, 1)[0], node)
    if v.lo < 0:  # the difference of two times, as a rule: taken as u64
        v = Value(INT, v.ir, 0, (1 << 64) - 1) if v.const is None else c.int_const(v.const & (1 << 64) - 1)
    if v.const is not None:
        return c.int_const(max(0, v.const.bit_length() - 1))
    em = c.em
    now, found = v.ir, "0"
    for step in (32, 16, 8, 4, 2, 1):  # BPF counts no leading zeros before -mcpu=v4; this is six tests
        if v.hi.bit_length() <= step:
            continue
        big = em.op(f"icmp ugt i64 {now}, {(1 << step) - 1}")
        now = em.op(f"select i1 {big}, i64 {em.op(f'lshr i64 {now}, {step}')}, i64 {now}")
        found = em.op(f"add i64 {found}, {em.op(f'select i1 {big}, i64 {step}, i64 0')}")
    return Value(INT, found, max(0, v.lo.bit_length() - 1), max(0, v.hi.bit_length() - 1))


def _sizeof(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    value = positional(c, "bpf.sizeof", args, kwargs, node, 1)[0]
    if isinstance(value.type, PtrType):
        return c.int_const(value.type.of.size)
    if value.type is OBJECT:
        return c.int_const(c.unit.storage(value.obj, c, node).size)
    from skep.lang import helpers

    found = helpers.lookup(c, "sizeof", node)
    if found is None:
        raise c.error(node, "bpf.sizeof() takes a type", "bpf.sizeof(Event)")
    return found.type.call(c, found, args, kwargs, node)


def _tail_call(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.tail_call(programs, index)``, also with the context first as in C."""
    if args and args[0].ir == c.ctx:
        args = args[1:]
    jumps, index = positional(c, "bpf.tail_call", args, kwargs, node, 2)
    return c.as_int(jumps.type.attr(c, jumps, "call", node).obj(c, [index], {}, node), node)


def _loop(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.loop(n, function, context=None)``: up to 8 million turns; how many there were."""
    given = named(c, "bpf.loop", ("n", "function", "context"), 2, args, kwargs, node)
    turns = c.as_int(given["n"], node, "how often")
    along = callbacks.given_along(given.get("context"))
    fn = callbacks.callback(c, given["function"], node, "loop", ("any", along))
    context = callbacks.context(c, given.get("context"), node)
    count = c.em.op(f"trunc i64 {turns.ir} to i32")
    return c.int(c.helper(181, [f"i32 {count}", f"ptr {fn}", context, "i64 0"]), -4095, 1 << 23)


def _kernel_range(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.range(a, b)``: a range that the kernel counts, which may be as long as it likes."""
    args = [c.as_int(a, node, "of bpf.range()") for a in positional(c, "bpf.range", args, kwargs, node, 1, 2)]
    start = args[0] if len(args) > 1 else c.int_const(0)
    return Value(RangeType(), obj=RangeValue(start, args[-1], 1, counted_by_kernel=True))


def _swap(bits: int) -> Builtin:
    def swap(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        v = c.as_int(positional(c, f"bpf.bswap{bits}", args, kwargs, node, 1)[0], node)
        got = v.ir if bits == 64 else c.em.op(f"trunc i64 {v.ir} to i{bits}")
        got = c.swap(got, bits)
        got = got if bits == 64 else c.em.op(f"zext i{bits} {got} to i64")
        return Value(INT, got, 0, (1 << bits) - 1)

    return swap


def _no_swap(name: str, bits: int) -> Builtin:
    """C's habit, which would be wrong here without a word."""

    def refuse(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        raise c.error(
            node,
            f"bpf.{name}() has nothing to do: fields and arguments in network order are host numbers here",
            f"leave it out; bpf.bswap{bits}(x) reverses bytes",
        )

    return refuse


_LANGUAGE: dict[str, Builtin] = {
    "unroll": _unroll,
    "zero": _zero,
    "releasing": references.releasing,
    "new": _of_owned("new"),
    "new_percpu": _new_percpu,
    "drop": _of_owned("drop"),
    "refcount_acquire": _of_owned("refcount_acquire"),
    "log2": _log2,
    "sizeof": _sizeof,
    "tail_call": _tail_call,
    "loop": _loop,
    "range": _kernel_range,
    "bswap16": _swap(16),
    "bswap32": _swap(32),
    "bswap64": _swap(64),
    "htons": _no_swap("htons", 16),
    "ntohs": _no_swap("ntohs", 16),
    "htonl": _no_swap("htonl", 32),
    "ntohl": _no_swap("ntohl", 32),
}
