"""Maps that are no tables: queues, rings, stack traces, arrays of programs, sockets and devices, storage."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from skep.lang import references
from skep.lang.aggregates import StructStorage
from skep.lang.arena import ArenaType
from skep.lang.arguments import named
from skep.lang.cgroup_storage import CgroupStorageType
from skep.lang.layout import Storage
from skep.lang.maps import MapType, Table
from skep.lang.values import OPTIONAL, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.bpf.maps import Map
    from skep.lang.walk import Walker

_ERRNO = -4095


def _flags(c: Walker, given: dict[str, Value], node: ast.AST, default: int = 0) -> str:
    return c.as_int(given["flags"], node, "flags").ir if "flags" in given else str(default)


class QueueType(MapType):
    """Queues and stacks: push, pop, peek."""

    def do_push(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Whether there was room (flags=bpf.BPF_EXIST makes some)."""
        given = named(c, "push", ("value", "flags"), 1, args, kwargs, node)
        address = self.value_address(c, given["value"], node)
        got = c.helper(87, [f"ptr {v.ir}", f"ptr {address}", f"i64 {_flags(c, given, node)}"])
        return c.boolean(c.em.op(f"icmp eq i64 {got}, 0"))

    def do_pop(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        return self._take(c, v, 88, "pop", args, kwargs, node)

    def do_peek(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        return self._take(c, v, 89, "peek", args, kwargs, node)

    def _take(
        self,
        c: Walker,
        v: Value,
        helper: int,
        name: str,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.AST,
    ) -> Value:
        named(c, name, (), 0, args, kwargs, node)
        of = c.unit.maps.value(self.map)
        room = c.buffer(of.size, max(8, of.align), ("pop", c.scope.prefix, id(node)))
        c.zero(room, of.size, 8)
        got = c.helper(helper, [f"ptr {v.ir}", f"ptr {room}"])
        there = c.em.op(f"icmp eq i64 {got}, 0")
        if of.scalar:
            return Value(OPTIONAL, obj=(there, c.as_int(of.load(c, room, node), node)))
        address = c.em.op(f"select i1 {there}, ptr {room}, ptr null")
        return Value(PtrType(of, "stack", nullable=True), address)


class BloomType(MapType):
    """A bloom filter: ``push`` and ``in``."""

    do_push = do_add = QueueType.do_push

    def contains(self, c: Walker, v: Value, item: Value, node: ast.AST) -> Value:
        got = c.helper(89, [f"ptr {v.ir}", f"ptr {self.value_address(c, item, node)}"])
        return c.boolean(c.em.op(f"icmp eq i64 {got}, 0"))


class Reservation(Type):
    """What ``with ring.reserve() as e`` enters: submitted at the end of the block."""

    name = "a reservation"

    def __init__(self, ring: RingType, of: Storage) -> None:
        self.ring = ring
        self.of = of

    def enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        there = c.boolean(c.em.op(f"icmp ne ptr {v.ir}, null"))
        flag = c.em.slot("i1", ("discard", c.scope.prefix, id(node)))
        return Value(Entered(self.of, c.depth(), flag), v.ir), there

    def begin(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        assert isinstance(entered.type, Entered)
        c.em.do(f"store i1 false, ptr {entered.type.flag}")
        c.zero(entered.ir, self.of.size, 8)

    def skipped(self, c: Walker, v: Value, node: ast.AST) -> None:
        self.ring.count_lost(c)

    def exit(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        done = c.label("sent")
        if isinstance(entered.type, Entered) and entered.type.discarded:
            away, keep = c.label("away"), c.label("keep")
            c.em.cond(c.em.op(f"load i1, ptr {entered.type.flag}"), away, keep)
            c.em.place(away)
            c.em.do(f"call void inttoptr (i64 133 to ptr)(ptr {entered.ir}, i64 0)")
            c.em.br(done)
            c.em.place(keep)
        c.em.do(f"call void inttoptr (i64 132 to ptr)(ptr {entered.ir}, i64 {v.obj or '0'})")
        c.em.br(done)
        c.em.place(done)

    def dropped(self, c: Walker, v: Value, node: ast.AST) -> None:
        raise c.error(node, "what is reserved must be submitted", "with ring.reserve() as e: ...")

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        raise c.error(node, "a reservation is used in 'with'", "with ring.reserve() as e: ...")

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        raise c.error(node, "a reservation is used in 'with'", "with ring.reserve() as e: ...")


class Entered(PtrType):
    """A record in the ring: zero where nothing is stored."""

    def __init__(self, of: Storage, depth: int, flag: str) -> None:
        super().__init__(of, "ring")
        #: where it is noted that the record is not to be sent, and whether anything notes it
        self.flag = flag
        self.discarded = False
        #: fields that still are zero, as long as no loop inside the block is entered
        self.untouched = set(of.fields) if isinstance(of, StructStorage) else set()
        self.depth = depth

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        if name in self.untouched and c.depth() == self.depth and isinstance(self.of, StructStorage):
            self.untouched.discard(name)
            address = c.offset(v.ir, self.of.field(c, name, node).offset)
            c.zeroed = address
            self.of.ref_set_attr(c, Value(self, v.ir, obj=address), name, new, node)
            c.zeroed = ""
            return
        self.untouched.discard(name)
        super().set_attr(c, v, name, new, node)

    def escapes(self) -> None:
        self.untouched.clear()

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        self.untouched.discard(name)  # what is inside may be written through the reference
        return super().attr(c, v, name, node)


def discard(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.ringbuf_discard(e)``: at the end of its block the record is thrown away."""
    e = named(c, "bpf.ringbuf_discard", ("record", "flags"), 1, args, kwargs, node)["record"]
    if not isinstance(e.type, Entered):
        raise c.error(
            node,
            f"bpf.ringbuf_discard() takes what a ring has reserved, not {e.type.name}",
            "with ring.reserve() as e: ... bpf.ringbuf_discard(e)",
        )
    e.type.discarded = True
    c.em.do(f"store i1 true, ptr {e.type.flag}")
    return c.none()


class RingType(MapType):
    """A ring buffer."""

    def _record(self, c: Walker, given: dict[str, Value], node: ast.AST) -> Storage:
        record = getattr(self.map, "record", None)
        if "type" in given:
            record = given["type"].obj
        if record is None:
            raise c.error(
                node, f"{self.symbol} has no record type", f"{self.symbol} = bpf.RingBuf(T), or reserve(T)"
            )
        return c.unit.storage(record, c, node)

    def do_reserve(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        given = named(c, "reserve", ("type", "flags"), 0, args, kwargs, node)
        of = self._record(c, given, node)
        flags = c.as_int(given["flags"], node).ir if "flags" in given else "0"
        got = c.em.op(f"call align 8 ptr inttoptr (i64 131 to ptr)(ptr {v.ir}, i64 {of.size}, i64 0)")
        return Value(Reservation(self, of), got, obj=flags)

    def do_output(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Copy a record (or its first ``size`` bytes) into the ring; whether there was room."""
        given = named(c, "output", ("value", "flags", "size"), 1, args, kwargs, node)
        address, size = _record(c, given, self.symbol, getattr(self.map, "record", None), node)
        got = c.helper(130, [f"ptr {v.ir}", f"ptr {address}", f"i64 {size}", f"i64 {_flags(c, given, node)}"])
        good, lost, done = c.label("sent"), c.label("lost"), c.label("out")
        fine = c.em.op(f"icmp eq i64 {got}, 0")
        c.em.cond(fine, good, lost)
        c.em.place(lost)
        self.count_lost(c)
        c.em.br(done)
        c.em.place(good)
        c.em.br(done)
        c.em.place(done)
        return c.boolean(fine)

    def do_query(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """How much waits, in bytes (bpf.BPF_RB_AVAIL_DATA), or another of the ring's numbers."""
        given = named(c, "query", ("flags",), 0, args, kwargs, node)
        return c.int(c.helper(134, [f"ptr {v.ir}", f"i64 {_flags(c, given, node)}"]), 0, (1 << 64) - 1)


def _record(c: Walker, given: dict[str, Value], ring: str, record: object, node: ast.AST) -> tuple[str, str]:
    """(address, bytes) of something that is sent as it lies in memory, through a ring with such records."""
    value = given["value"]
    kind = value.type
    if not isinstance(kind, PtrType):
        raise c.error(c.blamed(value, node), f"{kind.name} has no place in memory", "send a struct")
    if kind.nullable:
        c.refuse_none(value, node)
    if isinstance(record, type) and isinstance(kind.of, StructStorage):
        of = c.unit.storage(record, c, node)
        if not kind.of.same(of):
            raise c.error(
                c.blamed(value, node),
                f"{ring} has records of type {of.name}, this is {kind.of.name}",
                f"send {of.name}, or declare the ring without a type where its records differ",
            )
    return value.ir, c.sized(kind.of.size, given.get("size"), node)


class UserRingType(MapType):
    """A ring that user space fills."""

    def do_drain(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Call ``function(record, context)`` for what waits, until it gives True; how many, or an error."""
        from skep.lang import callbacks

        given = named(c, "drain", ("function", "context", "flags"), 1, args, kwargs, node)
        along = callbacks.given_along(given.get("context"))
        fn = callbacks.callback(c, given["function"], node, "user_ringbuf_drain", ("any", along))
        context = callbacks.context(c, given.get("context"), node)
        flags = _flags(c, given, node)
        return c.int(c.helper(209, [f"ptr {v.ir}", f"ptr {fn}", context, f"i64 {flags}"]), _ERRNO, 1 << 17)


class PerfType(MapType):
    """A perf event array."""

    def do_output(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Copy a record (or its first ``size`` bytes) into this CPU's buffer; whether there was room."""
        given = named(c, "output", ("value", "flags", "size"), 1, args, kwargs, node)
        if not c.ctx:
            raise c.error(
                node,
                "output() needs the program's context",
                "call it in the program, or in a function that is inlined there",
            )
        address, size = _record(c, given, self.symbol, getattr(self.map, "record", None), node)
        flags = _flags(c, given, node, 0xFFFFFFFF)
        got = c.helper(25, [f"ptr {c.ctx}", f"ptr {v.ir}", f"i64 {flags}", f"ptr {address}", f"i64 {size}"])
        return c.boolean(c.em.op(f"icmp eq i64 {got}, 0"))

    def do_read(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """The counter in a slot (flags: its index, by default this processor's)."""
        given = named(c, "read", ("flags",), 0, args, kwargs, node)
        return c.int(
            c.helper(22, [f"ptr {v.ir}", f"i64 {_flags(c, given, node, 0xFFFFFFFF)}"]), 0, (1 << 64) - 1
        )


class StackType(MapType):
    """Stack traces."""

    def do_id(self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        """The id of the stack here, negative when it cannot be stored."""
        given = named(c, "id", ("flags",), 0, args, kwargs, node)
        if not c.ctx:
            raise c.error(
                node,
                "id() needs the program's context",
                "call it in the program, or in a function that is inlined there",
            )
        got = c.helper(27, [f"ptr {c.ctx}", f"ptr {v.ir}", f"i64 {_flags(c, given, node)}"])
        return c.int(got, _ERRNO, 0xFFFFFFFF)


class ProgType(MapType):
    """An array of programs to jump to."""

    def do_call(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Jump to a program. What follows runs only when the slot is empty (or after 33 jumps)."""
        given = named(c, "tail_call", ("index",), 1, args, kwargs, node)
        if not c.ctx:
            raise c.error(
                node,
                "a tail call needs the program's context",
                "call it in the program, or in a function that is inlined there",
            )
        if any(scope.withs for scope in c.scopes):
            raise c.error(
                node, "a tail call inside 'with' would never leave the block", "call it after the block"
            )
        references.leaving(c, node, "here, and a tail call does not come back")
        index = c.as_int(given["index"], node, "an index")
        number = c.em.op(f"trunc i64 {index.ir} to i32") if index.const is None else str(index.const)
        return c.int(c.helper(12, [f"ptr {c.ctx}", f"ptr {v.ir}", f"i32 {number}"]), _ERRNO, 0)

    def do_tail_call(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """`call`, as the helper and other languages spell it: with the context first, or without."""
        if len(args) + len(kwargs) == 2:
            args = args[1:]
            kwargs = {name: value for name, value in kwargs.items() if name != "ctx"}
        return self.do_call(c, v, args, kwargs, node)


class RedirectType(MapType):
    """Devices, processors, AF_XDP sockets: where packets are sent."""

    def do_redirect(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """The verdict that sends the packet to an entry; ``flags`` is also the verdict when it is empty."""
        given = named(c, "redirect", ("key", "flags"), 1, args, kwargs, node)
        key = c.as_int(given["key"], node, "a key")
        return c.int(
            c.helper(51, [f"ptr {v.ir}", f"i64 {key.ir}", f"i64 {_flags(c, given, node)}"]), 0, 0xFFFFFFFF
        )

    def contains(self, c: Walker, v: Value, item: Value, node: ast.AST) -> Value:
        got = c.em.op(f"call ptr inttoptr (i64 1 to ptr)(ptr {v.ir}, ptr {self.key_address(c, item, node)})")
        return c.boolean(c.em.op(f"icmp ne ptr {got}, null"))


class SockType(MapType):
    """Sockets by index or key. Which redirection there is depends on the program: sk_msg or sk_skb."""

    def do_redirect(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        given = named(c, "redirect", ("key", "flags"), 1, args, kwargs, node)
        hook = c.program.section.removeprefix("?") if c.program is not None else ""
        hashed = self.map.kind == "sockhash"
        if hook.startswith("sk_msg"):
            number = 71 if hashed else 60
        elif hook.startswith("sk_skb"):
            number = 72 if hashed else 52
        else:
            raise c.error(node, "messages are redirected by sk_msg and sk_skb programs", "decorate it so")
        key = c.as_int(given["key"], node).ir if not hashed else self.key_address(c, given["key"], node)
        operand = f"ptr {key}" if hashed else f"i32 {c.em.op(f'trunc i64 {key} to i32')}"
        flags = _flags(c, given, node)
        return c.int(c.helper(number, [f"ptr {c.ctx}", f"ptr {v.ir}", operand, f"i64 {flags}"]), 0, 1)

    def do_get(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """The socket at a key or None: to be given back with bpf.sk_release()."""
        from skep.lang.contexts import ContextRef, section_of

        key = self.key_address(c, named(c, "get", ("key",), 1, args, kwargs, node)["key"], node)
        got = c.em.op(f"call ptr inttoptr (i64 1 to ptr)(ptr {v.ir}, ptr {key})")
        sock = Value(ContextRef("bpf_sock", section_of(c, node), nullable=True, context=False), got)
        return references.socket(c, sock, node, f"{self.symbol}.get")

    do_lookup = do_get

    def do_delete(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Take a socket out; whether there was one."""
        key = self.key_address(c, named(c, "delete", ("key",), 1, args, kwargs, node)["key"], node)
        return c.boolean(c.em.op(f"icmp eq i64 {c.helper(3, [f'ptr {v.ir}', f'ptr {key}'])}, 0"))

    def del_item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> None:
        self.do_delete(c, v, [index], {}, node)

    def set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        from skep.lang.contexts import ContextRef

        if not isinstance(new.type, ContextRef) or new.type.context:
            raise c.error(
                node, f"{self.symbol}[...] holds sockets, not {new.type.name}", "sk = skb.sk; test it first"
            )
        if new.type.nullable:
            c.refuse_none(new, node)
        c.helper(2, [f"ptr {v.ir}", f"ptr {self.key_address(c, index, node)}", f"ptr {new.ir}", "i64 0"])

    def do_update(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Put the socket of a sockops program into the map."""
        given = named(c, "update", ("key", "flags"), 1, args, kwargs, node)
        number = 70 if self.map.kind == "sockhash" else 53
        key = self.key_address(c, given["key"], node)
        got = c.helper(number, [f"ptr {c.ctx}", f"ptr {v.ir}", f"ptr {key}", f"i64 {_flags(c, given, node)}"])
        return c.int(got, _ERRNO, 0)

    def do_select(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Choose a listening socket (sk_reuseport)."""
        given = named(c, "select", ("key", "flags"), 1, args, kwargs, node)
        key = self.key_address(c, given["key"], node)
        got = c.helper(82, [f"ptr {c.ctx}", f"ptr {v.ir}", f"ptr {key}", f"i64 {_flags(c, given, node)}"])
        return c.int(got, _ERRNO, 0)


class CgroupType(MapType):
    """Cgroups by index."""

    def do_holds_current(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Whether the current task is in the cgroup at an index, or below it."""
        given = named(c, "holds_current", ("index",), 1, args, kwargs, node)
        index = c.as_int(given["index"], node)
        got = c.helper(37, [f"ptr {v.ir}", f"i64 {index.ir}"])
        return c.boolean(c.em.op(f"icmp eq i64 {got}, 1"))


_STORAGE = {
    "sk_storage": (107, 108),
    "task_storage": (156, 157),
    "inode_storage": (145, 146),
    "cgrp_storage": (210, 211),
}


_OWNERS = {
    "sk_storage": "sock",
    "task_storage": "task_struct",
    "inode_storage": "inode",
    "cgrp_storage": "cgroup",
}


class StorageType(MapType):
    """Values that belong to a socket, task, inode or cgroup."""

    def _owner(self, c: Walker, owner: Value, node: ast.AST, helper: int) -> str:
        """The operand of the object; refuses what the verifier does not know as one, and other programs."""
        from skep.lang.contexts import ContextRef
        from skep.lang.core_refs import KernelRef
        from skep.lang.helpers import check
        from skep.lang.kernel_types import KStruct
        from skep.uapi.helpers import helpers

        check(c, helper, helpers()[helper].name, node)
        want = _OWNERS[self.map.kind]
        kind = owner.type
        if kind.nullable:
            c.refuse_none(owner, node)
        if isinstance(kind, ContextRef) and self.map.kind == "sk_storage" and not kind.context:
            return owner.ir
        if isinstance(kind, KernelRef) and kind.mode == "btf":
            name = kind.kind.local.split("___")[0] if isinstance(kind.kind, KStruct) else ""
            if name == want or (name and self.map.kind == "sk_storage"):  # sockets have many names
                return kind.address(c, owner, node)
        hint = {"task_storage": "bpf.get_current_task_btf()", "sk_storage": "ctx.sk, tested for None"}
        raise c.error(
            node,
            f"the owner is a struct {want} that the verifier follows, and this is {kind.name}",
            hint.get(self.map.kind, "take it from an argument of the program"),
        )

    def _find(self, c: Walker, v: Value, owner: Value, flags: int, node: ast.AST) -> Value:
        get, _ = _STORAGE[self.map.kind]
        at = self._owner(c, owner, node, get)
        got = c.em.op(
            f"call align 8 ptr inttoptr (i64 {get} to ptr)(ptr {v.ir}, ptr {at}, ptr null, i64 {flags})"
        )
        return Value(PtrType(c.unit.maps.value(self.map), "map", nullable=True), got)

    def do_get(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        return self._find(c, v, named(c, "get", ("owner",), 1, args, kwargs, node)["owner"], 0, node)

    def do_create(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """The value of ``owner``, made of zeros when there is none; None when there is no room."""
        return self._find(c, v, named(c, "create", ("owner",), 1, args, kwargs, node)["owner"], 1, node)

    def do_delete(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        owner = named(c, "delete", ("owner",), 1, args, kwargs, node)["owner"]
        delete = _STORAGE[self.map.kind][1]
        got = c.helper(delete, [f"ptr {v.ir}", f"ptr {self._owner(c, owner, node, delete)}"])
        return c.boolean(c.em.op(f"icmp eq i64 {got}, 0"))


class InnerType(Table):
    """A map that a map of maps gave; None until tested."""

    llvm = "ptr"

    def __init__(self, map: Map, symbol: str, nullable: bool = True) -> None:
        super().__init__(map, symbol)
        self.nullable = nullable

    def narrowed(self, v: Value) -> Value:
        return Value(InnerType(self.map, self.symbol, False), v.ir, obj=v.obj, place=v.place)

    def join(self, other: Type) -> Type | None:
        if not isinstance(other, InnerType) or other.map is not self.map:
            return None
        return InnerType(self.map, self.symbol, self.nullable or other.nullable)

    def truth(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return c.boolean(c.em.op(f"icmp ne ptr {v.ir}, null"))

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if self.nullable:
            c.refuse_none(v, node)
        return super().attr(c, v, name, node)

    def find(self, c: Walker, v: Value, key: Value, node: ast.AST) -> str:
        if self.nullable:
            c.refuse_none(v, node)
        return super().find(c, v, key, node)

    def set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        if self.nullable:
            c.refuse_none(v, node)
        super().set_item(c, v, index, new, node)

    def add_item(self, c: Walker, v: Value, index: Value, op: ast.operator, by: Value, node: ast.AST) -> None:
        if self.nullable:
            c.refuse_none(v, node)
        super().add_item(c, v, index, op, by, node)


class OuterType(MapType):
    """A map of maps: ``get`` gives an inner map or None."""

    def do_get(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        given = named(c, "get", ("key",), 1, args, kwargs, node)
        key = self.key_address(c, given["key"], node)
        got = c.em.op(f"call ptr inttoptr (i64 1 to ptr)(ptr {v.ir}, ptr {key})")
        inner = self.map.inner
        assert inner is not None
        if inner.kind in KINDS:
            raise c.error(
                node, f"maps of {type(inner).__name__} are not compiled", "hash tables and arrays are"
            )
        return Value(InnerType(inner, f"{self.symbol}[...]"), got, obj=inner)

    do_lookup = do_get


#: the types of maps that are no tables
KINDS: dict[str, type[MapType]] = {
    "queue": QueueType,
    "stack": QueueType,
    "bloom_filter": BloomType,
    "ringbuf": RingType,
    "user_ringbuf": UserRingType,
    "perf_event_array": PerfType,
    "stack_trace": StackType,
    "prog_array": ProgType,
    "devmap": RedirectType,
    "devmap_hash": RedirectType,
    "cpumap": RedirectType,
    "xskmap": RedirectType,
    "sockmap": SockType,
    "sockhash": SockType,
    "reuseport_sockarray": SockType,
    "cgroup_array": CgroupType,
    "array_of_maps": OuterType,
    "hash_of_maps": OuterType,
    "sk_storage": StorageType,
    "task_storage": StorageType,
    "inode_storage": StorageType,
    "cgrp_storage": StorageType,
    "arena": ArenaType,
    "cgroup_storage": CgroupStorageType,
    "percpu_cgroup_storage": CgroupStorageType,
    "struct_ops": MapType,
}

__all__ = ["KINDS", "StructStorage"]
