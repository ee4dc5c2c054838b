"""Arguments of functions and tracepoints: of tracing programs, LSM, iterators, struct_ops.

Parameters are taken by position from functions and raw tracepoints, and by name from tracepoints, whose
records have names. Types come from the kernel's BTF; an annotation says it where BTF does not, or narrows it.
"""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING, Any, Final

from skep.bpf import types as b
from skep.bpf.programs import Hook
from skep.lang import given
from skep.lang.contexts import Param
from skep.lang.contexts_fields import NAMES
from skep.lang.core import EXISTS, TYPE_EXISTS
from skep.lang.core_refs import KernelRef, core_of, load, pointer
from skep.lang.kernel_types import (
    BtfStruct,
    DeclaredStruct,
    KArray,
    KernelType,
    KField,
    KInt,
    KPtr,
    KStruct,
    Types,
    types_of,
)
from skep.lang.values import INT, PtrType, Type, Value
from skep.obj.sections import Section
from skep.uapi.contexts import CONTEXTS
from skep.uapi.enums import AttachType, ProgType

if TYPE_CHECKING:
    from skep.bpf.programs import Program
    from skep.lang.walk import Walker

_BY_POSITION: Final = frozenset(
    (
        ProgType.TRACING,
        ProgType.LSM,
        ProgType.RAW_TRACEPOINT,
        ProgType.RAW_TRACEPOINT_WRITABLE,
        ProgType.STRUCT_OPS,
        ProgType.KPROBE,
    )
)
_CHAR: Final = KInt("char", 1, True, char=True)
_WORDS: Final = {"u8": (1, False), "u16": (2, False), "u32": (4, False), "u64": (8, False),
                 "s8": (1, True), "s16": (2, True), "s32": (4, True), "s64": (8, True)}  # fmt: skip


def arguments(c: Walker, section: Section, program: Program, params: list[Param]) -> list[Value]:
    """The values of the parameters of a program whose context is not a plain struct."""
    made: list[Value] = []
    if section.attach_type == AttachType.TRACE_ITER:
        return _iterator(c, section, params)
    if params and _is_raw(section, params[0]):
        made.append(registers(c) if section.type == ProgType.KPROBE else Value(RawContext(), c.ctx))
        params = params[1:]
    match section.type:
        case ProgType.TRACEPOINT:
            return made + _tracepoint(c, section, program, params)
        case ProgType.KPROBE:
            return made + _probe(c, section, params)
        case ProgType.SYSCALL:
            return made + _memory(c, params)
        case ProgType.NETFILTER:
            return made + _record(c, "bpf_nf_ctx", params)
        case ProgType.LIRC_MODE2:
            record = c.unit.storage(b.u32, c, params[0][2] if params else ast.Pass())
            return [Value(PtrType(record, "mem", writable=False), c.ctx) for _ in params]
        case ProgType.EXT:
            return made + [_by_annotation(c, p, c.ctx, "kernel") for p in params]
    return made + _function(c, section, program, params)


class RawContext(Type):
    """A context that is only passed on (to helpers, which take it by themselves)."""

    name = "a context"
    llvm = "ptr"


def _is_raw(section: Section, param: Param) -> bool:
    if param[1] == b.Named("Context") or (param[1] == b.Named("PtRegs") and section.type == ProgType.KPROBE):
        return True
    return param[1] is None and param[0] == "ctx" and section.type in _BY_POSITION


# --- values -----------------------------------------------------------------------------------------


def of_type(c: Walker, kind: KernelType, word: str, mode: str) -> Value:
    """The value of an argument of type ``kind`` that lies in the 64-bit register or slot ``word``."""
    if isinstance(kind, KPtr):
        return pointer(kind, mode, c.em.op(f"inttoptr i64 {word} to ptr"))
    if isinstance(kind, KInt) and kind.size in (1, 2, 4):
        got = c.em.op(f"trunc i64 {word} to i{8 * kind.size}")
        if kind.size == 4 and c.section is not None and c.section.type == ProgType.LSM and c.unit.cpu > "v2":
            # Or LLVM shifts the upper half away, and the verifier no longer sees what range it has.
            got = c.em.op(f'call i32 asm "", "=w,0"(i32 {got})')
        if kind.boolean:
            return c.boolean(c.em.op(f"icmp ne i8 {got}, 0"))
        got = c.em.op(f"{'sext' if kind.signed else 'zext'} i{8 * kind.size} {got} to i64")
        return Value(INT, got, *kind.bounds)
    if isinstance(kind, KInt) and kind.size == 8:
        return Value(INT, word, *kind.bounds)
    return Value(INT, word, 0, (1 << 64) - 1)


def annotated(c: Walker, annotation: Any, node: ast.AST) -> KernelType | None:
    """The type that a parameter's annotation says, None without one. A struct means a pointer to it."""
    if isinstance(annotation, b.Optional):
        annotation = annotation.of
    if annotation is None or annotation is int:
        return None
    if isinstance(annotation, Hook):  # a struct that a hook is called like
        annotation = b.Named(annotation.name)
    if annotation is bool:
        return KInt("bool", 1, False, boolean=True)
    if isinstance(annotation, b.IntType):
        return KInt(annotation.name, annotation.bits // 8, annotation.signed)
    if annotation is bytes or annotation is str or annotation == b.Named("Text"):
        return KPtr(_CHAR)
    if isinstance(annotation, b.PointerType):
        to = annotated(c, annotation.of, node)
        to = to.to if isinstance(to, KPtr) else to
        return KPtr(to or KernelType(), frozenset(("user",) if annotation.user else ()))
    if isinstance(annotation, b.Named):
        found = types_of(c, node).by_name(annotation.name)
        if found is None:
            event = c.program.section.rpartition("/")[2] if c.program is not None else ""
            record = c.program is not None and c.program.section.startswith(("tracepoint/", "tp/"))
            raise c.error(
                node,
                f"the kernel has no type {annotation.name!r}",
                f"the record of this tracepoint is bpf.{_camel(event)}"
                if record
                else "skep btf dump file /sys/kernel/btf/vmlinux lists them",
            )
        return KPtr(found) if isinstance(found, KStruct) else found
    info = getattr(annotation, "__bpf__", None)
    if info is not None:
        return KPtr(DeclaredStruct(info, c.unit.types))
    raise c.error(
        node,
        f"{annotation!r} is no type of an argument",
        "numbers (u32), bytes for texts, structs of the kernel's (bpf.task_struct)",
    )


def _checked(c: Walker, param: Param, known: KernelType | None) -> KernelType:
    """The type of a parameter: the annotation's, or what is known of the argument."""
    name, annotation, node = param
    said = annotated(c, annotation, node)
    if said is None:
        return known or KInt("u64", 8, False)
    if known is None or annotation is int:
        return said
    both = isinstance(said, KPtr), isinstance(known, KPtr)
    if both == (True, True):
        assert isinstance(said, KPtr) and isinstance(known, KPtr)
        mine, theirs = said.to, known.to
        if isinstance(mine, KStruct) and isinstance(theirs, KStruct):
            same = mine.local.split("___")[0] == theirs.local.split("___")[0]
            if not same:
                raise c.error(
                    node,
                    f"{name} is a {theirs.name} *, not a {mine.name} *",
                    "annotate it so, or leave the annotation out",
                )
    elif both == (True, False) and isinstance(known, KInt) and known.size < 8:
        raise c.error(
            node, f"{name} is a {known.name}, not a pointer", "annotate it so, or leave the annotation out"
        )
    elif both == (False, True) and isinstance(said, KInt) and said.size < 8:
        raise c.error(node, f"{name} is a {known.name}, not a {said.name}", f"write: {name}: u64")
    return said


def _by_annotation(c: Walker, param: Param, operand: str, mode: str) -> Value:
    """A pointer operand as the annotation types it."""
    annotation = param[1]
    if isinstance(annotation, b.Named) and annotation.name in NAMES:
        from skep.lang.contexts import ContextRef, section_of

        return Value(ContextRef(NAMES[annotation.name], section_of(c, param[2])), operand)
    said = annotated(c, annotation, param[2])
    if isinstance(said, KPtr):
        return pointer(said, mode, operand)
    return Value(RawContext(), operand)


def _slot(c: Walker, index: int) -> str:
    """The 64-bit word ``index`` of the context."""
    return c.em.op(f"load i64, ptr {c.within_context(c.ctx, 8 * index)}, align 8")


# --- functions: tp_btf, raw_tp, fentry, fexit, lsm, struct_ops -----------------------------------------


def _by_name(c: Walker, section: Section, params: list[Param], mode: str) -> list[Value]:
    """The arguments of a tracepoint by their names."""
    from skep.lang.tracepoints import signature

    if not params:
        return []
    known = signature(types_of(c, params[0][2]), section.rest)
    made = []
    for param in params:
        at, kind = known[param[0]]
        made.append(of_type(c, _checked(c, param, kind), _slot(c, at), mode))
    return made


def _function(c: Walker, section: Section, program: Program, params: list[Param]) -> list[Value]:
    node = params[0][2] if params else ast.Pass()
    known = _prototype(c, section, node) if params else None
    typed = section.type not in (ProgType.RAW_TRACEPOINT, ProgType.RAW_TRACEPOINT_WRITABLE)
    mode = "btf" if typed else "kernel"
    if "via" in program.options:
        return _by_name(c, section, params, mode)
    made = []
    at = 0
    kinds: list[KernelType | None] = []
    if known is not None:
        kinds = [kind for _, kind in known[0]]
        if section.attach_type in _WITH_RESULT or section.type == ProgType.LSM:
            result = known[1]
            kinds.append(result if result.size or isinstance(result, KPtr) else None)
        if len(params) > len(kinds):
            what = f"{section.rest} has {len(known[0])} arguments"
            raise c.error(
                params[len(kinds)][2],
                f"{what}, {len(params)} are taken",
                "fewer may be taken, from the first on",
            )
    for i, param in enumerate(params):
        kind = kinds[i] if i < len(kinds) else None
        value = of_type(c, _checked(c, param, kind), _slot(c, at), mode)
        if (
            c.scope.hook_verdicts
            and section.type == ProgType.LSM
            and i == len(kinds) - 1
            and value.type is INT
        ):
            # What the programs before gave, which the kernel knows to be a verdict as well.
            low, high = c.scope.hook_verdicts
            value = Value(INT, value.ir, max(low, value.lo), min(high, value.hi))
        made.append(value)
        # Structs of up to 16 bytes come by value in two words.
        at += 2 if kind is not None and not isinstance(kind, (KInt, KPtr)) and kind.size > 8 else 1
    return made


_WITH_RESULT: Final = frozenset(
    (
        AttachType.TRACE_FEXIT,
        AttachType.MODIFY_RETURN,
        AttachType.TRACE_FSESSION,
        AttachType.LSM_MAC,
        AttachType.LSM_CGROUP,
    )
)


def _alike(types: Types, prefix: str, name: str) -> str:
    """A hint: what the kernel has that is called almost so."""
    import re
    from difflib import get_close_matches

    known = re.findall(rb"\0%s(\w+)(?=\0)" % prefix.encode(), bytes(types.btf.strings.raw))
    close = get_close_matches(name, [found.decode() for found in known], 1, 0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"skep btf dump file /sys/kernel/btf/vmlinux has a {prefix}NAME for each"


def _prototype(
    c: Walker, section: Section, node: ast.AST
) -> tuple[list[tuple[str, KernelType]], KernelType] | None:
    """(arguments, result) of what the program is attached to; None when it is not said where."""
    target = section.rest
    if not target or target.startswith("?"):
        return None
    types = types_of(c, node)
    if section.type in (ProgType.RAW_TRACEPOINT, ProgType.RAW_TRACEPOINT_WRITABLE) or (
        section.attach_type == AttachType.TRACE_RAW_TP
    ):
        name = target.rpartition(":")[2]
        found = types.typedef_proto(f"btf_trace_{name}")
        if found is None:
            raise c.error(
                node,
                f"the kernel has no tracepoint {name!r}",
                _alike(types, "btf_trace_", name),
            )
        return found[0][1:], found[1]  # the first is the tracepoint's own
    if section.type == ProgType.LSM:
        found = types.function(f"bpf_lsm_{target}")
        if found is None:
            raise c.error(
                node,
                f"the kernel has no LSM hook {target!r}",
                _alike(types, "bpf_lsm_", target),
            )
        return found
    if section.type == ProgType.STRUCT_OPS:
        return _operation(c, target, node)
    found = types.function(target.partition("+")[0])
    if found is None and section.type == ProgType.TRACING:
        raise c.error(
            node,
            f"the kernel has no function {target!r} that programs can attach to",
            "/proc/kallsyms lists them; those that are inlined or notrace are not attached to",
        )
    return found


def _operation(
    c: Walker, target: str, node: ast.AST
) -> tuple[list[tuple[str, KernelType]], KernelType] | None:
    """``STRUCT/MEMBER`` or ``STRUCT:MEMBER`` of struct_ops; a member alone has the annotations' types."""
    struct, found, member = target.replace(":", "/").partition("/")
    if not found:
        return None
    types = types_of(c, node)
    kind = types.by_name(struct)
    if not isinstance(kind, KStruct):
        raise c.error(
            node,
            f"the kernel has no struct {struct!r}",
            "skep btf dump file /sys/kernel/btf/vmlinux lists them",
        )
    btf = types.btf
    from skep.errors import BtfError

    try:
        field, _ = btf.member(getattr(kind, "id", 0), member)
    except BtfError:
        raise c.error(
            node, f"struct {struct} has no operation {member!r}", c.nearest(member, kind.names())
        ) from None
    return types.function_pointer(field.type)


# --- records -----------------------------------------------------------------------------------------


def _record(c: Walker, struct: str, params: list[Param]) -> list[Value]:
    """A context that is a struct of the kernel's with typed pointers."""
    made = []
    for _, _, node in params:
        kind = types_of(c, node).by_name(struct)
        if not isinstance(kind, KStruct):
            raise c.error(
                node,
                f"the kernel has no {struct}",
                "compile with the types of a kernel that has it: skep build --btf FILE",
            )
        made.append(Value(ContextRecord(kind, nullable_members=False), c.ctx))
    return made


def _iterator(c: Walker, section: Section, params: list[Param]) -> list[Value]:
    made = []
    for _, annotation, node in params:
        name = f"bpf_iter__{section.rest}"
        called = "Iter" + _camel(section.rest)
        if isinstance(annotation, b.Named) and annotation.name not in (name, called, "Context"):
            raise c.error(
                node, f"{annotation.name} is not what this iterator gives", f"write: ctx: bpf.{called}"
            )
        kind = types_of(c, node).by_name(name)
        if not isinstance(kind, KStruct):
            raise c.error(
                node,
                f"the kernel has no iterator {section.rest!r} (no struct {name})",
                "task, task_file, task_vma, bpf_map, bpf_prog, tcp, udp, unix, cgroup and others are",
            )
        made.append(Value(ContextRecord(kind, nullable_members=True), c.ctx))
    return made


class ContextRecord(KernelRef):
    """A context of typed pointers. Those of an iterator are None when it is at its end."""

    context = True

    def __init__(self, kind: KStruct, *, nullable_members: bool) -> None:
        super().__init__(kind, "btf")
        self.nullable_members = nullable_members

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        made = super().attr(c, v, name, node)
        if self.nullable_members and name != "meta" and isinstance(made.type, KernelRef):
            return Value(made.type.optional(True), made.ir)
        return made


# --- tracepoints --------------------------------------------------------------------------------------


def _tracepoint(c: Walker, section: Section, program: Program, params: list[Param]) -> list[Value]:
    if not params:
        return []
    system, _, event = section.rest.rpartition("/")
    node = params[0][2]
    if not event:
        raise c.error(node, "which tracepoint?", 'write: @bpf.tracepoint("sched:sched_switch")')
    kind = record(c, system, event, node)
    whole = Value(kind, c.ctx)
    first = params[0][1]
    if len(params) == 1 and (params[0][0] == "ctx" or _names_record(first, event)):
        if isinstance(first, b.Named) and not _names_record(first, event) and first.name not in kind.aliases:
            raise c.error(node, f"{first.name} is not what {event} gives", f"write: ctx: bpf.{_camel(event)}")
        return [whole]
    made = []
    for param in params:
        value = kind.attr(c, whole, param[0], param[2])
        said = annotated(c, param[1], param[2])
        if isinstance(said, KPtr) and isinstance(value.type, KernelRef):
            value = Value(KernelRef(said.to, value.type.mode), value.type.address(c, value, param[2]))
        made.append(value)
    return made


def _camel(event: str) -> str:
    return "".join(word.capitalize() for word in event.split("_"))


def _names_record(annotation: Any, event: str) -> bool:
    if not isinstance(annotation, b.Named):
        return False
    return annotation.name == "Tracepoint" or annotation.name.lower() == _camel(event).lower()


class TracepointRecord(Type):
    """The record of a tracepoint. The operand is the context."""

    llvm = "ptr"
    name = "a tracepoint's record"
    aliases: tuple[str, ...] = ()

    def same(self, other: Type) -> bool:
        return type(other) is type(self) and other.name == self.name


class SyscallRecord(TracepointRecord):
    """syscalls:sys_enter_NAME and sys_exit_NAME: words at fixed places (include/trace/events/syscalls.h)."""

    def __init__(self, event: str, fields: dict[str, tuple[int, str]]) -> None:
        self.name = event
        self.fields = fields

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        found = self.fields.get(name)
        if found is None:
            mine = ", ".join(n for n in self.fields if n not in ("__syscall_nr", "nr"))
            hint = f"they have names: {mine}" if name == "args" else c.nearest(name, self.fields)
            raise c.error(node, f"{self.name} has no argument {name!r}", hint)
        offset, kind = found
        at = c.within_context(v.ir, offset)
        if not kind.startswith("*"):
            size, signed = _WORDS[kind]
            got = c.em.op(f"load i{8 * size}, ptr {at}, align {size}")
            if size < 8:
                got = c.em.op(f"{'sext' if signed else 'zext'} i{8 * size} {got} to i64")
            return Value(INT, got, *KInt(kind, size, signed).bounds)
        return Value(KernelRef(_pointee(c, kind[1:], node), "user"), c.em.op(f"load ptr, ptr {at}, align 8"))


def _pointee(c: Walker, word: str, node: ast.AST) -> KernelType:
    if word == "char":
        return _CHAR
    if word == "void":
        return KernelType()
    if word.startswith("*"):
        return KPtr(_pointee(c, word[1:], node), frozenset(("user",)))
    if word in _WORDS:
        return KInt(word, *_WORDS[word])
    return types_of(c, node).by_name(word) or KernelType()


class EventRecord(TracepointRecord):
    """The record of any other tracepoint: ``struct trace_event_raw_CLASS``, relocated.

    ``other`` is the class that kernels without ``kind`` have for this event.
    """

    def __init__(self, event: str, kind: KStruct, other: KStruct | None = None) -> None:
        self.name = event
        self.kind = kind
        self.other = other

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if self.other is None:
            return self._of(c, v, self.kind, name, node)
        em = c.em
        mine, theirs, done = c.label("class"), c.label("other"), c.label("field")
        exists = em.op(core_of(c).type_info(self.kind, TYPE_EXISTS))
        em.cond(em.op(f"icmp ne i32 {exists}, 0"), mine, theirs)
        em.place(mine)
        first = self._of(c, v, self.kind, name, node)
        slot = em.slot(first.type.llvm, ("field", c.fresh()))
        em.do(f"store {first.type.llvm} {self._operand(c, first, node)}, ptr {slot}")
        em.br(done)
        em.place(theirs)
        second = self._of(c, v, self.other, name, node)
        em.do(f"store {first.type.llvm} {self._operand(c, second, node)}, ptr {slot}")
        em.br(done)
        em.place(done)
        kind = first.type
        if isinstance(kind, KernelRef):
            kind = KernelRef(kind.kind, kind.mode, pointer=kind.pointer)
        got = em.op(f"load {first.type.llvm}, ptr {slot}")
        return Value(kind, got, min(first.lo, second.lo), max(first.hi, second.hi))

    @staticmethod
    def _operand(c: Walker, value: Value, node: ast.AST) -> str:
        return value.type.address(c, value, node) if isinstance(value.type, KernelRef) else value.ir

    def _of(self, c: Walker, v: Value, record: KStruct, name: str, node: ast.AST) -> Value:
        """The field in the record of one class."""
        ref = KernelRef(record, "btf")
        ref.context = True
        whole = Value(ref, v.ir)
        for form in ("__data_loc_", "__rel_loc_"):
            field = record.field(form + name)
            if field is not None:
                if name in _CHANGED:
                    fixed = KField(name, KArray(_CHAR, _COMM), 0, 0)
                    return self._either(c, v, record, field, fixed, node)
                return Value(KernelRef(_CHAR, "kernel"), self._located(c, v, record, field, node))
        plain = record.field(name)
        if plain is not None and name in _CHANGED and isinstance(plain.type, KArray):
            other = KField(f"__data_loc_{name}", KInt("unsigned int", 4, False), 0, 0)
            return self._either(c, v, record, other, plain, node)
        if plain is None:
            hidden = ("ent", "__data")
            known = [n.removeprefix("__data_loc_") for n in record.names() if n not in hidden]
            raise c.error(node, f"{self.name} has no field {name!r}", c.nearest(name, known))
        made = ref.attr(c, whole, name, node)
        kind = made.type
        if isinstance(kind, KernelRef):
            # What lies in the record is read in place; pointers in it are plain numbers to the verifier.
            mode = "kernel" if kind.mode == "btf" and (kind.steps == () or _is_text(kind)) else kind.mode
            return Value(KernelRef(kind.kind, mode, kind.steps, pointer=kind.pointer), made.ir)
        return made

    def _located(self, c: Walker, v: Value, record: KStruct, field: KField, node: ast.AST) -> str:
        """The address of a text whose place (``__data_loc_``; ``__rel_loc_``: from here on) ``field`` is."""
        ref = KernelRef(field.type, "btf", ((record, field),))
        ref.context = True
        at = ref.address(c, v, node)
        word = c.em.op(f"zext i32 {c.em.op(f'load i32, ptr {at}, align 4')} to i64")
        offset = c.em.op(f"and i64 {word}, 65535")
        if field.name.startswith("__rel_loc_"):
            offset = c.em.op(f"add i64 {offset}, {field.bit_offset // 8 + 4}")
        return c.em.op(f"getelementptr i8, ptr {v.ir}, i64 {offset}")

    def _either(
        self, c: Walker, v: Value, record: KStruct, located: KField, fixed: KField, node: ast.AST
    ) -> Value:
        """A text that the running kernel has in one form or the other."""
        far, near, done = c.label("far"), c.label("near"), c.label("text")
        slot = c.em.slot("ptr", ("text", c.fresh()))
        at = KernelRef(located.type, "btf", ((record, located),)).address(c, v, node)
        here = c.em.op(core_of(c).field_info(at, EXISTS))
        c.em.cond(c.em.op(f"icmp ne i32 {here}, 0"), far, near)
        c.em.place(far)
        c.em.do(f"store ptr {self._located(c, v, record, located, node)}, ptr {slot}")
        c.em.br(done)
        c.em.place(near)
        at = KernelRef(fixed.type, "btf", ((record, fixed),)).address(c, v, node)
        c.em.do(f"store ptr {at}, ptr {slot}")
        c.em.br(done)
        c.em.place(done)
        return Value(KernelRef(_CHAR, "kernel"), c.em.op(f"load ptr, ptr {slot}"))


#: texts that have a place of their own in the records of some kernels, and a fixed one in those of others
_CHANGED: Final = frozenset(("comm", "parent_comm", "child_comm"))
_COMM: Final = 16


def _is_text(kind: KernelRef) -> bool:
    return kind.is_text and isinstance(kind.kind, KArray)


def record(c: Walker, system: str, event: str, node: ast.AST) -> Any:
    """The record of a tracepoint; refuses one that does not exist."""
    from skep.uapi.tracepoints import event_classes, syscall_arguments

    if system in ("syscalls", "") and event.startswith(("sys_enter_", "sys_exit_")):
        call = event.partition("_")[2].partition("_")[2]
        known = syscall_arguments(call)
        if known is None:
            from skep.uapi.tracepoints import syscall_names

            raise c.error(
                node, f"no system call with a tracepoint is called {call!r}", c.nearest(call, syscall_names())
            )
        fields = {"__syscall_nr": (8, "s32"), "nr": (8, "s32")}
        if event.startswith("sys_exit_"):
            fields["ret"] = (16, "s64")
        else:
            fields |= {name: (16 + 8 * i, kind) for i, (name, kind) in enumerate(known)}
        return SyscallRecord(event, fields)
    types = types_of(c, node)
    names = [f"trace_event_raw_{name}" for name in event_classes(event)]
    kinds = [kind for name in names if isinstance(kind := types.by_name(name), BtfStruct)]
    if kinds and len(names) > 1:
        # Its own class in some kernels, one shared with other events in others.
        both = [next((k for k in kinds if k.local == n), BtfStruct(types, kinds[0].id, n)) for n in names[:2]]
        made = EventRecord(event, both[0], both[1])
    elif kinds:
        made = EventRecord(event, kinds[0])
    if kinds:
        made.aliases = tuple(kind.local for kind in kinds)
        return made
    raise c.error(
        node,
        f"the kernel has no tracepoint {system}:{event}",
        "/sys/kernel/tracing/available_events lists them",
    )


# --- probes -------------------------------------------------------------------------------------------

#: where a function's arguments are (Linux 64-bit calling conventions), its result, and the rest
_REGISTERS: Final = {
    "x86_64": (("di", "si", "dx", "cx", "r8", "r9"), "ax"),
    "aarch64": (tuple(f"regs[{i}]" for i in range(8)), "regs[0]"),
}
_SYSCALL_REGISTERS: Final = {
    "x86_64": ("di", "si", "dx", "r10", "r8", "r9"),
    "aarch64": tuple(f"regs[{i}]" for i in range(6)),
}


def machine() -> str:
    """The processor whose registers programs see."""
    return os.uname().machine


def register_offset(c: Walker, name: str, node: ast.AST) -> int:
    """Where a register lies in struct pt_regs, in bytes. Refuses machines that are not known."""
    if machine() == "x86_64":
        field = CONTEXTS["pt_regs"].fields.get(name)
        if field is not None:
            return field[0]
    elif machine() == "aarch64":
        if name.startswith("regs["):
            return 8 * int(name[5:-1])
        if name in ("sp", "pc", "pstate"):
            return 8 * (31 + ("sp", "pc", "pstate").index(name))
    raise c.error(
        node,
        f"{machine()} has no register {name!r}" if machine() in _REGISTERS else _other_machine(),
        "arguments by name: def f(a: u64, b: u64)",
    )


def _other_machine() -> str:
    return f"the registers of {machine()} are not known to skep: x86_64 and aarch64 are"


def registers(c: Walker) -> Value:
    """The context of a probe: registers by name, and the function's arguments."""
    return Value(Registers(), c.ctx)


class Registers(Type):
    """``bpf.PtRegs``: registers by the kernel's names, and ``arg0`` to ``arg5`` and ``ret``."""

    name = "bpf.PtRegs"
    llvm = "ptr"

    def same(self, other: Type) -> bool:
        return isinstance(other, Registers)

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        known = _REGISTERS.get(machine())
        if known is None:
            raise c.error(node, _other_machine(), "take ctx: bpf.PtRegs, or compile where the program runs")
        if name == "ret":
            name = known[1]
        elif name.startswith("arg") and name[3:].isdigit() and int(name[3:]) < len(known[0]):
            name = known[0][int(name[3:])]
        at = c.within_context(v.ir, register_offset(c, name, node))
        return Value(INT, c.em.op(f"load i64, ptr {at}, align 8"), 0, (1 << 64) - 1)


def _probe(c: Walker, section: Section, params: list[Param]) -> list[Value]:
    if not params:
        return []
    node = params[0][2]
    head = section.prefix.partition(".")[0]
    if head == "usdt":
        from skep.lang.contexts_usdt import arguments as usdt

        return usdt(c, section, params)
    if machine() not in _REGISTERS:
        raise c.error(node, _other_machine(), "take ctx: bpf.PtRegs, or compile where the program runs")
    user = head.startswith("u")
    mode = "user" if user else "kernel"
    target = section.rest.partition("+")[0]
    places, result = _REGISTERS[machine()]
    known: tuple[list[tuple[str, KernelType]], KernelType] | None = None
    plain = head in ("kprobe", "kretprobe") and target and "*" not in target
    if plain and (c.unit.types is not None or any(annotation is None for _, annotation, _ in params)):
        known = types_of(c, node).function(target)
    if "ret" in head:
        if len(params) > 1:
            raise c.error(
                params[1][2], "a return probe has one value, the function's result", "keep arguments in a map"
            )
        said = _checked(c, params[0], known[1] if known else None)
        return [of_type(c, said, _register(c, c.ctx, result, node), mode)]
    if head == "ksyscall":
        return _syscall(c, target, params)
    made = []
    for i, param in enumerate(params):
        if i >= len(places):
            raise c.error(
                param[2],
                f"only {len(places)} arguments come in registers",
                "take fewer, and ctx: bpf.PtRegs for the stack",
            )
        kind = known[0][i][1] if known and i < len(known[0]) else None
        if known and i >= len(known[0]):
            raise c.error(
                param[2],
                f"{target} has {len(known[0])} arguments, {len(params)} are taken",
                "fewer may be taken, from the first on",
            )
        made.append(of_type(c, _checked(c, param, kind), _register(c, c.ctx, places[i], param[2]), mode))
    return made


def _register(c: Walker, base: str, name: str, node: ast.AST) -> str:
    return c.em.op(f"load i64, ptr {c.within_context(base, register_offset(c, name, node))}, align 8")


def _syscall(c: Walker, target: str, params: list[Param]) -> list[Value]:
    """ksyscall: the wrapper's one argument is the registers that the system call came with (Linux 4.17)."""
    from skep.lang.core_refs import probed
    from skep.uapi.tracepoints import syscall_arguments

    known = syscall_arguments(target) or []
    by_name = {name: (i, kind) for i, (name, kind) in enumerate(known)}
    outer = _register(c, c.ctx, _REGISTERS[machine()][0][0], params[0][2])
    made = []
    for i, param in enumerate(params):
        name, _, node = param
        at, kind = by_name.get(name, (i, ""))
        if at >= 6:
            raise c.error(node, "a system call has at most 6 arguments", "take fewer")
        offset = register_offset(c, _SYSCALL_REGISTERS[machine()][at], node)
        place = c.em.op(f"inttoptr i64 {c.em.op(f'add i64 {outer}, {offset}')} to ptr")
        word = c.em.op(f"load i64, ptr {probed(c, place, 'kernel', 8)}, align 8")
        guess: KernelType | None = None
        if kind.startswith("*"):
            guess = KPtr(_pointee(c, kind[1:], node), frozenset(("user",)))
        elif kind:
            guess = KInt(kind, *_WORDS[kind])
        made.append(of_type(c, _checked(c, param, guess), word, "user"))
    return made


# --- memory that the caller gives ----------------------------------------------------------------------


def _memory(c: Walker, params: list[Param]) -> list[Value]:
    """A syscall program's context: a struct that whoever runs it passes (BPF_PROG_RUN)."""
    made = []
    for name, annotation, node in params:
        if annotation is None:
            made.append(Value(RawContext(), c.ctx))
            continue
        if getattr(annotation, "__bpf__", None) is None:
            raise c.error(
                node,
                f"{name}: the context of a syscall program is a struct of yours",
                "@bpf.struct class Args",
            )
        made.append(given.bind(c, c.unit.storage(annotation, c, node), node))
    return made


__all__ = ["KernelRef", "arguments", "load", "record", "registers"]
