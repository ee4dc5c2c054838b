"""Locks in programs: ``with value.lock:`` for a ``bpf.SpinLock`` or ``bpf.ResSpinLock``, and calls by hand.

Which locks are held is part of what is known on a path (`held`), for the calls that take and release one may
be far apart. A resilient lock (Linux 6.15) notices deadlocks and gives up after a time: taking it gives 0 or
an error below it, and where it is not taken the block of its ``with`` is skipped.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final, NamedTuple

from skep.lang import arith, references
from skep.lang import held as h
from skep.lang.layout import OpaqueStorage
from skep.lang.references import Held, shown
from skep.lang.values import INT, IntType, PtrType, Value
from skep.uapi.enums import ProgType

if TYPE_CHECKING:
    from skep.lang.scope import Env
    from skep.lang.walk import Walker

SPIN: Final = "bpf_spin_lock"
#: the resilient locks' functions: what takes one -> what releases it
PAIRS: Final = {
    "bpf_res_spin_lock": "bpf_res_spin_unlock",
    "bpf_res_spin_lock_irqsave": "bpf_res_spin_unlock_irqrestore",
}
ENDS: Final = {end: begin for begin, end in PAIRS.items()}
#: whose programs the kernel refuses maps with a lock (verifier.c, check_map_prog_compatibility)
_LOCKLESS: Final = (
    ProgType.SOCKET_FILTER,
    ProgType.KPROBE,
    ProgType.TRACEPOINT,
    ProgType.PERF_EVENT,
    ProgType.RAW_TRACEPOINT,
    ProgType.RAW_TRACEPOINT_WRITABLE,
)
_PREFIX: Final = "lock "


class Lock(NamedTuple):
    """A lock that was taken: by which function, where it lies, how the program writes it, its flags' room."""

    kind: str
    origin: object
    text: str
    line: int
    flags: str


def is_key(key: str) -> bool:
    """Whether a reference's key is that of a lock."""
    return key.startswith(_PREFIX)


def held(env: Env) -> list[str]:
    """The keys of the locks that are held, or may be, the last one taken at the end."""
    return [key for key in h.live(env) if is_key(key)]


def refuse(c: Walker, node: ast.AST) -> Exception:
    """The error of a call of the kernel's while a lock is held."""
    return c.error(
        node,
        "this calls the kernel, which programs cannot while they hold a lock",
        "do it before the block, or after it",
    )


# --- taking -------------------------------------------------------------------------------------------------


def _may(c: Walker, kind: str, v: Value, node: ast.AST) -> None:
    """Refuse a lock in programs that cannot have one, a second of the plain kind, and one that is held."""
    keys = held(c.env)
    if c.locked and (kind == SPIN or not keys):
        raise c.error(
            node, "a lock is held already: a program holds one at a time", "end the first block before"
        )
    for key in keys:
        lock = c.books.locks[key]
        if lock.origin is not None and lock.origin == v.origin:
            raise c.error(
                node,
                f"{lock.text} is held already, since line {lock.line}: taking it again would wait for itself",
                "release it before",
            )
    if c.section is not None and c.section.type in _LOCKLESS:
        raise c.error(
            node,
            f"{c.section.type.name.lower()} programs cannot hold locks",
            "atomic additions, or a per-CPU map; tp_btf, fentry, tc and xdp programs can",
        )


def _hold(c: Walker, kind: str, v: Value, node: ast.AST, state: int, flags: str = "") -> str:
    """Note that a lock is held from here on; its key."""
    key = f"{_PREFIX}{c.scope.prefix}{id(node):x}"
    what = _of(node) if kind != SPIN or isinstance(node, ast.Call) else node
    line = getattr(node, "lineno", 0)
    call = f"{shown(kind)}()" if isinstance(node, ast.Call) else f"with {c.text_of(node)}"
    end = shown(PAIRS.get(kind, "bpf_spin_unlock"))
    form = f"with {shown(kind)}(lock): ..." if isinstance(node, ast.Call) else "with value.lock: ..."

    def give_back(c: Walker, _: str) -> None:
        _release(c, kind, v.ir, flags, c.node)

    c.books.known[key] = Held(node, c.scope.file, call, f"{end}(lock)", give_back, form, True)
    c.books.locks[key] = Lock(kind, v.origin, c.text_of(what), line, flags)
    c.books.managed.discard(key)
    c.env[h.slot(key)] = h.entry(state)
    c.em.guard = c.refuse_under_lock
    return key


def _of(node: ast.AST) -> ast.AST:
    return node.args[0] if isinstance(node, ast.Call) and node.args else node


def enter(c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
    """``with value.lock:``: (the lock, whether it was taken, None for one that always is)."""
    assert isinstance(v.type, PtrType)
    if v.type.of.name != SPIN:
        taken = take(c, "bpf_res_spin_lock", v, node)
        return taken.type.enter(c, taken, node)
    _may(c, SPIN, v, node)
    c.helper("spin_lock", [f"ptr {v.ir}"])
    c.books.managed.add(_hold(c, SPIN, v, node, h.HELD))
    return v, None


def leave(c: Walker, v: Value, node: ast.AST) -> None:
    """Release it at the end of the block."""
    key = f"{_PREFIX}{c.scope.prefix}{id(node):x}"
    lock = c.books.locks[key]
    _release(c, lock.kind, v.ir, lock.flags, node)
    _gone(c, key, node)


def skipped(c: Walker, node: ast.AST) -> None:
    """The block is skipped: the lock was not taken."""
    c.env[h.slot(f"{_PREFIX}{c.scope.prefix}{id(node):x}")] = h.entry(h.GONE)


class LockResult(IntType):
    """What taking a resilient lock gives, 0 or a negative error; ``with`` on it holds the lock. ``obj``: the
    lock and the operand of the number."""

    name = "the result of taking a lock"

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return Value(INT, v.ir, v.lo, v.hi, ref=v.ref)

    def enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        assert v.ref is not None
        lock, got = v.obj
        c.books.managed.add(v.ref.key)
        c.env[h.slot(v.ref.key)] = h.entry(h.HELD)
        return lock, c.boolean(c.em.op(f"icmp eq i32 {got}, 0"))

    def skipped(self, c: Walker, v: Value, node: ast.AST) -> None:
        assert v.ref is not None
        c.env[h.slot(v.ref.key)] = h.entry(h.GONE)

    def exit(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        leave(c, entered, node)

    def dropped(self, c: Walker, v: Value, node: ast.AST) -> None:
        raise c.error(
            node, "whether the lock was taken is not looked at", f"with {c.text_of(_call(node))}: ..."
        )


def _call(node: ast.AST) -> ast.AST:
    return node.value if isinstance(node, ast.Expr) else node


def take(c: Walker, kind: str, v: Value, node: ast.AST) -> Value:
    """Call ``kind`` for the resilient lock ``v``; the lock may be held from here on."""
    from skep.lang.owned import call

    _may(c, kind, v, node)
    operands, flags = [f"ptr {v.ir}"], ""
    if kind.endswith("_irqsave"):
        flags = c.buffer(8, 8, ("irq", c.scope.prefix, id(node)))
        operands.append(f"ptr {flags}")
    got = call(c, kind, operands, node, locked=True)
    key = _hold(c, kind, v, node, h.MAYBE, flags)
    wide = c.em.op(f"sext i32 {got} to i64")
    return Value(LockResult(), wide, -4095, 0, obj=(v, got), ref=h.Ref(key, False))


# --- releasing ----------------------------------------------------------------------------------------------


def _release(c: Walker, kind: str, operand: str, flags: str, node: ast.AST) -> None:
    from skep.lang.owned import call

    if kind == SPIN:
        c.helper("spin_unlock", [f"ptr {operand}"])
        return
    rest = [f"ptr {flags}"] if flags else []
    call(c, PAIRS[kind], [f"ptr {operand}", *rest], node, locked=True)


def _gone(c: Walker, key: str, node: ast.AST) -> None:
    c.env[h.slot(key)] = h.entry(h.RELEASED, getattr(node, "lineno", 0))
    out_of_sight(c)


def out_of_sight(c: Walker) -> None:
    """What lists and trees own cannot be seen any more."""
    h.unseen(c.env, c.lost, "%seen", "only to be seen under the lock: a list or tree owns it")


def by_name(c: Walker, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.res_spin_lock(value.lock)`` and its like."""
    from skep.lang.arguments import positional

    v = positional(c, shown(name), args, kwargs, node, 1)[0]
    kind = v.type
    if (
        not isinstance(kind, PtrType)
        or not isinstance(kind.of, OpaqueStorage)
        or (kind.of.name != "bpf_res_spin_lock")
    ):
        what = kind.of.name if isinstance(kind, PtrType) else kind.name
        hint = "lock: bpf.ResSpinLock" + ("; with value.lock: ... holds this one" if what == SPIN else "")
        raise c.error(node, f"{shown(name)}() takes a field bpf.ResSpinLock, not {what}", hint)
    if name in PAIRS:
        return take(c, name, v, node)
    _end(c, ENDS[name], v, node)
    return c.none()


def _end(c: Walker, kind: str, v: Value, node: ast.AST) -> None:
    """Release the lock that was taken last, which must be ``v``."""
    end = shown(PAIRS[kind])
    keys = held(c.env)
    if not keys:
        raise c.error(
            node, f"{end}() releases what is not held on this path", f"with {shown(kind)}(lock): ..."
        )
    key = keys[-1]
    lock = c.books.locks[key]
    known = c.books.of(key)
    text = c.text_of(_of(node))
    other = lock.origin is not None and v.origin is not None and lock.origin != v.origin
    if other:
        raise c.error(
            node,
            f"{end}() releases {text}, and the lock taken last is {lock.text} of line {lock.line}",
            "release them in the opposite order"
            if any(c.books.locks[one].origin == v.origin for one in keys)
            else "the verifier takes what another lookup found for another lock: keep the first reference",
        )
    if key in c.books.managed:
        raise c.error(node, "the 'with' block releases this lock by itself", "leave this call out")
    if lock.kind != kind:
        raise c.error(
            node, f"{lock.text} was taken by {known.call} on line {lock.line}", f"{known.release} releases it"
        )
    state = h.state(c.env, key)
    if state == h.MAYBE:
        raise c.error(
            node,
            f"whether {lock.text} was taken on line {lock.line} is not known on this path",
            f"if {shown(kind)}({lock.text}) == 0: ...",
        )
    references.same_on_all_paths(c, key, node)
    _release(c, kind, v.ir, lock.flags, node)
    _gone(c, key, node)


# --- tests ------------------------------------------------------------------------------------------


def facts(
    c: Walker, op: ast.cmpop, mine: Value, other: Value
) -> tuple[list[tuple[str, Value]], list[tuple[str, Value]]]:
    """What the sides of a comparison of taking's result learn of the lock."""
    if mine.ref is None or not is_key(mine.ref.key) or h.state(c.env, mine.ref.key) != h.MAYBE:
        return [], []
    sides = []
    for true in (True, False):
        found = arith.narrowed(op, mine, other, true)
        side = []
        if found == (0, 0):
            side = [(h.slot(mine.ref.key), h.entry(h.HELD))]
        elif found is not None and found[1] < 0:
            side = [(h.slot(mine.ref.key), h.entry(h.GONE))]
        sides.append(side)
    return sides[0], sides[1]


# --- lists and trees --------------------------------------------------------------------------------


def guards(c: Walker, v: Value, name: str, word: str, node: ast.AST) -> None:
    """Refuse a list or tree ``v`` while the lock beside it is not among those that are held."""
    keys = held(c.env)
    if not keys:
        if not c.locked:
            raise c.error(
                node, f"{name}() works while the lock beside the {word} is held", "with value.lock: ..."
            )
        return
    locks = [c.books.locks[key] for key in keys]
    if v.origin is None or any(lock.origin is None or lock.origin == v.origin for lock in locks):
        return
    lock = locks[-1]
    raise c.error(
        node,
        f"the lock beside this {word} is not the one held here: {lock.text}, of line {lock.line}",
        f"hold the lock of the value that the {word} is in: what another lookup finds is another value to "
        "the verifier, so keep one reference to it",
    )
