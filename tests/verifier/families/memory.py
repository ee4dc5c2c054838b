"""Memory with rules of its own: dynptrs, records, arenas, maps in maps, user space, arguments."""

from __future__ import annotations

from tests.verifier.families.loops import Loops
from tests.verifier.families.writer import OutOfRoom, Statement


class Memory(Loops):
    """Dynptrs and their slices, typed arguments, exceptions."""

    def choices(self) -> list[tuple[int, Statement]]:
        more: list[tuple[int, Statement]] = [
            (4, self.local), (4, self.record), (3, self.nested), (5, self.call), (3, self.random_stack),
        ]  # fmt: skip
        if self.fits("skb", "xdp") and self.frame is self.main:
            more += [(6, self.packet)]
        if self.fits("sleep"):
            more += [(4, self.user), (4, self.arena)]
        if self.fits("task", "objects", "skb"):
            more += [(1, self.throw)]
        return [*super().choices(), *more]

    def _use(self, slot: int, size: int, writable: bool = True) -> None:
        """One of the things that are done with a dynptr."""
        rng = self.random
        how = rng.randrange(7)
        out = self.label()
        size += rng.choice((1, 64)) if self.slip() else 0
        if how == 0:
            with self.slots(8) as buffer:
                self.address(1, buffer)
                self.say("r2 = 8")
                self.address(3, slot)
                self.say("r4 = 0", "r5 = 0", "call bpf_dynptr_read")
        elif how == 1 and (writable or self.slip()):
            with self.slots(8) as buffer:
                self.say(f"*(u64 *)(r10 {buffer}) = 7")
                self.address(1, slot)
                self.say("r2 = 0")
                self.address(3, buffer)
                self.say("r4 = 8", "r5 = 0", "call bpf_dynptr_write")
        elif how == 2:
            self.address(1, slot)
            self.say("r2 = 0", f"r3 = {size}", "call bpf_dynptr_data")
            self.test(out)
            self.say("r0 = *(u8 *)(r0 +0)")
        elif how == 3:
            with self.slots(16) as buffer, self.register() as slice:
                self.address(1, slot)
                self.say("r2 = 0")
                if self.chance(0.8):
                    self.address(3, buffer)
                else:
                    self.say("r3 = 0")
                self.say(f"r4 = {rng.choice((8, 16)) + (8 if self.slip(2) else 0)}")
                write = writable and self.chance(0.4)
                self.kfunc("bpf_dynptr_slice_rdwr" if write else "bpf_dynptr_slice")
                self.test(out)
                self.say(f"r{slice} = r0")
                if self.slip(3):
                    self.body(1)
                self.touch(slice, 8, out, write or self.slip())
        elif how == 4:
            self.address(1, slot)
            self.say("r2 = 1", "r3 = 4")
            self.kfunc("bpf_dynptr_adjust")
        elif how == 5:
            self.address(1, slot)
            self.kfunc(rng.choice(("bpf_dynptr_size", "bpf_dynptr_is_null", "bpf_dynptr_is_rdonly")))
        else:
            with self.slots(16) as clone:
                self.address(1, slot)
                self.address(2, clone)
                self.kfunc("bpf_dynptr_clone")
                self.address(1, clone)
                self.kfunc("bpf_dynptr_size")
        self.at(out)

    def local(self) -> None:
        """A dynptr over a value."""
        out = self.label()
        with self.register() as value, self.slots(16) as slot:
            self.lookup("plain", out)
            self.say(f"r{value} = r0", f"r1 = r{value}", f"r2 = {48 if not self.slip() else 64}", "r3 = 0")
            self.address(4, slot)
            self.say("call bpf_dynptr_from_mem")
            for _ in range(self.random.randrange(4)):
                self._use(slot, 16)
            self.body(1)
            if self.slip(2):
                self.say(f"*(u64 *)(r10 {slot}) = 0")
                self._use(slot, 16)
        self.at(out)

    def packet(self) -> None:
        with self.slots(16) as slot:
            self.say("r1 = r6", "r2 = 0")
            self.address(3, slot)
            self.kfunc("bpf_dynptr_from_xdp" if self.fits("xdp") != self.slip() else "bpf_dynptr_from_skb")
            for _ in range(self.random.randrange(4)):
                self._use(slot, 8, self.fits("write"))
            self.body(1)

    def record(self) -> None:
        """A record of a ring buffer, of a size known or not."""
        out = self.label()
        if self.chance(0.5):
            with self.register() as record:
                self.say("r1 = map records", "r2 = 16", "r3 = 0", "call bpf_ringbuf_reserve")
                self.test(out)
                self.say(f"r{record} = r0")
                self.body(2)
                self.say(f"*(u64 *)(r{record} +{8 if not self.slip() else 16}) = 1")
                if not self.slip(2):
                    self.say(
                        f"r1 = r{record}",
                        "r2 = 0",
                        f"call bpf_ringbuf_{self.random.choice(('submit', 'discard'))}",
                    )
            self.at(out)
            return
        with self.slots(16) as slot:
            self.unknown(2)
            self.say("r1 = map records", "r3 = 0")
            self.address(4, slot)
            self.say("call bpf_ringbuf_reserve_dynptr")
            if self.chance(0.3):
                self.say(f"if r0 s< 0 goto {out}")
            for _ in range(self.random.randrange(3)):
                self._use(slot, 8)
            self.body(1)
            self.at(out)
            if not self.slip(2):
                self.address(1, slot)
                self.say("r2 = 0", f"call bpf_ringbuf_{self.random.choice(('submit', 'discard'))}_dynptr")
            if self.slip(2):
                self._use(slot, 8)

    def nested(self) -> None:
        """A value of a map that a map holds."""
        out = self.label()
        with self.register() as inner:
            self.lookup(self.random.choice(("outer", "outers")), out)
            self.say(f"r{inner} = r0")
            if self.slip(2):
                self.say(f"r0 = *(u64 *)(r{inner} +0)")
            with self.slots(8) as key:
                self.say(f"*(u64 *)(r10 {key}) = 0")
                self.address(2, key)
                self.say(f"r1 = r{inner}", "call bpf_map_lookup_elem")
                self.test(out)
                self.say(f"r{inner} = r0")
                self.touch(inner, 16, out)
        self.at(out)

    def user(self) -> None:
        """User space copied to the stack or to a value."""
        with self.slots(32) as buffer:
            self.unknown(3)
            self.address(1, buffer)
            self.say(f"r2 = {self.random.choice((8, 32, 16)) + (8 if self.slip(2) else 0)}")
            if self.chance(0.6):
                self.say("call bpf_copy_from_user")
            else:
                self.say("r4 = 0")
                self.kfunc("bpf_copy_from_user_str")
            if self.chance(0.5):
                self.say(f"r0 = *(u64 *)(r10 {buffer})")

    def arena(self) -> None:
        out = self.label()
        with self.register() as page:
            if self.chance(0.6):
                self.say("r1 = map arena", "r2 = 0", "r3 = 1", "r4 = -1", "r5 = 0")
                self.kfunc("bpf_arena_alloc_pages")
                self.say(f"r{page} = r0")
                if self.chance(0.5):
                    self.say(f"if r{page} == 0 goto {out}")
            else:
                self.say("r1 = map arena")
                self.unknown(page) if self.chance(0.5) else self.say(
                    f"r{page} = {self.random.randrange(4096)}"
                )
            if not self.slip(2):
                self.say(f"r{page} = addr_space_cast(r{page}, 0, 1)")
            for _ in range(self.random.randrange(4)):
                how = self.random.randrange(6)
                if how == 0:
                    self.say(f"*(u64 *)(r{page} +{self.random.choice((0, 8, 4096))}) = 5")
                elif how == 1:
                    self.say(f"r0 = *(u32 *)(r{page} +4)", f"r{page} += r0")
                elif how == 2:
                    self.say(f"r{page} = *(u64 *)(r{page} +0)", f"r{page} = addr_space_cast(r{page}, 0, 1)")
                elif how == 3:
                    self.say(f"r{page} += 64")
                elif how == 4:
                    self.body(1)
                else:
                    self.say(f"r{page} = addr_space_cast(r{page}, 1, 0)", f"r0 = r{page}")
                    break
        self.at(out)

    def random_stack(self) -> None:
        """Stack written and read at an index."""
        out = self.label()
        with self.slots(32) as slot:
            if not self.slip(2):
                for n in range(0, 32, 8):
                    self.say(f"*(u64 *)(r10 {slot + n:+}) = {n}")
            self.unknown(1)
            self.below(1, 31, out)
            self.address(2, slot)
            self.say("r2 += r1")
            self.say("r0 = *(u8 *)(r2 +0)" if self.chance(0.6) else "*(u8 *)(r2 +0) = 3")
            self.at(out)

    def throw(self) -> None:
        out = self.label()
        self.unknown()
        self.say(f"if r0 != 77 goto {out}", f"r1 = {self.random.choice((0, 0, 0, 2))}")
        self.kfunc("bpf_throw")
        self.at(out)

    # --- functions verified apart ---------------------------------------------------------------

    def call(self) -> None:
        """A global function with typed arguments."""
        kinds = ["number", "memory", "nonnull", "number"]
        if self.frame is self.main and not self.fits("sleep"):
            kinds.append("context")
        if self.fits("task"):
            kinds += ["trusted", "nullable"]
        if self.fits("sleep"):
            kinds.append("arena")
        kind = self.random.choice(kinds)
        getattr(self, f"_call_{kind}")(kind)

    def _function(self, kind: str, first: Statement) -> str:
        def write() -> None:
            first()
            self.body(2)
            self.end(0, 7)

        name = self.function(kind, write)
        if name is None:
            raise OutOfRoom
        return name

    def _call_number(self, kind: str) -> None:
        def first() -> None:
            out = self.label()
            with self.register() as number:
                self.say(f"r{number} = r{self.random.choice((1, 2))}")
                self.lookup("plain", out)
                self.say(f"r1 = r{number}")
                self.below(1, 40, out)
                self.say("r0 += r1", "r0 = *(u8 *)(r0 +0)")
            self.at(out)

        name = self._function(kind, first)
        self.unknown(2)
        self.say("r1 = 5", f"call {name}")
        if self.chance(0.3):
            out = self.label()
            with self.register() as number:
                self.say(f"r{number} = r0")
                self.lookup("plain", out)
                self.below(number, 40, out)
                self.say(f"r0 += r{number}", "r0 = *(u8 *)(r0 +0)")
            self.at(out)

    def _memory_argument(self, register: int, out: str) -> None:
        how = self.random.randrange(4)
        if how == 0:
            with self.slots(24 if not self.slip(2) else 8) as slot:
                for n in range(0, 24, 8):
                    if not self.slip():
                        self.say(f"*(u64 *)(r10 {slot + n:+}) = {n}")
                self.address(register, slot)
        elif how == 1:
            self.lookup("plain", out)
            self.say(f"r{register} = r0")
            if self.chance(0.5):
                self.say(f"r{register} += {self.random.choice((8, 24, 24)) + (8 if self.slip(2) else 0)}")
        elif how == 2:
            self.lookup("hash" if self.slip(3) else "plain", out)
            self.say(f"r{register} = r0")
        else:
            self.say(
                f"r{register} = 0" if self.slip(3) or self.chance(0.5) else "r1 = r10", f"r{register} = 0"
            )

    def _memory_body(self, maybe_null: bool) -> Statement:
        def first() -> None:
            out = self.label()
            with self.register() as memory:
                self.say(f"r{memory} = r1")
                if maybe_null:
                    self.test(out, memory)
                self.touch(memory, 24, out)
                self.body(1)
                self.touch(memory, 24, out)
            self.at(out)

        return first

    def _call_memory(self, kind: str) -> None:
        out = self.label()
        name = self._function(kind, self._memory_body(kind == "memory"))
        self._memory_argument(1, out)
        self.say("r2 = 1", f"call {name}")
        self.at(out)

    _call_nonnull = _call_memory

    def _call_context(self, kind: str) -> None:
        def first() -> None:
            with self.register() as ctx:
                self.say(f"r{ctx} = r1")
                if self.hook.numbers:
                    offset, size = self.random.choice(self.hook.numbers)
                    self.say(f"r0 = *(u{8 * size} *)(r{ctx} +{offset})")
                elif self.fits("btf"):
                    self.say(f"r0 = *(u64 *)(r{ctx} +8)")
                self.body(1)

        name = self._function(kind, first)
        self.say(f"r1 = r{6 if not self.slip(3) else 10}", "r2 = 0", f"call {name}")

    def _call_trusted(self, kind: str) -> None:
        def first() -> None:
            out = self.label()
            with self.register() as task:
                self.say(f"r{task} = r1")
                if kind == "nullable":
                    self.test(out, task)
                self.tasks.append(task)
                self.walk()
                self.body(2)
                self.tasks.remove(task)
            self.at(out)

        name = self._function(kind, first)
        if not self.trusted(1):
            if kind == "nullable" or self.slip(3):
                self.say("r1 = 0")
            else:
                raise OutOfRoom
        self.say(f"call {name}")

    _call_nullable = _call_trusted

    def _call_arena(self, kind: str) -> None:
        def first() -> None:
            self.say("r0 = *(u64 *)(r1 +0)", f"*(u64 *)(r1 +{self.random.choice((8, 4096))}) = 1")

        name = self._function(kind, first)
        self.say("r1 = map arena", "r1 = 4096", "r1 = addr_space_cast(r1, 0, 1)", "r2 = 0", f"call {name}")
