"""References that a program acquires and gives back: sockets, tasks, masks, records in a ring, sections.

The verifier refuses a program that ends on any path with something still held. Here that is an error at the
place where it happens: what is held follows the paths of the program (`held`), and every exit looks. Which
calls acquire and release is the kernel's to say: flags of kfuncs, prototypes of helpers.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from skep.lang import held as h
from skep.lang.values import PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.locks import Lock
    from skep.lang.source import SourceFile
    from skep.lang.walk import Walker

#: emits the call that gives back what an operand points to
GiveBack = Callable[["Walker", str], None]

#: sections that a pair of kfuncs begins and ends: the one that ends it, whether it nests
SECTIONS: Final = {
    "bpf_rcu_read_lock": ("bpf_rcu_read_unlock", False),
    "bpf_preempt_disable": ("bpf_preempt_enable", True),
    "bpf_local_irq_save": ("bpf_local_irq_restore", True),
}
ENDS: Final = {end: begin for begin, (end, _) in SECTIONS.items()}
#: what is safe to look at until the RCU section ends
RCU: Final = h.Ref("%rcu", False)
#: helpers whose result is the pointer they are given, seen as another type
_CASTS: Final = frozenset((95, 96, 136, 137, 138, 139, 140, 196))


class Held(NamedTuple):
    """Where and how something was acquired."""

    node: ast.AST
    file: SourceFile
    #: the call, and how it is given back, as the program writes them
    call: str
    release: str
    give_back: GiveBack | None
    #: the form that does so by itself
    form: str
    #: what is said when it is left open
    section: bool = False

    @property
    def line(self) -> int:
        return getattr(self.node, "lineno", 0)


class Books:
    """What a walker knows of everything that it has seen acquired."""

    def __init__(self) -> None:
        self.known: dict[str, Held] = {}
        #: given back by the `with` block they belong to
        self.managed: set[str] = set()
        #: the names of the variables, for messages
        self.names: dict[str, str] = {}
        #: more of those that are locks
        self.locks: dict[str, Lock] = {}

    def of(self, key: str) -> Held:
        return self.known[key.split("|")[0]]


def ref_of(v: Value) -> h.Ref | None:
    return v.ref


def derived(made: Value, source: Value) -> Value:
    """``made`` lives as long as what ``source`` refers to."""
    if source.ref is not None and made.ref is None:
        made.ref = h.Ref(source.ref.key, False)
    return made


def shown(name: str) -> str:
    """A kfunc or helper as programs write it."""
    return f"bpf.{name.removeprefix('bpf_')}"


# --- acquiring ------------------------------------------------------------------------------------------


def acquire(
    c: Walker,
    value: Value,
    node: ast.AST,
    call: str,
    release: str,
    give_back: GiveBack | None,
    *,
    key: str = "",
    form: str = "",
) -> Value:
    """``value`` is held from here on (unless it is None); ``call`` and ``release`` are for messages."""
    key = key or f"{c.scope.prefix}{call}@{id(node):x}"
    before = h.state(c.env, key)
    books = c.books
    if before in (h.HELD, h.MAYBE, h.SPLIT):
        known = books.of(key)
        turn = " in the next turn of the loop" if c.depth() > 0 else ""
        raise c.error(
            node,
            f"{call}() acquires another one here{turn}, and what it acquired before may still be held",
            _hint(known),
        )
    books.known[key] = Held(node, c.scope.file, f"{call}()", release, give_back, form)
    books.managed.discard(key)
    c.env[h.slot(key)] = h.entry(h.MAYBE if value.type.nullable else h.HELD)
    value.ref = h.Ref(key)
    return value


def begin(c: Walker, name: str, node: ast.AST, give_back: GiveBack) -> str:
    """A section begins; its key."""
    end, nests = SECTIONS[name]
    depth = 0
    while h.state(c.env, f"{name}#{depth}") in (h.HELD, h.MAYBE, h.SPLIT):
        depth += 1
    if depth and (not nests or depth > 16):
        known = c.books.of(f"{name}#0")
        raise c.error(
            node,
            f"{shown(name)}() is in effect already, since line {known.line}",
            f"end it before, with {shown(end)}()",
        )
    key = f"{name}#{depth}"
    form = f"with {shown(name)}():"
    c.books.known[key] = Held(
        node, c.scope.file, f"{shown(name)}()", f"{shown(end)}()", give_back, form, True
    )
    c.books.managed.discard(key)
    c.env[h.slot(key)] = h.entry(h.HELD)
    return key


def end(c: Walker, name: str, node: ast.AST) -> None:
    """A section ends by the program's own call."""
    first = ENDS[name]
    keys = [key for key in h.live(c.env) if key.split("#")[0] == first]
    if not keys:
        raise c.error(
            node, f"{shown(name)}() ends what has not begun on this path", f"with {shown(first)}(): ..."
        )
    key = keys[-1]
    if key in c.books.managed:
        raise c.error(node, f"the 'with' block ends {shown(first)}() by itself", "leave this call out")
    same_on_all_paths(c, key, node)
    c.env[h.slot(key)] = h.entry(h.RELEASED, getattr(node, "lineno", 0))
    _unsafe(c, key)


def _unsafe(c: Walker, key: str) -> None:
    """An RCU section ended: what it kept safe is out of reach."""
    if key.split("#")[0] == "bpf_rcu_read_lock":
        h.unseen(c.env, c.lost, RCU.key, "only safe in the RCU section")


# --- giving back ----------------------------------------------------------------------------------------


def release(
    c: Walker, value: Value, node: ast.AST, call: str, verb: str = "gave it back", hint: str = ""
) -> None:
    """``value`` was given back by ``call``, which is emitted already: nothing may refer to it any more."""
    ref = value.ref
    name = c.text_of(_argument(node))
    if ref is None or h.state(c.env, ref.key) in (h.GONE, h.RELEASED):
        raise c.error(
            node,
            f"{call} gives away what was acquired, and nothing on this path acquired {name}"
            if hint
            else f"{call} gives back what was acquired, and nothing on this path acquired {name}",
            hint
            or "leave it out: what belongs to the context or to another object is not yours to give back",
        )
    known = c.books.of(ref.key)
    if not ref.own:
        raise c.error(
            node,
            f"{call} takes what {known.call} acquired on line {known.line}, and {name} is only reached "
            "through it",
            "give back that itself",
        )
    if ref.key in c.books.managed:
        raise c.error(node, f"the 'with' block gives {name} back by itself", "leave this call out")
    same_on_all_paths(c, ref.key, node)
    drop(c, ref.key, f"{call} on line {getattr(node, 'lineno', 0)} {verb}", getattr(node, "lineno", 0))


def given(c: Walker, value: Value, node: ast.AST, call: str) -> None:
    """Refuse to give away what a `with` block gives back, or what only some paths hold."""
    assert value.ref is not None
    if value.ref.key in c.books.managed:
        raise c.error(
            node,
            f"the 'with' block gives this back by itself, and {call} gives it away",
            "x = bpf.new(T), without bpf.releasing",
        )
    if h.state(c.env, value.ref.key) in (h.GONE, h.RELEASED):
        raise c.error(
            node,
            f"{call} gives away what was acquired, and nothing on this path acquired it",
            "x = bpf.new(T)",
        )
    same_on_all_paths(c, value.ref.key, node)


def drop(c: Walker, key: str, why: str, line: int) -> None:
    """Forget a reference and every variable that refers to it."""
    c.env[h.slot(key)] = h.entry(h.RELEASED, line)
    for name in [name for name, value in c.env.items() if _refers(value, key)]:
        del c.env[name]
        c.lost[name] = f"given back: {why}"


def _refers(value: Value, key: str) -> bool:
    return any(part.ref is not None and part.ref.key == key for part in h.parts(value))


def _argument(node: ast.AST) -> ast.AST:
    if isinstance(node, ast.Call) and node.args:
        return node.args[0]
    return node


def same_on_all_paths(c: Walker, key: str, node: ast.AST) -> None:
    """Refuse to go on with what is held on some paths to here only."""
    if h.state(c.env, key) == h.SPLIT:
        raise _on_some_paths(c, key, node)


def _on_some_paths(c: Walker, key: str, node: ast.AST) -> Exception:
    known = c.books.of(key)
    line = c.env[h.slot(key)].hi
    other = f"given back on line {line}" if line else "not acquired"
    if known.section:
        other = f"ended on line {line}" if line else "has not begun"
        return known.file.error(
            known.node,
            f"where two paths meet, {known.call} is in effect on one and {other} on the other",
            known.form,
        )
    acquired = f"what {known.call} acquires here"
    return known.file.error(
        known.node,
        f"where two paths meet, {acquired} is {other} on one and still held on the other",
        _hint(known),
    )


def _hint(known: Held, name: str = "") -> str:
    release = known.release.replace("(x)", f"({name or 'x'})")
    return f"{release} on every path{', or ' + known.form if known.form else ''}"


# --- exits ----------------------------------------------------------------------------------------------


def leaving(c: Walker, node: ast.AST, way: str = "") -> None:
    """Refuse to end the function here with something held; ``way``: what ends it, when it is no return."""
    for key in h.live(c.env):
        if h.state(c.env, key) == h.SPLIT:
            raise _on_some_paths(c, key, node)
        known = c.books.of(key)
        if known.section:
            raise c.error(
                node if not isinstance(node, ast.FunctionDef) else known.node,
                f"{known.call} of line {known.line} is still in effect {way or 'where the program ends'}",
                f"{known.release} before, or {known.form}",
            )
        name = next(iter(h.owners(c.env, key)), "")
        name = name.rpartition(".")[2] if name and not name.rpartition(".")[2].startswith("$") else ""
        what = f"{name}, which {known.call} acquired on line {known.line}," if name else (
            f"what {known.call} acquired on line {known.line}"
        )  # fmt: skip
        if isinstance(node, ast.FunctionDef):
            raise known.file.error(
                known.node, f"{what} is still held where {node.name}() ends", _hint(known, name)
            )
        raise c.error(
            node, f"{what} is still held {way or 'here, where the program ends'}", _hint(known, name)
        )


def unused(c: Walker, value: Value, node: ast.AST) -> None:
    """An expression's value is dropped."""
    ref = value.ref
    if ref is None or not ref.own or h.state(c.env, ref.key) not in (h.HELD, h.MAYBE):
        return
    if not h.owners(c.env, ref.key):
        known = c.books.of(ref.key)
        raise c.error(node, f"what {known.call} acquires is dropped here and never given back", _hint(known))


def overwritten(c: Walker, key: str, old: Value, new: Value, node: ast.AST) -> None:
    """The variable ``key`` gets another value: it must not be the last that could give something back."""
    for part in h.parts(old):
        ref = part.ref
        if ref is None or not ref.own or (new.ref is not None and new.ref.key == ref.key):
            continue
        if h.state(c.env, ref.key) not in (h.HELD, h.MAYBE) or ref.key in c.books.managed:
            continue
        if any(name != key for name in h.owners(c.env, ref.key)):
            continue
        known = c.books.of(ref.key)
        name = key.rpartition(".")[2]
        raise c.error(
            node,
            f"{name} still holds what {known.call} acquired on line {known.line}, and gets another value",
            f"{known.release.replace('(x)', f'({name})')} before",
        )


def give_all_back(c: Walker) -> None:
    """Emit what gives back all that is held, on a path that the program cannot take but the verifier sees."""
    for key in reversed(h.live(c.env)):
        known = c.books.of(key)
        if known.give_back is None:
            continue
        if known.section:
            known.give_back(c, "")
            continue
        for name in h.owners(c.env, key):
            bound = next((p for p in h.parts(c.env[name]) if p.ref is not None and p.ref.key == key), None)
            if bound is None or not bound.place:
                continue
            got = c.em.op(f"load ptr, ptr {bound.place}")
            if h.state(c.env, key) == h.MAYBE:
                there, over = c.label("held"), c.label("free")
                c.em.cond(c.em.op(f"icmp ne ptr {got}, null"), there, over)
                c.em.place(there)
                known.give_back(c, got)
                c.em.place(over)
            else:
                known.give_back(c, got)
            break


# --- tests ----------------------------------------------------------------------------------------------


def facts(value: Value | None) -> tuple[list[tuple[str, Value]], list[tuple[str, Value]]]:
    """What the sides of a test for None learn: it is held, it is not."""
    if value is None or value.ref is None or not value.ref.own or not value.type.nullable:
        return [], []
    name = h.slot(value.ref.key)
    return [(name, h.entry(h.HELD))], [(name, h.entry(h.GONE))]


def gone(c: Walker, value: Value) -> bool:
    """Whether what ``value`` refers to was given back already."""
    return value.ref is not None and h.state(c.env, value.ref.key) == h.RELEASED


def inside(c: Walker, *names: str) -> str:
    """The innermost section of those named that is open here, "" for none."""
    for key in reversed(h.live(c.env)):
        if key.split("#")[0] in names:
            return key.split("#")[0]
    return ""


def awake(c: Walker, call: str, node: ast.AST) -> None:
    """Refuse what may sleep inside a section where nothing may."""
    name = inside(c, *SECTIONS)
    if name:
        raise c.error(
            node,
            f"{call}() may sleep, and programs may not since {shown(name)}()",
            f"call it before, or after {shown(SECTIONS[name][0])}()",
        )


def in_rcu(c: Walker, call: str, node: ast.AST) -> None:
    """Refuse, in a program that may sleep, what needs an RCU section."""
    if not inside(c, "bpf_rcu_read_lock"):
        raise c.error(
            node, f"{call}() needs an RCU section in programs that may sleep", "with bpf.rcu_read_lock(): ..."
        )


# --- with -----------------------------------------------------------------------------------------------


class Releasing(Type):
    """``bpf.releasing(x)``: in ``with`` x is given back on every way out; the block is skipped for None."""

    name = "bpf.releasing(...)"
    llvm = ""

    def enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        of: Value = v.obj
        test = of.type.truth(c, of, node) if of.type.nullable else None
        entered = of.type.narrowed(of) if of.type.nullable else of
        entered = Value(entered.type, of.ir, obj=of.obj, ref=of.ref)
        if test is None:
            self.begin(c, v, entered, node)
        return entered, test

    def begin(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        assert entered.ref is not None
        c.env[h.slot(entered.ref.key)] = h.entry(h.HELD)
        c.books.managed.add(entered.ref.key)

    def skipped(self, c: Walker, v: Value, node: ast.AST) -> None:
        c.env[h.slot(v.obj.ref.key)] = h.entry(h.GONE)

    def exit(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        assert entered.ref is not None
        known = c.books.of(entered.ref.key)
        assert known.give_back is not None
        known.give_back(c, entered.ir)
        drop(c, entered.ref.key, f"the 'with' block of line {getattr(node, 'lineno', 0)} did so", 0)

    def dropped(self, c: Walker, v: Value, node: ast.AST) -> None:
        raise c.error(node, "bpf.releasing(...) works in 'with' only", "with bpf.releasing(...) as x:")

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        raise c.error(node, "bpf.releasing(...) works in 'with' only", "with bpf.releasing(...) as x:")


def refuse_with(c: Walker, manager: Value, node: ast.AST) -> None:
    """``with`` on what was acquired itself: a type checker would not let it pass, for it may be None."""
    if manager.ref is not None and manager.ref.own and manager.ref.key in c.books.known:
        raise c.error(
            node,
            f"what {c.books.of(manager.ref.key).call} gives may be None, which 'with' does not take",
            f"with bpf.releasing({c.text_of(node)}) as x: gives it back, and skips the block for None",
        )


def releasing(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.releasing(x)``."""
    from skep.lang.arguments import positional

    of = positional(c, "bpf.releasing", args, kwargs, node, 1)[0]
    ref = of.ref
    if ref is None or not ref.own or h.state(c.env, ref.key) not in (h.HELD, h.MAYBE):
        raise c.error(
            node,
            f"bpf.releasing() takes what a call has just acquired, and {of.type.name} here is none",
            "with bpf.releasing(bpf.sk_lookup_tcp(...)) as sk:",
        )
    if ref.key in c.books.managed:
        raise c.error(node, "another 'with' block gives this back", "leave bpf.releasing out")
    if c.books.of(ref.key).give_back is None:
        raise c.error(node, "this is given back by a call that needs more", c.books.of(ref.key).release)
    return Value(Releasing(), obj=of)


class SectionType(Type):
    """What ``bpf.rcu_read_lock()`` gives: in ``with``, the section ends with the block. ``obj``: the key."""

    name = "a section"

    def enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        c.books.managed.add(v.obj)
        return c.none(), None

    def exit(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        known = c.books.of(v.obj)
        assert known.give_back is not None
        known.give_back(c, "")
        c.env[h.slot(v.obj)] = h.entry(h.RELEASED, getattr(node, "lineno", 0))
        _unsafe(c, v.obj)


# --- helpers --------------------------------------------------------------------------------------------


def of_helper(c: Walker, number: int, name: str, made: Value, given: list[Value], node: ast.AST) -> Value:
    """The result of a helper: acquired, or reached through an argument that is held."""
    if number in _CASTS:
        for value in given:
            derived(made, value)
        return made
    if number in (84, 85, 99):
        return socket(c, made, node, f"bpf.{name}")
    return made


def socket(c: Walker, made: Value, node: ast.AST, call: str) -> Value:
    """A socket that was looked up, to be given back with bpf.sk_release."""

    def give_back(c: Walker, operand: str) -> None:
        c.em.op(f"call i64 inttoptr (i64 86 to ptr)(ptr {operand})")

    form = f"with bpf.releasing({call}(...)) as sk:"
    return acquire(c, made, node, call, "bpf.sk_release(x)", give_back, form=form)


def ready(c: Walker, value: Value, node: ast.AST) -> None:
    """A dynptr gets its memory here."""
    if value.ref is None:
        return
    if h.state(c.env, value.ref.key) in (h.HELD, h.MAYBE, h.SPLIT):
        known = c.books.of(value.ref.key)
        raise c.error(
            node, f"this dynptr still holds what {known.call} acquired on line {known.line}", _hint(known)
        )
    c.env[f"%ready {value.ref.key}"] = h.entry(h.HELD)


def used(c: Walker, value: Value, node: ast.AST) -> None:
    """A dynptr is used: refuse one without memory."""
    if value.ref is not None and f"%ready {value.ref.key}" not in c.env:
        raise c.error(
            node,
            "this dynptr has no memory yet, on some path to here",
            "bpf.dynptr_from_skb(0, d), bpf.ringbuf_reserve_dynptr(ring, size, 0, d) give it some",
        )


def dynptr(c: Walker, value: Value, node: ast.AST) -> None:
    """A dynptr was reserved in a ring: it has to be submitted or discarded, also when there was no room."""
    if value.ref is None or not isinstance(value.type, PtrType):
        raise c.error(node, f"{value.type.name} is no dynptr of this program", "d = bpf.Dynptr()")

    def give_back(c: Walker, operand: str) -> None:
        c.em.do(f"call void inttoptr (i64 200 to ptr)(ptr {operand}, i64 0)")

    release = "bpf.ringbuf_submit_dynptr(d) or bpf.ringbuf_discard_dynptr(d)"
    acquire(c, value, node, "bpf.ringbuf_reserve_dynptr", release, give_back, key=value.ref.key)
    c.env[f"%ready {value.ref.key}"] = h.entry(h.HELD)
