"""Loops: iterators, may_goto, functions that the kernel calls back, numbers that grow."""

from __future__ import annotations

from tests.verifier.families.objects import Objects
from tests.verifier.families.writer import OutOfRoom, Statement


class Loops(Objects):
    """Turns whose number the verifier does not count."""

    def choices(self) -> list[tuple[int, Statement]]:
        more: list[tuple[int, Statement]] = []
        if self.loops < 1 or (self.loops < 2 and self.chance(0.2)):
            more += [(6, self.numbers), (3, self.bits), (4, self.may_goto), (3, self.counted_loop)]
            if self.fits("task"):
                more.append((3, self.task_iterator))
            if self.tasks:
                more.append((5, self.vma_iterator))
        if self.frame.kind not in ("timer", "work"):
            more += [(5, self.bpf_loop), (4, self.each), (2, self.drain)]
        if self.tasks:
            more += [(3, self.find_vma)]
        if self.fits("locks") or self.slip():
            more += [(3, self.timer), (2, self.work)]
        return [*super().choices(), *more]

    def _iterate(self, kind: str, size: int, new: Statement, turn: Statement) -> None:
        with self.slots(size) as slot:
            self.slot = slot
            new()
            head, done = self.label(), self.label()
            self.at(head)
            self.address(1, slot)
            self.kfunc(f"bpf_iter_{kind}_next")
            self.test(done)
            self.loops += 1
            turn()
            if self.chance(0.25):
                self.unknown()
                self.say(f"if r0 == 3 goto {done}")
            self.loops -= 1
            self.say(f"goto {head}")
            self.at(done)
            if not self.slip(2):
                self.address(1, slot)
                self.kfunc(f"bpf_iter_{kind}_destroy")

    def numbers(self) -> None:
        """bpf_iter_num; what it gives counts, sums, indexes."""
        most = self.random.choice((4, 8, 16, 48))

        def new() -> None:
            self.address(1, self.slot)
            self.say("r2 = 0", f"r3 = {most}")
            self.kfunc("bpf_iter_num_new")

        if self.chance(0.5):
            self._iterate("num", 8, new, lambda: self.body(2))
            return
        out = self.label()
        with self.register() as value, self.register() as sum:
            self.lookup("plain", out)
            self.say(f"r{value} = r0", f"r{sum} = 0")

            def turn() -> None:
                self.say("r1 = *(u32 *)(r0 +0)")
                over = self.label()
                if not self.slip(3):
                    self.say(f"if r1 >= 48 goto {over}")
                self.say(f"r2 = r{value}", "r2 += r1", "r0 = *(u8 *)(r2 +0)", f"r{sum} += r0")
                self.at(over)
                if self.chance(0.05):
                    skip = self.label()
                    if not self.slip(3):
                        self.say(f"if r{sum} > 40 goto {skip}")
                    self.say(f"r2 = r{value}", f"r2 += r{sum}", "*(u8 *)(r2 +0) = 1")
                    self.at(skip)
                self.body(1)

            self._iterate("num", 8, new, turn)
        self.at(out)

    def bits(self) -> None:
        out = self.label()
        with self.register() as value:
            self.lookup("plain", out)
            self.say(f"r{value} = r0")

            def new() -> None:
                self.address(1, self.slot)
                self.say(
                    f"r2 = r{value}", f"r3 = {self.random.choice((1, 4, 6)) + (1 if self.slip() else 0)}"
                )
                self.kfunc("bpf_iter_bits_new")

            def turn() -> None:
                self.say("r1 = *(u32 *)(r0 +0)")
                self.body(2)

            self._iterate("bits", 16, new, turn)
        self.at(out)

    def task_iterator(self) -> None:
        own = "rcu" not in self.held and not self.fits("btf") and not self.slip()
        if own:
            self.kfunc("bpf_rcu_read_lock")
            self.held.append("rcu")

        def new() -> None:
            self.address(1, self.slot)
            self.say("r2 = 0", f"r3 = {self.random.choice((0, 0, 1))}")
            self.kfunc("bpf_iter_task_new")

        def turn() -> None:
            with self.register() as task:
                self.say(f"r{task} = r0")
                self.tasks.append(task)
                self.body(2)
                self.tasks.remove(task)

        self._iterate("task", 24, new, turn)
        if own:
            self.held.remove("rcu")
            self.kfunc("bpf_rcu_read_unlock")

    def vma_iterator(self) -> None:
        if not self.tasks:
            raise OutOfRoom

        def new() -> None:
            self.address(1, self.slot)
            self.say(f"r2 = r{self.random.choice(self.tasks)}", "r3 = 0")
            self.kfunc("bpf_iter_task_vma_new")

        def turn() -> None:
            self.say("r1 = *(u64 *)(r0 +0)", "r2 = *(u64 *)(r0 +8)")
            self.body(1)

        self._iterate("task_vma", 8, new, turn)

    def may_goto(self) -> None:
        head, done = self.label(), self.label()
        out = self.label()
        with self.register() as count:
            indexing = self.frame.free and self.chance(0.5)
            self.say(f"r{count} = 0")
            self.at(head)
            self.say(f"may_goto {done}")
            self.loops += 1
            if indexing:
                with self.register() as value:
                    self.lookup("plain", done)
                    self.say(f"r{value} = r0")
                    if not self.slip(3):
                        self.say(f"if r{count} > 40 goto {done}")
                    self.say(f"r1 = r{value}", f"r1 += r{count}", "r0 = *(u8 *)(r1 +0)")
            self.body(2)
            self.loops -= 1
            self.say(f"r{count} += {self.random.choice((1, 1, 2, 8))}")
            if self.chance(0.3):
                self.say(f"if r{count} == {self.random.choice((4, 40))} goto {done}")
            self.say(f"goto {head}")
            self.at(done)
        self.at(out)

    def counted_loop(self) -> None:
        head = self.label()
        with self.register() as count:
            self.say(f"r{count} = 0")
            self.at(head)
            self.loops += 1
            self.body(1)
            self.loops -= 1
            self.say(f"r{count} += 1", f"if r{count} < {self.random.choice((2, 3, 5))} goto {head}")

    # --- called back ----------------------------------------------------------------------------

    def bpf_loop(self) -> None:
        def write() -> None:
            out = self.label()
            with self.register() as index, self.register() as ctx:
                self.say(f"r{index} = r1", f"r{ctx} = r2")
                how = self.random.randrange(4)
                if how == 0:
                    self.say(f"r0 = *(u64 *)(r{ctx} +0)", "r0 += 1", f"*(u64 *)(r{ctx} +0) = r0")
                elif how == 1:
                    self.lookup("plain", out)
                    self.say(f"r1 = r{index}")
                    if not self.slip(3):
                        self.say(f"if r1 > 40 goto {out}")
                    self.say("r0 += r1", "*(u8 *)(r0 +0) = 1")
                elif how == 2 and self.slip(6):
                    self.say(f"r0 = *(u64 *)(r{ctx} +8)")
                self.body(2)
            self.at(out)
            self.end(0, 1)

        out = self.label()
        with self.slots(8) as slot:
            name = self.function("loop", write)
            if name is None:
                raise OutOfRoom
            with self.register() as kept:
                indexing = self.chance(0.4)
                if indexing:
                    self.lookup("plain", out)
                    self.say(f"r{kept} = r0")
                self.say(f"*(u64 *)(r10 {slot}) = {self.random.randrange(4)}")
                self.say(f"r1 = {self.random.choice((0, 1, 10, 1000))}", f"r2 = func {name}")
                self.address(3, slot)
                self.say("r4 = 0", "call bpf_loop")
                self.say(f"r1 = *(u64 *)(r10 {slot})")
                if indexing:
                    if not self.slip(3):
                        self.say(f"if r1 > 40 goto {out}")
                    self.say(f"r{kept} += r1", f"r0 = *(u8 *)(r{kept} +0)")
        self.at(out)

    def each(self) -> None:
        name_of_map = self.random.choice(("plain", "hash"))

        def write() -> None:
            out = self.label()
            with self.register() as value, self.register() as ctx:
                self.say(f"r{value} = r3", f"r{ctx} = r4")
                if self.chance(0.5):
                    self.say(f"r0 = *(u32 *)(r2 +{0 if not self.slip(3) else 8})")
                self.body(2)
                self.touch(value, 48 if name_of_map == "plain" else 16, out)
                if self.chance(0.4):
                    self.say(f"r0 = *(u64 *)(r{ctx} +0)", "r0 += 2", f"*(u64 *)(r{ctx} +0) = r0")
            self.at(out)
            self.end(0, 1)

        with self.slots(8) as slot:
            name = self.function("each", write)
            if name is None:
                raise OutOfRoom
            self.say(f"*(u64 *)(r10 {slot}) = 0", f"r1 = map {name_of_map}", f"r2 = func {name}")
            self.address(3, slot)
            self.say(f"r4 = {0 if not self.slip() else 1}", "call bpf_for_each_map_elem")

    def drain(self) -> None:
        def write() -> None:
            self.say("r6 = r1")
            self.frame.free.remove(6)
            with self.slots(8) as slot:
                if self.chance(0.7):
                    self.address(1, slot)
                    self.say("r2 = 8", "r3 = r6", "r4 = 0", "r5 = 0", "call bpf_dynptr_read")
                if self.chance(0.4):
                    out = self.label()
                    self.say("r1 = r6", "r2 = 0", "r3 = 8", "call bpf_dynptr_data")
                    self.test(out)
                    self.say("r0 = *(u64 *)(r0 +0)")
                    self.at(out)
                self.body(1)
            self.end(0, 1)

        name = self.function("drain", write)
        if name is None:
            raise OutOfRoom
        self.say("r1 = map asked", f"r2 = func {name}", "r3 = 0", "r4 = 0", "call bpf_user_ringbuf_drain")

    def find_vma(self) -> None:
        def write() -> None:
            self.say(f"r0 = *(u64 *)(r2 +{0 if not self.slip(3) else 4})", "r0 = *(u32 *)(r1 +44)")
            self.body(1)
            self.end(0, 1)

        with self.slots(8) as slot:
            name = self.function("vma", write)
            if name is None:
                raise OutOfRoom
            self.say(f"*(u64 *)(r10 {slot}) = 0", f"r1 = r{self.tasks[-1]}", "r2 = 0", f"r3 = func {name}")
            self.address(4, slot)
            self.say("r5 = 0", "call bpf_find_vma")

    def timer(self) -> None:
        def write() -> None:
            out = self.label()
            with self.register() as value:
                self.say(f"r{value} = r3")
                self.body(2)
                self.say(f"r1 = r{value}", f"r1 += {16 if not self.slip() else 8}", "r0 = *(u64 *)(r1 +8)")
                if self.chance(0.3):
                    self.say(f"r1 = r{value}", "r2 = 1000", "r3 = 0", "call bpf_timer_start")
            self.at(out)
            self.end(0, 0)

        out = self.label()
        with self.register() as value:
            name = self.function("timer", write) if self.chance(0.8) else None
            self.lookup("timers", out)
            self.say(f"r{value} = r0")
            if self.chance(0.8):
                which = "timers" if not self.slip(2) else "works"
                self.say(f"r1 = r{value}", f"r2 = map {which}", "r3 = 1", "call bpf_timer_init")
            if name is not None:
                self.say(f"r1 = r{value}", f"r2 = func {name}", "call bpf_timer_set_callback")
            self.say(
                f"r1 = r{value}",
                "r2 = 1000",
                "r3 = 0",
                f"call {self.random.choice(('bpf_timer_start', 'bpf_timer_start', 'bpf_timer_cancel'))}",
            )
        self.at(out)

    def work(self) -> None:
        def write() -> None:
            self.body(2)
            self.end(0, 0)

        out = self.label()
        with self.register() as value:
            name = self.function("work", write)
            if name is None:
                raise OutOfRoom
            self.lookup("works", out)
            self.say(
                f"r{value} = r0",
                f"r1 = r{value}",
                f"r2 = map {'works' if not self.slip(2) else 'timers'}",
                "r3 = 0",
            )
            self.kfunc("bpf_wq_init")
            self.say(f"r1 = r{value}", f"r2 = func {name}", "r3 = 0", "r4 = 0")
            self.kfunc("bpf_wq_set_callback_impl")
            self.say(f"r1 = r{value}", "r2 = 0")
            self.kfunc("bpf_wq_start")
        self.at(out)
