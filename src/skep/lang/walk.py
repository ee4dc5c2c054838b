"""The walker: interprets one function over types and intervals, and emits its IR on the way.

Its variables are an environment of Values that changes as statements are walked; where paths meet the
environments join; loops are walked without effect until their environment settles, then once for good.
This file has the state and the small operations that everything else is made of; `exprs`, `stmts`,
`tests`, `calls` and `maps` have the language.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from skep.errors import CompileError
from skep.lang import arith, forget, held, locks, paths, references, remainders
from skep.lang.emit import Emit
from skep.lang.layout import Storage
from skep.lang.scope import Env, Scope
from skep.lang.values import (
    BOOL,
    INT,
    NONE,
    OBJECT,
    TEXT,
    TUPLE,
    U64,
    BoolType,
    IntType,
    PtrType,
    Type,
    Value,
)
from skep.uapi.enums import ProgType

if TYPE_CHECKING:
    from skep.bpf.programs import Program
    from skep.lang.unit import Unit
    from skep.obj.sections import Section

_STACK = 512
#: in a reference's ``obj``: it refers to a part of a struct or array (see `PtrType.materialise`)
PART = "part"
#: memory larger than this is set and copied in pieces: LLVM would call a function for it
_PIECE = 1024
_MERGED = 128
#: texts shorter than this have few lengths
_LONG = 4
#: programs that have bpf_probe_read_kernel
_READERS = frozenset(
    (
        ProgType.KPROBE,
        ProgType.TRACEPOINT,
        ProgType.RAW_TRACEPOINT,
        ProgType.PERF_EVENT,
        ProgType.TRACING,
        ProgType.LSM,
    )
)


#: helpers behind the methods of maps that only some types of programs have: tail calls are all's
_OF_SOME = frozenset((22, 25, 27, 37, 51, 52, 53, 60, 70, 71, 72, 82, 209))


def _hint_of_no_number(v: Value) -> str:
    """What to write where a number is wanted, and this is given."""
    kind = v.type
    if kind is TEXT:
        parts = v.obj.split(b".")
        if len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts):
            number = int.from_bytes(bytes(map(int, parts)), "big")
            return f"as a number: 0x{number:08X}"
        return "texts go in bpf.char fields"
    if kind is not OBJECT and type(kind).call is not Type.call:
        return f"call it: {kind.name if kind.name.startswith('bpf.') else 'NAME'}()"
    if isinstance(kind, PtrType) and kind.of.is_text:
        return "single bytes are numbers: text[0]"
    if kind is TUPLE:
        return "take one of its items: t[0]"
    if kind is NONE:
        return "give a number"
    return "give a number, or one of its fields"


class Walker:
    """Compiles one function (with all that is inlined into it)."""

    def __init__(self, unit: Unit, program: Program | None = None) -> None:
        self.unit = unit
        self.em = Emit()
        self.em.changes = lambda: paths.changed(self)
        #: a union was looked into: members may lie over one another
        self.overlaid = False
        self.env: Env = {}
        #: why variables are not usable any more, for the message
        self.lost: dict[str, str] = {}
        #: False after return, break or continue: nothing can follow
        self.live = True
        self.program = program
        #: the operand of the context
        self.ctx = ""
        #: of a syscall program: the struct it is given, and where that is declared
        self.given: tuple[Storage, ast.AST] | None = None
        self.scopes: list[Scope] = []
        #: inside an `and`/`or` whose value is used
        self.only_bools = False
        self._inlined = 0
        #: an address whose memory is known to be zero still
        self.zeroed = ""
        #: inside a loop: a zero that the verifier does not know (`skep.lang.forget`)
        self.zero_known = ""
        #: variables that the verifier is to know nothing of, whenever they are assigned
        self.unsteady: frozenset[str] | set[str] = frozenset()
        #: a function that the kernel calls while it holds a lock
        self.under_lock = False
        #: what was acquired and has to be given back
        self.books = references.Books()
        self._line = (-1, "")
        #: the statement or expression that is compiled, and the statement that it is part of
        self.node: ast.AST = ast.Pass()
        self.statement: ast.AST = self.node

    @property
    def section(self) -> Section | None:
        """What the program's section name means; None in a function that is no program."""
        if self.program is None:
            return None
        from skep.obj.sections import lookup

        return lookup(self.program.section)

    @property
    def scope(self) -> Scope:
        return self.scopes[-1]

    # --- errors and lines -------------------------------------------------------------------------

    def error(self, node: ast.AST, reason: str, hint: str = "") -> CompileError:
        """A CompileError at ``node`` of the function being walked; raise it."""
        return self.scope.file.error(node, reason, hint)

    def blamed(self, v: Value, node: ast.AST) -> ast.AST:
        """The expression that gave ``v`` where it stands in the statement being walked, else ``node``."""
        return v.node if any(part is v.node for part in ast.walk(self.statement)) and v.node else node

    def at(self, node: ast.AST, force: bool = False) -> None:
        """What is emitted next comes from the line of ``node``."""
        if self.unit.target == "host":
            return
        self.node = node
        line = getattr(node, "lineno", 0)
        scope = self.scope.debug_scope
        if not line or ((line, scope) == self._line and not force):
            return
        self._line = (line, scope)
        column = self.scope.file.column(line, getattr(node, "col_offset", 0)) + 1
        self.em.dbg = f", !dbg {self.unit.di.location(line, column, scope)}"

    def nearest(self, name: str, known: Iterable[str]) -> str:
        """A hint that names what is like ``name``."""
        from difflib import get_close_matches

        names = [k for k in known if not k.startswith("_")]
        close = get_close_matches(name, names, 1, 0.6)
        if close:
            return f"did you mean {close[0]!r}?"
        return f"there are: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else ""

    def text_of(self, node: ast.AST) -> str:
        """The source of an expression, shortened, for a message."""
        try:
            text = ast.unparse(node)
        except Exception:  # nodes that were made here may lack what it wants; the message goes on
            return "this"
        return text if len(text) < 40 else text[:37] + "..."

    def refuse_none(self, v: Value, node: ast.AST, what: str = "") -> None:
        """Raise: an optional is used without a test."""
        if what:
            raise self.error(node, f"{what} may be None here", "test it before: if ... is None: return ...")
        if isinstance(node, ast.Call):
            given = [*node.args, *(word.value for word in node.keywords)]
            names = [arg for arg in given if isinstance(arg, ast.Name)]
            bound = {arg: self.env.get(self.scope.prefix + arg.id) for arg in names}
            optional = [arg for arg, value in bound.items() if value is not None and value.type.nullable]
            inner = [arg for arg in given if isinstance(arg, ast.Subscript)]
            if optional or inner:
                arg = (optional or inner)[0]
                raise self.error(
                    arg,
                    f"{self.text_of(arg)} may be None here",
                    f"test it first: if {self.text_of(arg)} is None: return ..."
                    if optional
                    else f"give it a name, and test that: x = {self.text_of(arg)}; if x is None: return ...",
                )
        part = self.blamed(v, node)
        if isinstance(node, ast.stmt):
            node = node.target if isinstance(node, (ast.AugAssign, ast.AnnAssign)) else part
        name = self.text_of(part)
        hint = f"test it first: if {name} is None: return ..."
        if not isinstance(part, ast.Name):
            hint = f"give it a name, and test that: x = {name}; if x is None: return ..."
        raise self.error(node, f"{name} may be None here", hint)

    # --- values -----------------------------------------------------------------------------------

    def int(self, ir: str, lo: builtins.int, hi: builtins.int) -> Value:
        return Value(INT, ir, lo, hi)

    def int_const(self, number: builtins.int) -> Value:
        return arith.constant(number)

    def bool_const(self, truth: bool) -> Value:
        return Value(BOOL, "true" if truth else "false", int(truth), int(truth))

    def boolean(self, ir: str) -> Value:
        return Value(BOOL, ir, 0, 1)

    def text(self, data: bytes) -> Value:
        return Value(TEXT, obj=data)

    def none(self) -> Value:
        return Value(NONE)

    def tuple(self, items: list[Value]) -> Value:
        return Value(TUPLE, obj=items)

    @staticmethod
    def signed(number: builtins.int) -> str:
        """A number as an i64 operand."""
        return arith.literal(number)

    def as_int(self, v: Value, node: ast.AST, why: str = "") -> Value:
        """The number that ``v`` is; refuses what is none."""
        kind = v.type
        if isinstance(kind, IntType):
            return v
        if isinstance(kind, BoolType):
            if v.const is not None:
                return arith.constant(v.const)
            return Value(INT, self.em.op(f"zext i1 {v.ir} to i64"), 0, 1)
        if isinstance(kind, PtrType) and kind.of.scalar:
            if kind.nullable:
                self.refuse_none(v, node)
            return self.as_int(kind.of.load(self, v.ir, node), node, why)
        if kind.nullable:
            self.refuse_none(v, node)
        found = kind.number(self, v, node)
        if found is not None:
            return found
        raise self.error(
            self.blamed(v, node),
            f"{kind.name} is no integer" + (f" ({why})" if why else ""),
            _hint_of_no_number(v),
        )

    def is_number(self, v: Value) -> bool:
        """Whether `as_int` would take it (after a test for None)."""
        return isinstance(v.type, (IntType, BoolType)) or (isinstance(v.type, PtrType) and v.type.of.scalar)

    def truth(self, v: Value, node: ast.AST) -> Value:
        """The truth value of ``v``, a BOOL."""
        kind = v.type
        if isinstance(kind, BoolType):
            return v
        if isinstance(kind, IntType):
            return (
                arith.compare(self, ast.NotEq(), v, arith.constant(0), node)
                if not arith.signless(v)
                else (self.boolean(self.em.op(f"icmp ne i64 {v.ir}, 0")))
            )
        if v.type is NONE:
            return self.bool_const(False)
        return kind.truth(self, v, node)

    def bool_not(self, v: Value) -> Value:
        if v.const is not None:
            return self.bool_const(not v.const)
        return self.boolean(self.em.op(f"xor i1 {v.ir}, true"))

    def bool_and(self, a: Value, b: Value) -> Value:
        """Both are evaluated already."""
        if a.const is not None:
            return b if a.const else a
        if b.const is not None:
            return a if b.const else b
        return self.boolean(self.em.op(f"and i1 {a.ir}, {b.ir}"))

    def bool_or(self, a: Value, b: Value) -> Value:
        if a.const is not None:
            return a if a.const else b
        if b.const is not None:
            return b if b.const else a
        return self.boolean(self.em.op(f"or i1 {a.ir}, {b.ir}"))

    def binary(self, op: ast.operator, a: Value, b: Value, node: ast.AST) -> Value:
        """``a op b``."""
        from skep.lang import exprs

        return exprs.operate(self, op, a, b, node)

    def compare(self, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        """``a op b`` as a BOOL."""
        from skep.lang import tests

        return tests.compare_values(self, op, a, b, node)

    def expr(self, node: ast.expr) -> Value:
        """The value of an expression."""
        from skep.lang import exprs

        return exprs.expr(self, node)

    # --- variables --------------------------------------------------------------------------------

    def bind(self, key: str, value: Value, node: ast.AST) -> Value:
        """Give the variable ``key`` (prefix and name) a value."""
        value = value.type.materialise(self, value, node)
        if key in self.unsteady:
            value = forget.hidden(self, key, value)
        paths.renamed(self, key)
        old = self.env.get(key)
        if old is not None and (old.ref is not None or old.type is TUPLE):
            references.overwritten(self, key, old, value, node)
        made = self._bound(key, value, node)
        self.env[key] = made
        self.lost.pop(key, None)
        return made

    def _bound(self, key: str, value: Value, node: ast.AST) -> Value:
        made = self._kept(key, value, node)
        if value.ref is not None:
            if made is value:
                made = Value(value.type, value.ir, value.lo, value.hi, obj=value.obj, place=value.place)
            made.ref = value.ref
        made.origin = value.origin
        return made

    def _kept(self, key: str, value: Value, node: ast.AST) -> Value:
        kind = value.type
        if kind is TUPLE:
            items = [self._bound(f"{key}.{i}", item, node) for i, item in enumerate(value.obj)]
            return Value(TUPLE, obj=items)
        if kind is NONE:
            place = self.em.slot("ptr", key)
            self.em.do(f"store ptr null, ptr {place}")
            self.em.do(f"store i1 false, ptr {self.em.slot('i1', key + '?')}")
            return Value(NONE, place=place)
        if not kind.llvm:
            return kind.bound(self, key, value, node)
        place = self.em.slot(kind.llvm, key)
        self.em.do(f"store {kind.llvm} {value.ir}, ptr {place}")
        flag = value.obj
        if kind is BOOL:  # it may meet a number on another path: True is 1
            number = self.as_int(value, node)
            self.em.do(f"store i64 {number.ir}, ptr {self.em.slot('i64', key)}")
            flag = self.em.slot("i64", key)
        if kind is INT:
            flag = None
            if key.startswith("$") or key[len(self.scope.prefix) :] in self.scope.noneable:
                flag = self.em.slot("i1", key + "?")
                self.em.do(f"store i1 true, ptr {flag}")
        return Value(kind, "", value.lo, value.hi, obj=flag, place=place)

    def read(self, bound: Value) -> Value:
        """The present value of a variable's binding."""
        kind = bound.type
        if kind is TUPLE:
            return Value(TUPLE, obj=[self.read(item) for item in bound.obj])
        if kind is NONE:
            return Value(NONE)
        if not kind.llvm or not bound.place:
            made = kind.unbound(self, bound)
            made.ref = bound.ref
            return made
        if bound.const is not None:
            return self.int_const(bound.const) if kind is INT else self.bool_const(bool(bound.const))
        got = self.em.op(f"load {kind.llvm}, ptr {bound.place}")
        made = Value(kind, got, bound.lo, bound.hi, obj=bound.obj, place=bound.place, ref=bound.ref)
        made.origin = bound.origin
        return made

    def drop_scope(self, prefix: str) -> None:
        """Forget the variables of an inlined function that has returned."""
        for key in [key for key in self.env if key.startswith(prefix)]:
            del self.env[key]

    def barrier(self, bound: Value) -> str:
        """The value of an integer variable in a register that LLVM cannot see through, stored back.

        A comparison of it then tells the verifier about the register that is used afterwards.
        """
        got = self.em.op(f"load i64, ptr {bound.place}")
        got = self.opaque(got)
        self.em.do(f"store i64 {got}, ptr {bound.place}")
        return got

    def opaque(self, operand: str) -> str:
        """The same number, of which LLVM knows nothing."""
        return self.em.op(f'call i64 asm "", "=r,0"(i64 {operand})')

    # --- memory -----------------------------------------------------------------------------------

    def offset(self, address: str, by: builtins.int) -> str:
        """``address`` plus a constant."""
        return self.em.op(f"getelementptr inbounds i8, ptr {address}, i64 {by}") if by else address

    def within_context(self, base: str, by: builtins.int) -> str:
        """An address in a context, or in what it points to.

        The verifier wants constant offsets there, so LLVM must not make one access of two.
        """
        self.unit.declare("declare ptr @llvm.preserve.static.offset(ptr)")
        return self.offset(self.em.op(f"call ptr @llvm.preserve.static.offset(ptr {base})"), by)

    def element(self, base: Value, index: Value, size: builtins.int) -> str:
        """The address of an element ``size`` bytes large in ``base``; the index is checked already."""
        address = base.ir
        if index.const is not None:
            return self.offset(address, index.const * size)
        made = remainders.bounded(self, index)
        if made is index and isinstance(base.type, PtrType) and base.type.space == "stack":
            # LLVM knows how the stack is aligned, and would take "or" for addition.
            made = Value(INT, self.opaque(index.ir), index.lo, index.hi)
        index = made
        at = index.ir if size == 1 else self.em.op(f"mul i64 {index.ir}, {size}")
        return self.em.op(f"getelementptr inbounds i8, ptr {address}, i64 {at}")

    def index(self, index: Value, count: builtins.int, what: str, node: ast.AST) -> Value:
        """``index`` as one within ``count`` elements; refuses what may be outside."""
        number = self.as_int(index, node, "an index")
        if number.const is not None and -count <= number.const < 0:
            return self.int_const(number.const + count)
        if number.lo < 0 or number.hi >= count:
            if number.const is not None:
                raise self.error(
                    node,
                    f"{what} has no element {number.const}: there are 0 to {count - 1}",
                    "make it larger, or use another index",
                )
            mask = count & count - 1 == 0
            worst = number.lo if number.lo < 0 else number.hi
            raise self.error(
                node,
                f"the index may be {worst}, {what} has elements 0 to {count - 1}",
                self.how_to_bound(getattr(node, "slice", node), f"< {count}")
                + (f", or mask it: i & {count - 1}" if mask else ""),
            )
        return number

    def how_to_bound(self, node: ast.AST | None, bound: str) -> str:
        """A hint for a number that is too large: it must be tested as a variable, for memory may change."""
        if node is None or isinstance(node, ast.Name) or not isinstance(node, (ast.Attribute, ast.Subscript)):
            return f"test it first: if i {bound}"
        return f"keep it in a variable and test that: i = {self.text_of(node)}; if i {bound}"

    def load(
        self, of: Storage, address: str, base: Value, node: ast.AST, *, align: builtins.int = 0
    ) -> Value:
        """What lies at ``address``, a part of what ``base`` refers to."""
        kind = base.type
        if of.scalar or not isinstance(kind, PtrType):
            return of.load(self, address, node, align=align)
        part = PtrType(of, kind.space, writable=kind.writable)
        part.packed = kind.packed
        return Value(part, address, obj=PART)

    def swap(self, operand: str, bits: builtins.int) -> str:
        """Bytes of an i16, i32 or i64 reversed."""
        if bits == 8:
            return operand
        self.unit.declare(f"declare i{bits} @llvm.bswap.i{bits}(i{bits})")
        return self.em.op(f"call i{bits} @llvm.bswap.i{bits}(i{bits} {operand})")

    def copy(self, to: str, source: str, size: builtins.int, align: builtins.int = 1) -> None:
        """Copy constant-size memory."""
        self.unit.declare("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1 immarg)")
        for at in range(0, size, _PIECE):
            part = min(_PIECE, size - at)
            self.em.do(
                f"call void @llvm.memcpy.p0.p0.i64(ptr align {align} {self.offset(to, at)}, "
                f"ptr align {align} {self.offset(source, at)}, i64 {part}, i1 false)"
            )

    def zero(self, to: str, size: builtins.int, align: builtins.int = 1) -> None:
        """Zero constant-size memory."""
        if to == self.zeroed:
            return
        if size > _PIECE:
            self._zero_much(to, size)
            return
        self.unit.declare("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)")
        # What LLVM would merge to more than a piece it would call a function for, which there is not.
        volatile = "true" if size > _MERGED else "false"
        self.em.do(f"call void @llvm.memset.p0.i64(ptr align {align} {to}, i8 0, i64 {size}, i1 {volatile})")

    def _zero_much(self, to: str, size: builtins.int) -> None:
        if self.section is not None and self.section.type in _READERS and not self.locked:
            # What cannot be read is zeros: the kernel's own memset, in one call.
            self.helper(113, [f"ptr {to}", f"i64 {size}", "ptr null"])
            return
        turn, done = self.label("zero"), self.label("zeroed")
        slot = self.em.slot("i64", ("zero", self.fresh()))
        self.em.do(f"store i64 0, ptr {slot}")
        self.em.place(turn)
        at = self.em.op(f"load i64, ptr {slot}")
        self.em.do(
            f"store volatile i64 0, ptr {self.em.op(f'getelementptr i8, ptr {to}, i64 {at}')}, align 1"
        )
        after = self.em.op(f"add nuw nsw i64 {at}, 8")
        self.em.do(f"store i64 {after}, ptr {slot}")
        self.em.cond(self.em.op(f"icmp ult i64 {after}, {size - size % 8}"), turn, done)
        self.em.place(done)
        for i in range(size - size % 8, size):
            self.em.do(f"store i8 0, ptr {self.offset(to, i)}, align 1")

    def buffer(self, size: builtins.int, align: builtins.int = 8, key: object = None) -> str:
        """A stack buffer; refuses none here, the sum is checked when the function is complete."""
        return self.em.alloca(max(1, size), align, key)

    def has_room(self, size: builtins.int) -> bool:
        """Whether the stack of a program is large enough for that."""
        return size <= _STACK

    def fits(self, size: builtins.int, node: ast.AST) -> None:
        """Refuse what is too large for the stack of a program."""
        if not self.has_room(size):
            raise self.error(
                node,
                f"{size} bytes do not fit the stack of a program, which has {_STACK}",
                "keep it in a map: scratch = bpf.PerCpuArray(T, 1); x = scratch[0]",
            )

    def sized(self, whole: builtins.int, size: Value | None, node: ast.AST) -> str:
        """How much of a buffer of ``whole`` bytes is meant: ``size``, which must fit, or all of it."""
        if size is None:
            return str(whole)
        number = self.as_int(size, node, "how many bytes")
        if number.lo < 0 or number.hi > whole:
            worst = number.hi if number.hi > whole else number.lo
            raise self.error(
                node, f"size may be {worst}, the buffer has {whole} bytes", f"test it first: if n <= {whole}"
            )
        if number.const is not None:
            return number.ir
        made = remainders.bounded(self, number)
        return made.ir if made is not number else self.opaque(number.ir)

    def spill(self, value: Value, of: Storage, node: ast.AST) -> str:
        """The address of ``value`` laid out as ``of``, with its padding zero (a map's key or value)."""
        kind = value.type
        if (
            isinstance(kind, PtrType)
            and kind.of.same(of)
            and not of.scalar
            and kind.space in ("stack", "map", "percpu", "global", "ring")
        ):
            if kind.nullable:
                self.refuse_none(value, node)
            return value.ir
        self.fits(of.size, node)
        address = self.em.temporary(max(1, of.size), 8 if of.size >= 8 else 4)
        if not of.scalar:
            self.zero(address, of.size, 8)
        of.store(self, address, value, node)
        return address

    def text_ptr(self, data: bytes, *, terminated: bool = True) -> str:
        """The address of constant bytes, with a zero byte after them when ``terminated``."""
        return self.unit.constant(data + b"\0" if terminated else data)

    def equal_bytes(self, address: str, data: bytes, *, packed: bool = False) -> Value:
        """Whether memory starts with constant bytes; ``packed``: see `equal_memory`."""
        same = self.bool_const(True)
        at = 0
        for size in (8, 4, 2, 1):
            while len(data) - at >= size:
                # LLVM finds the real alignment where it can; where it cannot, it loads bytes.
                align = size if packed else 1
                got = self.em.op(f"load i{size * 8}, ptr {self.offset(address, at)}, align {align}")
                want = int.from_bytes(data[at : at + size], "little")
                want -= (1 << size * 8) if want >> size * 8 - 1 else 0
                same = self.bool_and(same, self.boolean(self.em.op(f"icmp eq i{size * 8} {got}, {want}")))
                at += size
        return same

    def equal_memory(
        self, a: str, b: str, size: builtins.int, *, until_zero: bool, packed: Iterable[str] = ()
    ) -> Value:
        """Whether two pieces of memory are equal (texts: both are zero from their end on).

        ``packed`` are those in a packet, which is read in words wherever it begins, as headers' fields are:
        kernels whose processors cannot refuse both.
        """
        same = self.bool_const(True)
        at = 0
        while at < size:
            step = next(s for s in (8, 4, 2, 1) if size - at >= s)
            parts = []
            for p in (a, b):
                align = step if p in packed else 1
                parts.append(self.em.op(f"load i{step * 8}, ptr {self.offset(p, at)}, align {align}"))
            same = self.bool_and(
                same, self.boolean(self.em.op(f"icmp eq i{step * 8} {parts[0]}, {parts[1]}"))
            )
            at += step
        return same

    def text_length(self, address: str, size: builtins.int) -> Value:
        """Bytes before the first zero byte, at most ``size``."""
        em = self.em
        counter = em.slot("i64", ("length", self.fresh()))
        em.do(f"store i64 0, ptr {counter}")
        head, look, onward, done = (self.label(x) for x in ("len", "look", "onward", "len_done"))
        em.place(head)
        at = em.op(f"load i64, ptr {counter}")
        em.cond(em.op(f"icmp ult i64 {at}, {size}"), look, done)
        em.place(look)
        byte = em.op(f"load i8, ptr {em.op(f'getelementptr inbounds i8, ptr {address}, i64 {at}')}, align 1")
        em.cond(em.op(f"icmp eq i8 {byte}, 0"), done, onward)
        em.place(onward)
        em.do(f"store i64 {em.op(f'add i64 {at}, 1')}, ptr {counter}")
        em.br(head)
        em.place(done)
        length = em.op(f"load i64, ptr {counter}")
        if self.unit.target == "bpf" and size >= _LONG:  # the verifier came here with each length
            length = forget.unknown(self, length)
            self.abort_unless(em.op(f"icmp ule i64 {length}, {size}"))
        return Value(INT, length, 0, size)

    # --- calls ------------------------------------------------------------------------------------

    def helper(self, name: builtins.int | str, args: Iterable[str], ret: str = "i64") -> str:
        """Call a kernel helper by number or name; ``args`` are operands with their IR types."""
        number = name if isinstance(name, builtins.int) else self.unit.helper_number(name)
        if self.program is not None and self.unit.license_text != "GPL":
            from skep.lang.helpers import licensed

            licensed(self, number, self.node)
        if number in _OF_SOME:
            from skep.lang.helpers import check
            from skep.uapi.helpers import helpers

            check(self, number, helpers()[number].name, self.node)
        return self.em.op(f"call {ret} inttoptr (i64 {number} to ptr)({', '.join(args)})")

    @property
    def locked(self) -> bool:
        """Whether a lock is held here, or may be."""
        return self.under_lock or any(
            name.startswith("%held lock ") and value.lo in (held.HELD, held.MAYBE, held.SPLIT)
            for name, value in self.env.items()
        )

    def refuse_under_lock(self, text: str) -> None:
        """Refuse what calls a helper while a lock is held."""
        if "inttoptr (i64 94 " not in text and self.locked:
            raise locks.refuse(self, self.node)

    def object_attr(self, v: Value, name: str, node: ast.AST) -> Value:
        from skep.lang import objects

        return objects.attribute(self, v.obj, name, node)

    def object_call(self, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        from skep.lang import calls

        return calls.call_object(self, v.obj, args, kwargs, node)

    def abort_unless(self, test: str) -> None:
        """Leave the whole program with 0 where ``test`` (an i1) is false, which cannot happen."""
        good, bad = self.label("ok"), self.label("no")
        self.em.cond(test, good, bad)
        self.em.place(bad)
        env, lost = self.env, dict(self.lost)
        self.env = dict(env)
        for scope in reversed(self.scopes):
            for close in reversed(scope.withs):
                close()
        references.give_all_back(self)
        self.env, self.lost = env, lost
        result = self.scopes[0].result
        self.em.ret("void" if result == "void" else "ptr null" if result == "ptr" else f"{result} 0")
        self.em.place(good)

    def label(self, hint: str = "b") -> str:
        return self.em.label(hint)

    def depth(self) -> builtins.int:
        """How many loops there are around this place."""
        return sum(len(scope.loops) for scope in self.scopes)

    def fresh(self) -> builtins.int:
        """A number for what must not be confused with anything else of this function."""
        self._inlined += 1
        return self._inlined


def full(kind: Type) -> tuple[int, int]:
    """The interval of an integer of which nothing is known."""
    return (0, 1) if kind is BOOL else (0, U64)


def annotation_of(fn: Any, name: str) -> Any:
    """The annotation of a parameter (or "return") as it was written, None without one."""
    return fn.__annotations__.get(name)
