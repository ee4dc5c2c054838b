"""Lists and red-black trees of objects that a program allocates: ``bpf.ListHead``, ``bpf.RbRoot``.

They lie beside a lock in the value of a map, and are used while it is held. What is put in is given away, and
can be seen until the lock is released; what is taken out is held. Linux 6.6 (6.2 to 6.5 have smaller nodes).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from skep.errors import SkepError
from skep.lang import held as h
from skep.lang import locks, owned, references
from skep.lang.aggregates import StructStorage
from skep.lang.arguments import positional
from skep.lang.layout import OpaqueStorage, Storage
from skep.lang.maps import unfit
from skep.lang.owned import SEEN, OwnRef, acquired, call, held, named
from skep.lang.values import BUILTIN, TUPLE, PtrType, Value

if TYPE_CHECKING:
    from skep.lang.debug import Debug
    from skep.lang.unit import Unit
    from skep.lang.walk import Walker


class _Method(NamedTuple):
    kfunc: str
    #: "put", "take" (it gives what is held then), "see" (what stays in)
    way: str
    #: "": none; "own": what the program owns; "seen": what the list or tree owns
    takes: str = ""
    less: bool = False


_LIST: Final = {
    "push_front": _Method("bpf_list_push_front_impl", "put", "own"),
    "push_back": _Method("bpf_list_push_back_impl", "put", "own"),
    "pop_front": _Method("bpf_list_pop_front", "take"),
    "pop_back": _Method("bpf_list_pop_back", "take"),
    "front": _Method("bpf_list_front", "see"),
    "back": _Method("bpf_list_back", "see"),
}
_TREE: Final = {
    "add": _Method("bpf_rbtree_add_impl", "put", "own", True),
    "remove": _Method("bpf_rbtree_remove", "take", "seen"),
    "first": _Method("bpf_rbtree_first", "see"),
    "root": _Method("bpf_rbtree_root", "see"),
    "left": _Method("bpf_rbtree_left", "see", "seen"),
    "right": _Method("bpf_rbtree_right", "see", "seen"),
}
#: head -> (node's struct, what messages call it, node's type as programs write it, methods)
_KINDS: Final = {
    "bpf_list_head": ("bpf_list_node", "list", "bpf.ListNode", _LIST),
    "bpf_rb_root": ("bpf_rb_node", "tree", "bpf.RbNode", _TREE),
}


class HeadStorage(OpaqueStorage):
    """The head of a list or the root of a tree, of structs ``of`` linked by their field ``node``."""

    def __init__(self, unit: Unit, name: str, of: StructStorage, node: str) -> None:
        super().__init__(name, 16, 8)
        self.unit = unit
        self.of = of
        self.node = node
        #: tells heads of other structs apart
        self.label = f"{name} of {of.name}.{node}"
        #: what the kernel reads in the field's declaration tag
        self.tag = f"contains:{of.name}:{node}"
        self.word, self.methods = _KINDS[name][1], _KINDS[name][3]

    def same(self, other: Storage) -> bool:
        return isinstance(other, HeadStorage) and other.label == self.label and other.of.same(self.of)

    def describe(self, di: Debug) -> str:
        named(self.unit, self.of)
        return super().describe(di)

    @property
    def offset(self) -> int:
        """Of the node within the struct, in bytes."""
        return self.of.fields[self.node].offset

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        method = self.methods.get(name)
        if method is None:
            raise c.error(node, f"a {self.word} has no {name!r}", c.nearest(name, self.methods))

        def do(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
            return self.do(c, v, name, method, args, kwargs, node)

        return Value(BUILTIN, obj=do)

    def do(
        self,
        c: Walker,
        v: Value,
        name: str,
        method: _Method,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.AST,
    ) -> Value:
        """Call ``method`` of the head ``v``."""
        given = positional(c, name, args, kwargs, node, bool(method.takes) + method.less)
        locks.guards(c, v, name, self.word, node)
        operands = [f"ptr {v.ir}"]
        if method.takes:
            operands.append(f"ptr {self._node(c, given[0], method, name, node)}")
        if method.less:
            from skep.lang import callbacks

            operands.append(f"ptr {callbacks.callback(c, given[1], node, 'rbtree_add', (self, self))}")
        got = call(c, method.kfunc, operands, node, locked=True)
        if method.way == "put":
            _give(c, given[0], node, name)
            return c.boolean(c.em.op(f"icmp eq i32 {got}, 0"))
        found = self.container(c, got, nullable=True)
        kind = OwnRef(self.of, nullable=True)
        if method.way == "see":
            return Value(kind, found, ref=SEEN)
        return acquired(c, kind, found, node, _said(c, node, name))

    def _node(self, c: Walker, value: Value, method: _Method, name: str, node: ast.AST) -> str:
        kind = value.type
        if isinstance(kind, OwnRef) and not kind.of.same(self.of):
            raise c.error(
                node,
                f"this {self.word} has {self.of.name}s, and {name}() is given a {kind.of.name}",
                f"declare another {self.word} for those",
            )
        if method.takes == "own":
            held(c, value, node, f"{name}()")
        elif not isinstance(kind, OwnRef) or value.ref is None or value.ref.key != SEEN.key:
            raise c.error(
                node,
                f"{name}() takes what is in the {self.word}, as first() gives it",
                "x = value.tree.first(), then value.tree.remove(x)",
            )
        if kind.nullable:
            c.refuse_none(value, node)
        return c.offset(value.ir, self.offset)

    def container(self, c: Walker, got: str, *, nullable: bool) -> str:
        """The struct around a node."""
        back = -self.offset
        if not back:
            return got
        if not nullable:
            return c.em.op(f"getelementptr i8, ptr {got}, i64 {back}")
        # The verifier takes no arithmetic on what may be None: nothing is to be moved before the test.
        room = c.em.slot("ptr", ("container", c.fresh()))
        c.em.do(f"store ptr null, ptr {room}")
        there, over = c.label("there"), c.label("over")
        c.em.cond(c.em.op(f"icmp ne ptr {got}, null"), there, over)
        c.em.place(there)
        kept = c.em.op(f'call ptr asm sideeffect "", "=r,0"(ptr {got})')
        around = c.em.op(f"getelementptr i8, ptr {kept}, i64 {back}")
        c.unit.declare("declare void @llvm.assume(i1)")
        c.em.do(f"call void @llvm.assume(i1 {c.em.op(f'icmp ne ptr {around}, null')})")
        c.em.do(f"store ptr {around}, ptr {room}")
        c.em.place(over)
        return c.em.op(f"load ptr, ptr {room}")


def by_name(c: Walker, kfunc: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """The same as C writes it: ``bpf.obj_new(T)``, ``bpf.list_push_back(value.items, x)``."""
    stem = kfunc.removesuffix("_impl")  # later kernels have both names
    if stem == "bpf_obj_new":
        return owned.new(c, args, kwargs, node)
    if stem == "bpf_obj_drop":
        return owned.drop(c, args, kwargs, node)
    for head, (_, word, _, methods) in _KINDS.items():
        for name, method in methods.items():
            if method.kfunc.removesuffix("_impl") != stem:
                continue
            of = args[0].type if args else None
            if not isinstance(of, PtrType) or not isinstance(of.of, HeadStorage) or of.of.name != head:
                raise c.error(node, f"{references.shown(stem)}() takes a {word}", f"value.items.{name}(...)")
            return of.of.do(c, args[0], name, method, args[1:], kwargs, node)
    raise c.error(node, f"{references.shown(kfunc)}() is not compiled", "keep the objects in a map")


def _said(c: Walker, node: ast.AST, name: str) -> str:
    """The call as the program writes it."""
    func = getattr(node, "func", None)
    return c.text_of(func) if func is not None else name


def _give(c: Walker, value: Value, node: ast.AST, name: str) -> None:
    """``value`` was given away: it can be seen until the lock is released."""
    assert value.ref is not None
    key = value.ref.key
    references.given(c, value, node, f"{name}()")
    c.env[h.slot(key)] = h.entry(h.RELEASED, getattr(node, "lineno", 0))
    for variable, bound in list(c.env.items()):
        if bound.ref is not None and bound.ref.key == key:
            c.env[variable] = Value(
                bound.type, bound.ir, bound.lo, bound.hi, obj=bound.obj, place=bound.place, ref=SEEN
            )
        elif bound.type is TUPLE and any(p.ref is not None and p.ref.key == key for p in h.parts(bound)):
            del c.env[variable]
            c.lost[variable] = f"given away: {name}() on line {getattr(node, 'lineno', 0)} did so"


def storage(unit: Any, record: Any) -> Storage:
    """The storage of a ``bpf.ListHead`` or ``bpf.RbRoot``. Raises SkepError for what cannot be in one."""
    made = unit.namespace.storage(record.of)
    want, word, written, _ = _KINDS[record.name]
    if not isinstance(made, StructStorage) or made.union:
        raise SkepError(f"a {word} has structs: write {record!r} for a struct of the program's own")
    nodes = [name for name, field in made.fields.items() if field.of.name == want]
    if record.node and record.node not in nodes:
        raise SkepError(f"{record!r}: {made.name} has no field {record.node}: {written}")
    if len(nodes) != 1 and not record.node:
        few = f"has no field node: {written}" if not nodes else f"has several: name one of {', '.join(nodes)}"
        raise SkepError(f"{record!r}: {made.name} {few}")
    if (why := unfit(made)) is not None:
        raise SkepError(why)
    return HeadStorage(unit, record.name, made, record.node or nodes[0])


def seen(c: Walker, head: Any, record: Any, operand: str, param: ast.arg) -> Value:
    """A parameter of the function that orders a tree: a struct in it."""
    assert isinstance(head, HeadStorage)
    if record is not None and not c.unit.storage(record, c, param).same(head.of):
        raise c.error(
            param, f"{param.arg!r} is {head.of.name} here, not {record.__name__}", "change the annotation"
        )
    return Value(OwnRef(head.of), head.container(c, operand, nullable=False), ref=SEEN)
