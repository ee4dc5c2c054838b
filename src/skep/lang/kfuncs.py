"""kfuncs: functions of the kernel's that programs may call, found in its BTF."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from skep.bpf import types as records
from skep.bpf.types import u64
from skep.btf import types as t
from skep.lang import callbacks, locks, references
from skep.lang.aggregates import TextStorage
from skep.lang.contexts import ContextRef, section_of
from skep.lang.contexts_args import RawContext
from skep.lang.contexts_fields import OF_TYPE
from skep.lang.core_refs import KernelRef, core_of
from skep.lang.helpers_read import address
from skep.lang.helpers_structs import number_at
from skep.lang.iterators import Iteration, IterationType
from skep.lang.kernel_types import KernelType, KFunc, KInt, KPtr, KStruct, types_of
from skep.lang.layout import IntStorage
from skep.lang.maps import MapType
from skep.lang.values import BUILTIN, INT, TEXT, PtrType, Value
from skep.uapi.enums import ProgType
from skep.verifier.facts import kfuncs as kf

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_CONTEXTS: Final = frozenset(OF_TYPE.values()) - {"bpf_sock", "pt_regs"}
#: what may answer None besides those that the kernel flags so (KF_RET_NULL), or that no asked kernel has
_RETURN_NULL: Final = frozenset(
    [
        "bpf_arena_alloc_pages",
        "bpf_get_kmem_cache",
        "bpf_get_mem_cgroup",
        "bpf_get_task_exe_file",
        "bpf_iter_scx_dsq_next",
        "scx_bpf_cpu_curr",
        "scx_bpf_task_cgroup",
    ]
)


#: arguments that the verifier fills in
_FILLED: Final = frozenset(("meta__ign", "aux__ign"))
#: the kernel's structs that lie in those of programs
_IN_OBJECTS: Final = {
    one.name: one for one in (records.SpinLock, records.ResSpinLock, records.ListNode, records.RbNode)
} | {head.name: records.KernelStruct(head.name, 16, 8) for head in (records.ListHead, records.RbRoot)}
_ALLOCATED: Final = ("bpf_obj_", "bpf_list_", "bpf_rbtree_")


def lookup(c: Walker, name: str, node: ast.AST) -> Value | None:
    """The kfunc ``name`` (or ``bpf_name``); None when the kernel has none."""
    types = types_of(c, node)
    if name.startswith("iter_") and (found := iteration(c, name, node)) is not None:
        return found
    for full in (name, f"bpf_{name}", f"bpf_{name}_impl"):  # C's macros leave _impl out
        if types.present(full) and is_kfunc(types.btf, full):
            signature = types.function(full)
            if signature is not None:
                return Value(BUILTIN, obj=_caller(full, *signature))
    return None


def iteration(c: Walker, name: str, node: ast.AST) -> Value | None:
    """``bpf.iter_NAME(...)``, for loops over what the kernel counts; None when no iterator is called so."""
    base = f"bpf_{name}"
    if f"{base}_new" not in kf.iterators():
        return None
    types = types_of(c, node)
    parts = [types.function(f"{base}_{end}") for end in ("new", "next", "destroy")]
    new, next_, destroy = parts
    if new is None or next_ is None or destroy is None:
        raise c.error(node, f"this kernel has no {base}", "its BTF is what programs are compiled with")

    def make(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        check(c, f"{base}_new", node)
        kind = new[0][0][1]
        size = kind.to.size if isinstance(kind, KPtr) and isinstance(kind.to, KStruct) else 8
        room = c.buffer(size, 8, ("iter", c.scope.prefix, id(node)))
        it = Value(PtrType(TextStorage(size, False), "stack"), room)

        def next_one() -> str:
            declare(c, f"{base}_next", *next_)
            return c.em.op(f"call ptr @{base}_next(ptr {room})")

        def element(found: str) -> Value:
            of = next_[1]
            assert isinstance(of, KPtr)
            if isinstance(of.to, KInt):
                return number_at(c, found, of.to.size, of.to.signed)
            return Value(KernelRef(of.to, "btf"), found)

        def end() -> None:
            declare(c, f"{base}_destroy", *destroy)
            c.em.do(f"call void @{base}_destroy(ptr {room})")

        def iteration(loop: ast.For) -> Iteration:
            return Iteration(
                lambda: _drop(_call(c, f"{base}_new", *new, [it, *args], kwargs, node, looping=True)),
                next_one,
                element,
                end,
            )

        return Value(IterationType(), obj=iteration)

    return Value(BUILTIN, obj=make)


def _drop(_: Value) -> None:
    """Nothing is to be done with what a call gives."""


def is_kfunc(btf: object, name: str) -> bool:
    """Whether programs may call the kernel's ``name``: a declaration tag says so, or our table.

    Kernels before 6.10, and those built with an older pahole, have no tags; some of 7.x lack a few.
    """
    from skep.btf.read import Btf

    assert isinstance(btf, Btf)
    id = btf.find(name, t.FUNC)
    if id is None or kf.known(name):
        return id is not None
    # The tag follows its function in the kernel's BTF, but nothing says so: look at all tags of that name.
    return any(
        isinstance(tag := btf[tag_id], t.DeclTag) and tag.type == id and tag.component == -1
        for tag_id in btf.ids_named("bpf_kfunc")
    )


def _caller(name: str, params: list[tuple[str, KernelType]], result: KernelType) -> Callable[..., Value]:
    def call(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return _call(c, name, params, result, args, kwargs, node)

    return call


def _call(
    c: Walker,
    name: str,
    params: list[tuple[str, KernelType]],
    result: KernelType,
    args: list[Value],
    kwargs: dict[str, Value],
    node: ast.AST,
    *,
    looping: bool = False,
) -> Value:
    if name in locks.PAIRS or name in locks.ENDS:
        return locks.by_name(c, name, args, kwargs, node)
    from skep.lang import kfuncs_typed

    if name.startswith("bpf_percpu_obj_"):
        from skep.lang import percpu

        return percpu.by_name(c, name, args, kwargs, node)
    if name.startswith(_ALLOCATED):
        from skep.lang import graphs

        return graphs.by_name(c, name, args, kwargs, node)
    check(c, name, node)
    if name in kfuncs_typed.FUNCTIONS:
        return kfuncs_typed.FUNCTIONS[name](c, args, kwargs, node)
    if kf.flags(name) & kf.ITER and not looping:
        short = name.removeprefix("bpf_").rpartition("_")[0]
        raise c.error(node, f"{references.shown(name)}() is what a loop calls", f"for x in bpf.{short}(...):")
    if name in references.SECTIONS or name in references.ENDS:
        return _section(c, name, node)
    given, named = list(args), dict(kwargs)
    pointers: list[Value] = []
    operands: list[str] = []
    outputs: list[tuple[KernelType, str]] = []
    size: str = ""
    for param, kind in params:
        if param.endswith("__prog"):
            operands.append("ptr null")
            continue
        if param.endswith(("__sz", "__szk")) and size:
            operands.append(size)
            size = ""
            continue
        if _is_context(kind) and given and _is_packet(given[0]):
            operands.append(f"ptr {address(c, given.pop(0), node)}")
            continue
        if _is_context(kind) and not (given and isinstance(given[0].type, (ContextRef, RawContext))):
            if not c.ctx:
                raise c.error(
                    node,
                    f"{references.shown(name)}() needs the context, which only a program has",
                    "call it in the program, or in a function that is inlined there",
                )
            operands.append(f"ptr {c.ctx}")
            continue
        value = given.pop(0) if given else named.pop(param, named.pop(param.partition("__")[0], None))
        if value is None and param in _FILLED:
            operands.append("ptr null")  # what the verifier fills in
            continue
        if value is None and _is_number(kind):
            room = c.buffer(8, 8)
            c.zero(room, 8, 8)
            operands.append(f"ptr {room}")
            outputs.append((kind, room))
            continue
        if value is None:
            if param.endswith(("__opt", "__nullable")):
                operands.append("ptr null")
                size = "i32 0"
                continue
            if isinstance(kind, KInt) and "flags" in param:
                operands.append(f"i{8 * kind.size} 0")
                continue
            raise c.error(
                node, f"{references.shown(name)}(): {param!r} is missing", "arguments are those of C"
            )
        operand, size = _operand(c, name, param, kind, value, node)
        operands.append(operand)
        if isinstance(value.type, PtrType) and value.type.of.name == "bpf_dynptr":
            (references.ready if param.endswith("__uninit") else references.used)(c, value, node)
        if isinstance(value.type, KernelRef):
            pointers.append(value)
    if given or named:
        words = ", ".join(
            param.partition("__")[0]
            for param, kind in params
            if not (_is_context(kind) or param.endswith(("__sz", "__szk", "__prog")) or param in _FILLED)
        )
        hint = f"it takes ({words}); a buffer and its length are one value"
        raise c.error(node, f"{references.shown(name)}() takes fewer arguments", hint)
    ret = _ir(result)
    declare(c, name, params, result)
    if ret == "void":
        c.em.do(f"call void @{name}({', '.join(operands)})")
        made = c.none()
    else:
        made = _result(c, name, result, c.em.op(f"call {ret} @{name}({', '.join(operands)})"))
    flags = kf.flags(name)
    if flags & kf.RELEASE and pointers:
        references.release(c, pointers[0], node, f"{references.shown(name)}()")
    if flags & kf.ACQUIRE:
        made = acquired(c, references.shown(name), result, made, node)
    if not outputs:
        return made
    numbers = []
    for kind, room in outputs:
        assert isinstance(kind, KPtr) and isinstance(kind.to, KInt)
        numbers.append(number_at(c, room, kind.to.size, kind.to.signed))
    return c.tuple([made, *numbers])


def _section(c: Walker, name: str, node: ast.AST) -> Value:
    """A section of the program begins or ends."""
    di = c.unit.di
    ends = references.SECTIONS[name][0] if name in references.SECTIONS else name
    if ends == "bpf_local_irq_restore":
        flags = [("flags__irq_flag", di.pointer(di.integer(u64)))]
        c.unit.kfunc("void", "bpf_local_irq_save", "null", flags)
        c.unit.kfunc("void", "bpf_local_irq_restore", "null", flags)
        if name == ends:
            raise c.error(node, "interrupts come back where the block ends", "with bpf.local_irq_save(): ...")
        operand = f"ptr {c.buffer(8, 8, ('irq', c.scope.prefix, id(node)))}"
    else:
        operand = ""
        c.unit.kfunc("void", name, "null", [])
        c.unit.kfunc("void", ends, "null", [])
    if name == ends:
        references.end(c, name, node)
        c.em.do(f"call void @{name}()")
        return c.none()

    def give_back(c: Walker, _: str) -> None:
        c.em.do(f"call void @{ends}({operand})")

    key = references.begin(c, name, node, give_back)
    c.em.do(f"call void @{name}({operand})")
    return Value(references.SectionType(), obj=key)


def acquired(c: Walker, call: str, result: KernelType, made: Value, node: ast.AST) -> Value:
    """What ``call`` acquired, with the kfunc that takes it back."""
    found = _releaser(c, result, node)
    if found is None and (other := _releaser(c, result, node, turning=True)) is not None:
        return references.acquire(c, made, node, call, f"{references.shown(other[0])}(x)", None)
    if found is None:
        raise c.error(
            node,
            f"{call}() acquires a {result.name}, and no function of this kernel takes it back",
            "it cannot be used on this kernel",
        )
    release, params, gives = found

    def give_back(c: Walker, operand: str) -> None:
        declare(c, release, params, gives)
        rest = "".join(", ptr null" for _ in params[1:])
        c.em.do(f"call {_ir(gives)} @{release}(ptr {operand}{rest})")

    return references.acquire(
        c,
        made,
        node,
        call,
        f"{references.shown(release)}(x)",
        give_back,
        form=f"with bpf.releasing({call}(...)) as x:",
    )


def _releaser(
    c: Walker, kind: KernelType, node: ast.AST, *, turning: bool = False
) -> tuple[str, list[tuple[str, KernelType]], KernelType] | None:
    """The function that the kernel flags as taking back a pointer of this type, and its signature.

    ``turning``: one that gives something else for it, which is held then.
    """
    if not isinstance(kind, KPtr) or not isinstance(kind.to, KStruct):
        return None
    types = types_of(c, node)
    for name in kf.releasing():
        if not types.present(name) or bool(kf.flags(name) & kf.ACQUIRE) != turning:
            continue
        found = types.function(name)
        if found is None or not found[0]:
            continue
        first = found[0][0][1]
        if isinstance(first, KPtr) and isinstance(first.to, KStruct) and first.to.local == kind.to.local:
            return name, *found
    return None


def _is_number(kind: KernelType) -> bool:
    """A pointer to a number: where a kfunc leaves one, unless the caller says what is there."""
    to = kind.to if isinstance(kind, KPtr) else None
    return isinstance(to, KInt) and not to.char and (to.size > 1 or to.boolean)


def _is_packet(value: Value) -> bool:
    """The kernel's own packet, as netfilter programs and tracing ones have it in place of a context."""
    kind = value.type
    return (
        isinstance(kind, KernelRef)
        and kind.mode == "btf"
        and isinstance(kind.kind, KStruct)
        and kind.kind.local == "sk_buff"
    )


def _is_context(kind: KernelType) -> bool:
    """A pointer to a context as programs see it."""
    return isinstance(kind, KPtr) and isinstance(kind.to, KStruct) and kind.to.local in _CONTEXTS


def _operand(
    c: Walker, name: str, param: str, kind: KernelType, value: Value, node: ast.AST
) -> tuple[str, str]:
    """(operand, length of the memory it points to as an operand)."""
    if isinstance(kind, KInt):
        bits = 8 * kind.size
        number = c.as_int(value, node, f"argument {param!r}")
        if bits == 64 or number.const is not None:
            return f"i{bits} {number.ir}", ""
        return f"i{bits} {c.em.op(f'trunc i64 {number.ir} to i{bits}')}", ""
    if value.type.name == "None":
        return "ptr null", "i32 0"
    if isinstance(kind, KPtr) and isinstance(kind.to, KFunc):
        called = name.removeprefix("bpf_").removesuffix("_impl")
        return f"ptr {callbacks.callback(c, value, node, called)}", ""
    if isinstance(value.type, MapType):
        return f"ptr {value.ir}", ""
    if (c.is_number(value) or value.type is TEXT) and isinstance(kind, KPtr) and isinstance(kind.to, KStruct):
        raise c.error(
            c.blamed(value, node),
            f"{references.shown(name)}(): {param!r} is a {kind.to.name} *, not {value.type.name}",
            f"give a {kind.to.name} *: an argument of the program, or what a kfunc gives",
        )
    if value.type is TEXT and not param.endswith(("__str", "__ign")):
        room = c.buffer(len(value.obj) + 1, 8)  # the verifier lets no function have what is read-only
        c.copy(room, c.unit.constant(value.obj + bytes(1)), len(value.obj) + 1)
        return f"ptr {room}", f"i32 {len(value.obj)}"
    if value.type is TEXT:
        return f"ptr {c.unit.constant(value.obj + bytes(1))}", f"i32 {len(value.obj)}"
    if isinstance(value.type, PtrType):
        if value.type.nullable:
            c.refuse_none(value, node)
        return f"ptr {value.ir}", f"i32 {value.type.of.size}"
    if isinstance(value.type, KernelRef):
        to = kind.to if isinstance(kind, KPtr) else None
        have = value.type.kind
        exact = bool(kf.flags(name) & kf.RELEASE)
        if isinstance(to, KStruct) and isinstance(have, KStruct) and not _fits(c, have, to.local, exact):
            raise c.error(
                node,
                f"{references.shown(name)}(): {param!r} is a {to.name} *, not a {have.name} *",
                f"give a {to.name} *, or call what takes a {have.name} *",
            )
        if value.type.mode != "btf":
            raise c.error(
                node,
                f"{references.shown(name)}(): {param!r} is a pointer that the verifier follows",
                "take it from an argument of the program, or from a kfunc that gives one",
            )
        return f"ptr {address(c, value, node)}", ""
    return f"ptr {address(c, value, node)}", ""


def _fits(c: Walker, have: KStruct, want: str, exact: bool) -> bool:
    """Whether a struct is the one that is wanted, or has it at its very beginning."""
    for _ in range(8):
        # A few of the kernel's own names look like flavours: nf_conn___init.
        own = have.local == want or not c.unit.types.present(have.local)
        if own and have.local.split("___")[0] == want.split("___")[0]:
            return True
        if exact:
            return False
        fields = [have.field(name) for name in have.names()[:1]]
        if not fields or fields[0] is None or not isinstance(fields[0].type, KStruct):
            return False
        have = fields[0].type
    return False


def _ir(kind: KernelType) -> str:
    if isinstance(kind, KPtr):
        return "ptr"
    if isinstance(kind, KInt):
        return "i1" if kind.boolean else f"i{8 * kind.size}"
    return "void"


def _describe(c: Walker, kind: KernelType) -> str:
    """The debug type of a parameter: pointers name their structs, for the kernel compares them."""
    core = core_of(c)
    if isinstance(kind, KPtr):
        to = kind.to
        if isinstance(to, KStruct):
            # The kernel takes the first struct of such a name to be it: there must be one only.
            one = _IN_OBJECTS.get(to.local)
            of = core.struct(to).node if one is None else c.unit.namespace.storage(one).describe(c.unit.di)
            return c.unit.di.pointer(of)
        if isinstance(to, KInt):
            return c.unit.di.pointer(core.describe(to))
        if isinstance(to, KFunc) and to.proto is not None:
            params, result = to.proto()
            types = ", ".join(_describe(c, one) for one in (result, *(kind for _, kind in params)))
            return c.unit.di.pointer(
                c.unit.di.node(f"!DISubroutineType(types: {c.unit.di.node(f'!{{{types}}}')})")
            )
        return c.unit.di.pointer("null")
    if isinstance(kind, KInt):
        return core.describe(kind)
    return "null"


def declare(c: Walker, name: str, params: list[tuple[str, KernelType]], result: KernelType) -> None:
    """Declare a kernel function in the object, with its prototype."""
    di = c.unit.di
    node = di.extern(name, _describe(c, result), [(p, _describe(c, kind)) for p, kind in params])
    kinds = ", ".join(_param_ir(kind) for _, kind in params)
    ret = "zeroext i1" if _ir(result) == "i1" else _ir(result)
    c.unit.declare(f'declare !dbg {node} {ret} @{name}({kinds}) section ".ksyms"')


def _param_ir(kind: KernelType) -> str:
    return "ptr" if isinstance(kind, KPtr) else f"i{8 * kind.size}"


def check(c: Walker, name: str, node: ast.AST, *, locked: bool = False) -> None:
    """Refuse a kernel function that programs of this type may not call; ``locked``: it may under a lock."""
    if c.program is None or not kf.known(name):
        return
    section = section_of(c, node)
    if kf.first(name, int(section.type)) is None:
        kind = section.type.name.lower()
        others = [
            f"{one.name.lower()} (Linux {since[0]}.{since[1]})"
            for one in ProgType
            if (since := kf.first(name, int(one))) is not None
        ]
        raise c.error(node, f"{kind} programs cannot call {name}", f"{', '.join(others)} programs can")
    if c.locked and not locked:
        raise locks.refuse(c, node)
    if kf.sleeps(name):
        references.awake(c, references.shown(name), node)
    if kf.flags(name) & kf.RCU_PROTECTED and section.sleepable:
        references.in_rcu(c, references.shown(name), node)
    if kf.sleeps(name) and not section.sleepable:
        raise c.error(
            node,
            f"{name} may sleep, and this program may not",
            f"@bpf.{section.prefix.rstrip('/+')}(..., sleepable=True) where the hook allows it",
        )


def _result(c: Walker, name: str, kind: KernelType, got: str) -> Value:
    if isinstance(kind, KPtr):
        nullable = name in _RETURN_NULL or bool(kf.flags(name) & kf.RET_NULL)
        if isinstance(kind.to, KInt) and kind.to.size > 1:  # memory that programs write (bpf_session_cookie)
            number = getattr(records, f"{'su'[not kind.to.signed]}{8 * kind.to.size}")
            return Value(PtrType(IntStorage(number), "mem", nullable=nullable), got)
        return Value(
            KernelRef(kind.to, "btf" if isinstance(kind.to, KStruct) else "kernel", nullable=nullable), got
        )
    assert isinstance(kind, KInt)
    if kind.boolean:
        return c.boolean(got)
    bits = 8 * kind.size
    if bits < 64:
        got = c.em.op(f"{'sext' if kind.signed else 'zext'} i{bits} {got} to i64")
    return Value(INT, got, *kind.bounds)
