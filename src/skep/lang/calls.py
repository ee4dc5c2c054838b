"""Calls: functions of the module are inlined, subprograms called, types convert."""

from __future__ import annotations

import ast
import builtins
import enum
from typing import TYPE_CHECKING, Any

from skep.bpf.programs import Program, Subprog
from skep.bpf.types import ArrayType, IntType, KernelStruct, LpmType
from skep.errors import SkepError
from skep.lang import remainders
from skep.lang.aggregates import StructStorage
from skep.lang.arguments import positional
from skep.lang.held import Ref
from skep.lang.layout import IntStorage
from skep.lang.scope import Scope, join
from skep.lang.values import OBJECT, TEXT, PtrType, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_DEEPEST = 32


def call(c: Walker, node: ast.Call) -> Value:
    """A call expression."""
    from skep.lang import builtins as language
    from skep.lang.exprs import expr

    target = expr(c, node.func)
    if target.type is OBJECT:
        language.refused(c, target.obj, node)  # before its arguments: what is wrong with them does not matter
    raw = getattr(target.type, "raw_call", None)
    if raw is not None:
        made: Value = raw(c, target, node)
        return made
    args: list[Value] = []
    for arg in node.args:
        if isinstance(arg, ast.Starred):
            value = expr(c, arg.value)
            items = value.type.items(c, value, arg)
            if items is None:
                raise c.error(arg, "only a tuple can be unpacked into arguments", "write the arguments")
            args += items
        else:
            args.append(expr(c, arg))
    kwargs: dict[str, Value] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise c.error(keyword.value, "** is not compiled", "name the arguments")
        kwargs[keyword.arg] = expr(c, keyword.value)
    c.at(node)
    return target.type.call(c, target, args, kwargs, node)


def call_object(c: Walker, obj: Any, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """Call a Python object."""
    from skep.lang import builtins as language
    from skep.lang.objects import describe

    if isinstance(obj, IntType):
        value = positional(c, obj.name, args, kwargs, node, 1)[0]
        storage = c.unit.storage(obj, c, node)
        assert isinstance(storage, IntStorage)
        return storage.wrap(c, value, node)
    if isinstance(obj, Subprog):
        return c.unit.call_subprog(c, obj, args, kwargs, node)
    if isinstance(obj, type):
        if "__bpf__" in obj.__dict__:
            return construct(c, obj, args, kwargs, node)
        if issubclass(obj, enum.IntEnum):
            return c.as_int(positional(c, obj.__name__, args, kwargs, node, 1)[0], node)
    if isinstance(obj, LpmType):
        return construct(c, obj, args, kwargs, node)
    if isinstance(obj, KernelStruct):
        positional(c, f"bpf.{obj.name}", args, kwargs, node, 0)
        address = c.buffer(obj.size, 8, ("object", c.scope.prefix, id(node)))
        c.zero(address, obj.size, 8)
        made = Value(PtrType(c.unit.storage(obj, c, node), "stack"), address)
        if obj.name == "bpf_dynptr":
            made.ref = Ref(f"{c.scope.prefix}dynptr@{id(node):x}")
        return made
    if isinstance(obj, Program):
        raise c.error(
            node, f"{obj.__name__} is a program: programs are not called", "bpf.tail_call jumps to one"
        )
    builtin = language.python(obj) if getattr(builtins, getattr(obj, "__name__", ""), None) is obj else None
    if builtin is not None:
        return builtin(c, args, kwargs, node)
    module = getattr(obj, "__module__", "") or ""
    if module == "skep.bpf.globals":
        raise c.error(
            node,
            f"bpf.{obj.__name__}() declares a global variable, and this is inside a program",
            "declare it at module level, or leave it out: x = 0",
        )
    if module == "skep.bpf.types":
        return _declare(c, obj, args, kwargs, node)
    if hasattr(obj, "__code__"):
        return inline(c, obj, args, kwargs, node)
    hint = _PYTHONS.get(getattr(obj, "__name__", ""), "functions of your own modules can, and bpf.NAME")
    if isinstance(obj, type) and getattr(obj, "__annotations__", None):
        hint = f"make it a struct: @bpf.struct above class {obj.__name__}"
    raise c.error(node, f"{describe(obj)} cannot be called in a program", hint)


#: functions of Python's library -> what programs have for it
_PYTHONS = {
    "getpid": "bpf.pid()",
    "getppid": "bpf.get_current_task_btf().real_parent.tgid",
    "gettid": "bpf.tid()",
    "get_ident": "bpf.tid()",
    "getuid": "bpf.uid()",
    "getgid": "bpf.gid()",
    "time": "bpf.ktime() is nanoseconds since the machine started",
    "time_ns": "bpf.ktime() is nanoseconds since the machine started",
    "monotonic": "bpf.ktime() is nanoseconds since the machine started",
    "monotonic_ns": "bpf.ktime()",
    "perf_counter": "bpf.ktime() is nanoseconds since the machine started",
    "perf_counter_ns": "bpf.ktime()",
    "random": "bpf.random() is a number of 32 bits",
    "randint": "bpf.random() % n",
    "randrange": "bpf.random() % n",
    "getrandbits": "bpf.random() is a number of 32 bits",
    "htons": "be16 fields are plain numbers in programs; bpf.bswap16(x) reverses",
    "ntohs": "be16 fields are plain numbers in programs; bpf.bswap16(x) reverses",
    "htonl": "be32 fields are plain numbers in programs; bpf.bswap32(x) reverses",
    "ntohl": "be32 fields are plain numbers in programs; bpf.bswap32(x) reverses",
    "pack": "a struct: @bpf.struct class T, T(field=x)",
    "sleep": "programs never wait: a bpf.Timer calls a function later",
    "unpack": "int.from_bytes(data[0:4], 'big'), or a struct",
    "inet_aton": "compute it at module level: ADDRESS = int(ipaddress.ip_address('10.0.0.1'))",
    "ip_address": "compute it at module level: ADDRESS = int(ipaddress.ip_address('10.0.0.1'))",
}


def _declare(c: Walker, obj: Any, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.array(u64, 8)`` inside a program: the type record."""
    from skep.lang.objects import describe

    plain = [v.obj if v.type is OBJECT else v.const for v in args]
    if kwargs or None in plain or not callable(obj):
        raise c.error(node, f"{describe(obj)} takes types and constants here", "bpf.array(u64, 8)")
    try:
        return Value(OBJECT, obj=obj(*plain))
    except (SkepError, TypeError) as error:
        raise c.error(node, str(error), "bpf.array(T, n), bpf.char(n), bpf.raw(n)") from None


class Zeros(PtrType):
    """A struct of zeros that does not fit the stack: to be stored in a map, not to be changed."""

    def optional(self, nullable: bool) -> PtrType:
        return self

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        made = super().attr(c, v, name, node)
        if isinstance(made.type, PtrType) and not made.type.of.scalar:
            c.fits(self.of.size, v.node or node)  # to be written through the reference
        return made

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        c.fits(self.of.size, node)

    def add_attr(self, c: Walker, v: Value, name: str, op: ast.operator, by: Value, node: ast.AST) -> None:
        c.fits(self.of.size, node)


def construct(c: Walker, cls: Any, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``Key(saddr=x)``: a struct on the stack, zero where nothing is said."""
    storage = c.unit.storage(cls, c, node)
    if not args and not kwargs and not c.has_room(storage.size):
        return Value(Zeros(storage, "global", writable=False), c.unit.constant(bytes(storage.size)))
    c.fits(storage.size, node)
    address = c.buffer(storage.size, max(8, storage.align), ("struct", c.scope.prefix, id(node)))
    c.zero(address, storage.size, 8)
    assert isinstance(storage, StructStorage)
    storage.fill(c, address, args, kwargs, node)
    return Value(PtrType(storage, "stack"), address)


# --- functions ----------------------------------------------------------------------------------------


def _shown(fn: Any) -> list[str]:
    """Parameters as a call gives them."""
    code = fn.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [*names[: code.co_argcount], *(f"{name}=..." for name in names[code.co_argcount :])]


def bind_arguments(
    c: Walker, fn: Any, args: list[Value], kwargs: dict[str, Value], node: ast.AST
) -> list[tuple[str, Value]]:
    """(parameter, value) in order, with defaults. Refuses calls that Python would refuse."""
    from skep.lang.objects import wrap

    code = fn.__code__
    if code.co_flags & 0x0C:
        raise c.error(
            node, f"{fn.__name__}() takes * or ** parameters, which are not compiled", "name the parameters"
        )
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if len(args) > code.co_argcount:
        raise c.error(
            node,
            f"{fn.__name__}() takes {code.co_argcount} argument{'s' if code.co_argcount != 1 else ''}, "
            f"{len(args)} are given",
            f"{fn.__name__}({', '.join(_shown(fn))})",
        )
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name in names[: code.co_posonlyargcount]:
            raise c.error(node, f"{fn.__name__}() takes {name!r} by position only", f"{fn.__name__}({name})")
        if name not in names:
            raise c.error(node, f"{fn.__name__}() has no parameter {name!r}", c.nearest(name, names))
        if name in given:
            raise c.error(
                node, f"{fn.__name__}() is given {name!r} twice", f"{fn.__name__}({', '.join(names)})"
            )
        given[name] = value
    defaults = dict(zip(names[: code.co_argcount][::-1], (fn.__defaults__ or ())[::-1], strict=False))
    defaults.update(fn.__kwdefaults__ or {})
    for name in names:
        if name not in given:
            if name not in defaults:
                raise c.error(
                    node, f"{fn.__name__}() is called without {name!r}", f"{fn.__name__}({', '.join(names)})"
                )
            given[name] = wrap(c, defaults[name], node, name)
    return [(name, given[name]) for name in names]


def inline(c: Walker, fn: Any, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """Walk a function's body in place of the call, with what is known of its arguments."""
    from skep.lang.stmts import block

    if any(scope.fn is fn for scope in c.scopes):
        raise c.error(node, f"{fn.__name__}() calls itself: programs have no recursion", "write a loop")
    if len(c.scopes) > _DEEPEST:
        raise c.error(node, "calls are nested too deeply", "make some of them @bpf.subprog")
    given = bind_arguments(c, fn, args, kwargs, node)
    file = c.unit.source(fn)
    tree = file.function(fn)
    if tree.decorator_list and not isinstance(fn, Subprog):
        raise c.error(
            node,
            f"{fn.__name__}() is decorated: only plain functions are compiled",
            "leave the decorator out",
        )
    caller = c.scope
    debug = c.unit.di.block(caller.debug_scope, c.unit.file_node(file))
    if file is caller.file:
        debug = caller.debug_scope
    scope = Scope(fn, tree, file, f"{caller.prefix}{fn.__name__}@{id(node):x}.", debug)
    scope.on_return = c.label("ret")
    c.scopes.append(scope)
    _parameters(c, scope, given, node)
    live, bools = c.live, c.only_bools
    c.only_bools = False
    block(c, tree.body)
    if c.live:
        c.bind(scope.prefix + "$ret", c.none(), node)
        c.em.br(scope.on_return)
        scope.returns.append(c.env)
    if not scope.returns:
        raise c.error(tree, f"{fn.__name__}() never returns", "give its loop an end")
    c.em.place(scope.on_return)
    c.env, c.live = join(scope.returns, c.lost), live
    c.only_bools = bools
    bound = c.env.pop(scope.prefix + "$ret", None)
    if bound is None:
        why = c.lost.get(scope.prefix + "$ret", "")
        raise c.error(tree, f"{fn.__name__}() returns {why}", "return the same type on every path")
    result = c.read(bound)
    c.drop_scope(scope.prefix)
    c.scopes.pop()
    c.at(node, force=True)
    return result


def _parameters(c: Walker, scope: Scope, given: list[tuple[str, Value]], node: ast.AST) -> None:
    for name, value in given:
        annotation = c.unit.annotation(scope, name)
        storage = c.unit.parameter_storage(annotation)
        if storage is not None and storage.scalar:
            scope.declared[name] = storage
            if not c.is_number(value):
                # The caller's mistake: report it there.
                c.scopes.pop()
                c.as_int(value, node, f"parameter {name!r} of {scope.fn.__name__}()")
                c.scopes.append(scope)
            value = c.unit.convert(c, value, storage, node)
        elif value.type.nullable and storage is not None and not c.unit.allows_none(annotation):
            c.scopes.pop()
            c.refuse_none(value, node, f"what is given for {name!r}")
        c.bind(scope.prefix + name, value, node)
        if value.node is not None and remainders.divided(c.scopes[-2], value.node):
            scope.divided_params.add(name)


__all__ = ["TEXT", "ArrayType", "bind_arguments", "call", "call_object", "construct", "inline"]
