"""Calling any helper by its prototype: arguments from Python values, results as values of the language."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from skep.bpf.types import be16
from skep.lang import references
from skep.lang.aggregates import TextStorage
from skep.lang.contexts import ContextRef, section_of
from skep.lang.contexts_args import RawContext, Registers, TracepointRecord
from skep.lang.contexts_fields import MOVES_PACKET
from skep.lang.core_refs import KernelRef
from skep.lang.helpers_read import address
from skep.lang.helpers_structs import LayoutStorage, number_at
from skep.lang.kernel_types import KernelType, types_of
from skep.lang.maps import MapType
from skep.lang.values import INT, OBJECT, S64_MAX, S64_MIN, TEXT, U64, PtrType, Value
from skep.uapi.enums import ProgType
from skep.verifier import kinds
from skep.verifier.facts import args as a
from skep.verifier.facts import protos

if TYPE_CHECKING:
    from skep.lang.layout import Storage
    from skep.lang.walk import Walker

_BASE: Final = 0xFF
#: helpers that kernels have by an option which those that were asked lack: whose, from which Linux on
OPTIONAL: Final = {
    58: (ProgType.KPROBE, (4, 16)),  # CONFIG_BPF_KPROBE_OVERRIDE
    77: (ProgType.LIRC_MODE2, (4, 18)),  # CONFIG_BPF_LIRC_MODE2
    78: (ProgType.LIRC_MODE2, (4, 18)),
    92: (ProgType.LIRC_MODE2, (5, 0)),
}


class Param(NamedTuple):
    """A parameter of the C prototype: type without name, name."""

    type: str
    name: str


class Prototype(NamedTuple):
    """The C prototype: what it returns, its parameters."""

    result: str
    params: tuple[Param, ...]


@cache
def prototype(number: int) -> Prototype:
    """The C prototype of a helper."""
    from skep.uapi.helpers import helpers

    text = helpers()[number].prototype
    found = re.fullmatch(r"(.*?)bpf_\w+\((.*)\)", text)
    assert found is not None, text
    params = []
    for part in found[2].split(","):
        part = part.strip()
        if part not in ("void", "..."):
            pieces = re.fullmatch(r"(.*?)(\w+)", part)
            assert pieces is not None
            params.append(Param(pieces[1].strip(), pieces[2]))
    return Prototype(found[1].strip(), tuple(params))


def caller(number: int, name: str) -> Callable[..., Value]:
    """``bpf.NAME``: a function that compiles the call."""

    def call(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        from skep.lang.helpers import check

        instead = _INSTEAD.get(name)
        if instead is not None:
            raise c.error(node, f"bpf.{name}() is written otherwise here", instead)
        check(c, number, name, node)
        c.node = node
        if name == "ringbuf_discard":
            from skep.lang import mapkinds

            return mapkinds.discard(c, args, kwargs, node)
        if number in (153, 154) and args and args[0].type.name.startswith("a per-CPU "):
            from skep.lang import percpu

            return percpu.pointer(c, number, args, kwargs, node)
        return _Call(c, number, name, args, kwargs, node).emit()

    return call


#: what the language has forms of its own for, which keep what was begun and what ends it together
_INSTEAD: Final = {
    "kptr_xchg": "old = value.field.swap(new), for a field bpf.Kptr[bpf.task_struct]",
    "ringbuf_reserve": "with ring.reserve() as e: ... submits e at the end of the block",
    "ringbuf_submit": "with ring.reserve() as e: ... submits e at the end of the block",
    "spin_lock": "with value.lock: ... holds the lock for the block",
    "spin_unlock": "with value.lock: ... holds the lock for the block",
}
#: arguments that are left out when what the language passes is all there is
_DEFAULTS: Final = {"flags": 0}
#: parameters whose buffers are the caller's, although the helper only writes to them
_CALLER_BUFFERS: Final = frozenset(
    [
        "skb_load_bytes",
        "skb_load_bytes_relative",
        "xdp_load_bytes",
        "probe_read",
        "probe_read_str",
        "probe_read_user",
        "probe_read_kernel",
        "probe_read_user_str",
        "probe_read_kernel_str",
        "get_stack",
        "get_task_stack",
        "get_current_comm",
        "copy_from_user",
        "copy_from_user_task",
        "snprintf",
        "snprintf_btf",
        "d_path",
        "dynptr_read",
        "sysctl_get_name",
        "sysctl_get_current_value",
        "sysctl_get_new_value",
        "getsockopt",
        "load_hdr_opt",
        "get_branch_snapshot",
        "read_branch_records",
        "skb_get_tunnel_opt",
        "ima_inode_hash",
        "ima_file_hash",
        "flow_dissector_load_bytes",
    ]
)


#: helpers that are told what a field of the packet was and is
_SUMMED: Final = frozenset(("l3_csum_replace", "l4_csum_replace"))


class _Call:
    def __init__(
        self, c: Walker, number: int, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> None:
        self.c = c
        self.number = number
        self.name = name
        self.given = list(args)
        self.kwargs = dict(kwargs)
        self.node = node
        self.c_proto = prototype(number)
        self.facts = self._facts()
        self.map: MapType | None = None
        #: what the call gives back, and the dynptr that it reserves
        self.released: Value | None = None
        self.reserved: Value | None = None
        #: the pointers among its arguments
        self.pointers: list[Value] = []
        #: what comes back through memory: (type, address)
        self.outputs: list[Value | _Later] = []
        self.operands: list[str] = []
        #: what the memory that it finds holds, where that is known
        self.holds: Storage | None = None

    def _facts(self) -> protos.Proto:
        kind, attach, sleepable = 0, 0, False
        if self.c.program is not None:
            section = section_of(self.c, self.node)
            kind, attach = int(section.type), int(section.attach_type or 0)
            sleepable = section.sleepable
        found = protos.proto(kind or 2, self.number, attach, sleepable)
        if found is None and self.number in OPTIONAL:
            rest = [protos.Arg(a.ARG_ANYTHING)] * (len(self.c_proto.params) - 1)
            shape = (protos.Arg(a.ARG_PTR_TO_CTX), *rest)
            found = protos.Proto(self.name, True, False, False, False, "", a.RET_INTEGER, "", shape)
        if found is None:
            raise self.error("its prototype is not known")
        if self.name in ("skb_set_tunnel_key", "skb_set_tunnel_opt"):
            # Made by a function in the kernel, so not in its tables.
            memory = protos.Arg(a.ARG_PTR_TO_MEM | kinds.MEM_RDONLY)
            found = found._replace(args=(protos.Arg(a.ARG_PTR_TO_CTX), memory, protos.Arg(a.ARG_CONST_SIZE)))
        known = [arg for arg in found.args if arg.kind & _BASE != a.ARG_DONTCARE]
        # What the kernel does not look at (flags that must be zero) is passed all the same.
        missing = max(0, len(self.c_proto.params) - len(known))
        return found._replace(args=(*known, *[protos.Arg(a.ARG_ANYTHING)] * missing))

    def error(self, reason: str, hint: str = "") -> Exception:
        c_names = ", ".join(param.name for param in self.c_proto.params)
        return self.c.error(
            self.node, f"bpf.{self.name}(): {reason}", hint or f"in C: bpf_{self.name}({c_names})"
        )

    # --- the arguments one by one ----------------------------------------------------------------

    def next(self, param: str) -> Value | None:
        """The next argument, by position or name."""
        if self.given:
            return self.given.pop(0)
        return self.kwargs.pop(param, None)

    def need(self, param: str) -> Value:
        value = self.next(param)
        if value is None:
            raise self.error(f"{param!r} is missing")
        return value

    def emit(self) -> Value:
        c = self.c
        arguments = [arg for arg in self.facts.args if arg.kind & _BASE != a.ARG_DONTCARE]
        names = [p.name for p in self.c_proto.params]
        names += [f"argument {i + 1}" for i in range(len(names), len(arguments))]
        if self.name in _SUMMED:
            self._as_in_the_packet()
        at = 0
        while at < len(arguments):
            at += self._argument(arguments, names, at)
        if self.given or self.kwargs:
            extra = next(iter(self.kwargs), None)
            if extra:
                raise self.error(f"no argument is called {extra!r}")
            hint = "the context goes in by itself, a buffer and its length are one value"
            if self.name == "trace_printk":
                hint = 'bpf.printk(f"pid {pid}")'
            raise self.error("too many arguments", hint)
        base = self.facts.ret & _BASE
        pointer = base not in (a.RET_INTEGER, a.RET_VOID)
        got = c.helper(self.number, self.operands, "ptr" if pointer else "i64")
        if self.name in MOVES_PACKET:
            from skep.lang.contexts_packet import moved

            moved(c, self.node)
        if self.released is not None:
            references.release(c, self.released, self.node, f"bpf.{self.name}()")
        if self.reserved is not None:
            references.dynptr(c, self.reserved, self.node)
        return self._result(base, got)

    def _as_in_the_packet(self) -> None:
        """Turn the old and the new value of a field, host numbers as fields are, into network order."""
        c, node = self.c, self.node
        names = [p.name for p in self.c_proto.params[1:]]  # the last is the size, with flags or without
        own = bool(self.given) and isinstance(self.given[0].type, ContextRef)
        given = dict(zip(names, self.given[own:], strict=False)) | self.kwargs
        flags = given.get(names[-1])
        size = flags.const & 15 if flags is not None and flags.const is not None else None
        if flags is not None and size is None:
            raise self.error(
                "the size of the field, in the flags, must be a constant", "2 or 4, or 0 for a sum"
            )
        if size not in (2, 4):
            return  # the difference of two sums: bpf.csum_diff() gives it as it is
        for name in ("from", "to"):
            if name in given:
                bits = 8 * size
                number = c.as_int(given[name], node, f"argument {name!r}")
                got = c.swap(c.em.op(f"trunc i64 {number.ir} to i{bits}"), bits)
                given[name] = c.int(c.em.op(f"zext i{bits} {got} to i64"), 0, (1 << bits) - 1)
        self.given, self.kwargs = [], given

    def _argument(self, arguments: list[protos.Arg], names: list[str], at: int) -> int:
        """Pass one argument (or a buffer and its length); how many of the helper's were passed."""
        arg, name = arguments[at], names[at]
        kind = arg.kind & _BASE
        sized = at + 1 < len(arguments) and arguments[at + 1].kind & _BASE in (
            a.ARG_CONST_SIZE,
            a.ARG_CONST_SIZE_OR_ZERO,
        )
        if kind == a.ARG_PTR_TO_CTX:
            self._context()
            return 1
        if kind in (a.ARG_PTR_TO_MEM, a.ARG_PTR_TO_MAP_VALUE) and sized:
            self._buffer(arg, name)
            return 2
        if kind == a.ARG_PTR_TO_MEM and not sized and arg.kind & (kinds.MEM_UNINIT | kinds.MEM_FIXED_SIZE):
            self._output(arg, name)
            return 1
        self.operands.append(self._one(arg, kind, name))
        return 1

    def _context(self) -> None:
        c = self.c
        if self.given and isinstance(
            self.given[0].type, (ContextRef, RawContext, Registers, TracepointRecord)
        ):
            passed = self.given[0].type
            if (
                not isinstance(passed, ContextRef)
                or passed.context
                or self.name.startswith(("get_socket", "setsock"))
            ):
                self.operands.append(f"ptr {self.given.pop(0).ir}")
                return
        if not c.ctx:
            raise self.error("it needs the context, which only a program has")
        self.operands.append(f"ptr {c.ctx}")

    def _one(self, arg: protos.Arg, kind: int, name: str) -> str:
        c, node = self.c, self.node
        nullable = bool(arg.kind & kinds.PTR_MAYBE_NULL)
        if kind in (
            a.ARG_ANYTHING,
            a.ARG_CONST_SIZE,
            a.ARG_CONST_SIZE_OR_ZERO,
            a.ARG_CONST_ALLOC_SIZE_OR_ZERO,
            a.ARG_SCALAR,
        ):
            value = self.next(name)
            if value is None:
                if name not in _DEFAULTS and not name.endswith("flags"):
                    raise self.error(f"{name!r} is missing")
                return "i64 0"
            if kind == a.ARG_CONST_ALLOC_SIZE_OR_ZERO:
                return f"i64 {self._room(value)}"
            if value.type.llvm == "ptr" and not c.is_number(value):
                return f"ptr {address(c, value, node)}"
            record = next((p for p in self.c_proto.params if p.name == name), None)
            if record is not None and record.type == "__be16":
                from skep.lang.layout import IntStorage

                # A host number, as everywhere; the helper wants it as it goes on the wire.
                got = IntStorage(be16).narrow(c, value, node)
                return f"i64 {c.em.op(f'zext i16 {got} to i64')}"
            return f"i64 {c.as_int(value, node, f'argument {name!r}').ir}"
        value = self.next(name)
        if value is None:
            if nullable:
                return "ptr null"
            hint = "d = bpf.Dynptr(), and then d as this argument" if "dynptr" in self.name else ""
            raise self.error(f"{name!r} is missing", hint)
        if nullable and value.type.name == "None":
            return "ptr null"
        if value.type.llvm == "ptr":
            self.pointers.append(value)
        if arg.kind & kinds.OBJ_RELEASE:
            self.released = value
        elif kind == a.ARG_PTR_TO_DYNPTR and arg.kind & kinds.DYNPTR_TYPE_RINGBUF:
            self.reserved = value
        elif kind == a.ARG_PTR_TO_DYNPTR and arg.kind & kinds.MEM_UNINIT:
            references.ready(c, value, node)
        elif kind == a.ARG_PTR_TO_DYNPTR:
            references.used(c, value, node)
        if kind == a.ARG_CONST_MAP_PTR:
            if not isinstance(value.type, MapType):
                raise self.error(f"{name!r} is a map, not {value.type.name}")
            self.map = value.type
            return f"ptr {value.ir}"
        if kind in (a.ARG_PTR_TO_MAP_KEY, a.ARG_PTR_TO_MAP_VALUE):
            return f"ptr {self._element(kind, value)}"
        if kind in (a.ARG_PTR_TO_BTF_ID, a.ARG_PTR_TO_BTF_ID_SOCK_COMMON, a.ARG_PTR_TO_PERCPU_BTF_ID):
            return f"ptr {self._typed(value, arg, name)}"
        if kind in (a.ARG_PTR_TO_SOCK_COMMON, a.ARG_PTR_TO_SOCKET):
            if not isinstance(value.type, (ContextRef, KernelRef)):
                raise self.error(f"{name!r} is a socket, not {value.type.name}")
            return f"ptr {address(c, value, node)}"
        if kind == a.ARG_PTR_TO_CONST_STR:
            if value.type is not TEXT:
                raise self.error(f"{name!r} is a constant text")
            return f"ptr {c.unit.constant(value.obj + bytes(1))}"
        if kind == a.ARG_PTR_TO_FUNC:
            callback = getattr(c.unit, "callback", None)
            if callback is None:
                raise self.error("functions as arguments are not compiled here", "bpf.loop and for loops are")
            return f"ptr {callback(c, value, node)}"
        # memory of a kind that only the verifier can tell: locks, timers, dynptrs, ring buffer records, stack
        return f"ptr {self._memory(value, name)}"

    def _room(self, value: Value) -> int:
        """How many bytes are asked for: those of a type, or a constant number of them."""
        c = self.c
        if value.type is OBJECT:
            self.holds = c.unit.storage(value.obj, c, self.node)
        elif value.const is not None and 0 < value.const < 1 << 29:
            self.holds = TextStorage(value.const, False)
        else:
            raise self.error("how much it gives is a type or a constant", f"bpf.{self.name}(d, 0, u32)")
        return self.holds.size

    def _element(self, kind: int, value: Value) -> str:
        if self.map is None:
            raise self.error("the map comes before its key")
        if kind == a.ARG_PTR_TO_MAP_KEY:
            return self.map.key_address(self.c, value, self.node)
        return self.map.value_address(self.c, value, self.node)

    def _typed(self, value: Value, arg: protos.Arg, name: str) -> str:
        want = f"struct {arg.btf}" if arg.btf else "a pointer of the kernel's"
        if isinstance(value.type, ContextRef) and not arg.btf:
            return address(self.c, value, self.node)
        if not isinstance(value.type, KernelRef) or value.type.mode != "btf":
            hint = "arguments of tp_btf, fentry and lsm programs are, and bpf.get_current_task_btf()"
            raise self.error(f"{name!r} is {want} that the verifier follows, not {value.type.name}", hint)
        have = value.type.kind.name.removeprefix("struct ")
        if arg.btf and arg.btf != "*" and have.split("___")[0] != arg.btf:
            raise self.error(f"{name!r} is {want}, not {value.type.kind.name}")
        return address(self.c, value, self.node)

    def _memory(self, value: Value, name: str) -> str:
        c = self.c
        if isinstance(value.type, PtrType):
            if value.type.nullable:
                c.refuse_none(value, self.node)
            return value.ir
        if value.type is TEXT:
            return c.unit.constant(value.obj + bytes(1))
        if c.is_number(value):
            return self._spilled(value)
        raise self.error(f"{name!r} is memory, not {value.type.name}")

    def _spilled(self, value: Value) -> str:
        from skep.bpf.types import u64

        return self.c.spill(value, self.c.unit.storage(u64, self.c, self.node), self.node)

    def _buffer(self, arg: protos.Arg, name: str) -> None:
        """A buffer and its length, one value in Python. What has no length of its own takes ``size``."""
        c, node = self.c, self.node
        value = self.next(name)
        writes = bool(arg.kind & kinds.MEM_UNINIT)
        if value is None or value.type.name == "None":
            if arg.kind & kinds.PTR_MAYBE_NULL:
                self.operands += ["ptr null", "i64 0"]
                return
            if writes and self.name not in _CALLER_BUFFERS:
                made = self._struct_output(name)
                if made is not None:
                    assert isinstance(made.type, PtrType)
                    self.operands += [f"ptr {made.ir}", f"i64 {made.type.of.size}"]
                    self.outputs.append(made)
                    return
            hint = "bpf.comm() gives the task's name" if self.name == "get_current_comm" else ""
            raise self.error(f"{name!r} is missing: a buffer" if writes else f"{name!r} is missing", hint)
        if value.type is TEXT:
            if writes:
                raise self.error(f"{name!r} is written: a constant cannot be")
            at, size = c.unit.constant(value.obj + bytes(1)), len(value.obj)
        elif isinstance(value.type, PtrType):
            if value.type.nullable:
                c.refuse_none(value, node)
            if writes and not value.type.writable:
                raise self.error(f"{name!r} is written, and {value.type.name} is read-only here")
            at, size = value.ir, value.type.of.size
        elif c.is_number(value):
            raise self.error(
                f"{name!r} is memory, and a number has neither a size nor a byte order",
                'say both: x.to_bytes(4, "big"); or give a struct or a field',
            )
        else:
            made = value.type.materialise(c, value, node)
            if not isinstance(made.type, PtrType):
                raise self.error(f"{name!r} is memory, not {value.type.name}")
            at, size = made.ir, made.type.of.size
        self.operands += [f"ptr {at}", f"i64 {c.sized(size, self.kwargs.pop('size', None), node)}"]

    # --- what comes back --------------------------------------------------------------------------

    def _output(self, arg: protos.Arg, name: str) -> None:
        """Memory of a known size that the helper fills: the call returns it, beside the helper's number."""
        record = next((p for p in self.c_proto.params if p.name == name), None)
        if arg.btf or record is None or "struct " in record.type:
            self.operands.append(f"ptr {self._memory(self.need(name), name)}")
            return
        room = self.c.buffer(8, 8)
        self.c.zero(room, 8, 8)
        self.operands.append(f"ptr {room}")
        size = arg.size or 8
        if not arg.kind & kinds.MEM_UNINIT:  # read first: what the caller says, by name, or zero
            given = self.kwargs.pop(name, None)
            if given is not None:
                number = self.c.as_int(given, self.node, name)
                self.c.em.do(f"store i64 {number.ir}, ptr {room}, align 8")
            if not arg.kind & kinds.MEM_WRITE:
                return
        signed = "unsigned" not in record.type and "u64" not in record.type and "u32" not in record.type
        got = self.c.buffer(8, 8) if size not in (1, 2, 4, 8) else room
        self.outputs.append(_Later(size, signed, got))

    def _struct_output(self, name: str) -> Value | None:
        """A buffer for the struct that the C prototype names."""
        from skep.uapi.contexts import CONTEXTS

        record = next((p for p in self.c_proto.params if p.name == name), None)
        struct = record.type.replace("struct", "").replace("*", "").strip() if record else ""
        layout = CONTEXTS.get(struct)
        if layout is None:
            return None
        of = LayoutStorage(struct)
        room = self.c.buffer(layout.size, 8)
        self.c.zero(room, layout.size, 8)
        return Value(PtrType(of, "stack"), room)

    def _result(self, base: int, got: str) -> Value:
        c = self.c
        nullable = bool(self.facts.ret & kinds.PTR_MAYBE_NULL)
        value: Value
        if base == a.RET_VOID:
            value = c.none()
        elif base == a.RET_INTEGER:
            value = _integer(c, self.c_proto.result, got)
            if self.name.startswith("ktime_get_"):  # since the machine started: 292 years fit
                value = Value(INT, got, 0, S64_MAX)
        elif base == a.RET_PTR_TO_MAP_VALUE:
            if self.map is None:
                raise self.error("it returns a value of a map, and takes none")
            value = Value(PtrType(c.unit.maps.value(self.map.map), "map", nullable=nullable), got)
        elif base in (a.RET_PTR_TO_SOCKET, a.RET_PTR_TO_SOCK_COMMON, a.RET_PTR_TO_TCP_SOCK):
            struct = "bpf_tcp_sock" if base == a.RET_PTR_TO_TCP_SOCK else "bpf_sock"
            value = Value(ContextRef(struct, section_of(c, self.node), nullable=nullable, context=False), got)
        elif base == a.RET_PTR_TO_BTF_ID:
            name = self.facts.ret_btf or self.c_proto.result.replace("struct", "").replace("*", "").strip()
            kind = types_of(c, self.node).by_name(name)
            if kind is None:
                raise self.error(f"the kernel has no type {name!r}")
            value = Value(KernelRef(kind, "btf", nullable=nullable), got)
        elif self.holds is not None:
            value = Value(PtrType(self.holds, "mem", nullable=nullable, writable=True), got)
        else:
            value = Value(KernelRef(KernelType(), "kernel", nullable=nullable), got)
        value = references.of_helper(c, self.number, self.name, value, self.pointers, self.node)
        if not self.outputs:
            return value
        made = [number_at(c, v.at, v.size, v.signed) if isinstance(v, _Later) else v for v in self.outputs]
        return c.tuple([value, *made])


class _Later:
    """A number that a helper stores at ``at``: read after the call."""

    def __init__(self, size: int, signed: bool, at: str = "") -> None:
        self.size = size
        self.signed = signed
        self.at = at


def _integer(c: Walker, result: str, got: str) -> Value:
    words = result.replace("const", "").strip()
    if words == "u32":
        return Value(INT, c.em.op(f"and i64 {got}, 4294967295"), 0, (1 << 32) - 1)
    if words == "int":
        got = c.em.op(f"ashr i64 {c.em.op(f'shl i64 {got}, 32')}, 32")
        return Value(INT, got, -(1 << 31), (1 << 31) - 1)
    if words == "u64" or "*" in words:
        return Value(INT, got, 0, U64)
    return Value(INT, got, S64_MIN, S64_MAX)
