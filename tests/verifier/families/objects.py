"""Objects of the program's own: allocated, counted, put into trees and lists under a lock, kept in maps."""

from __future__ import annotations

from tests.verifier.families.held import Held
from tests.verifier.families.writer import OutOfRoom, Statement

#: where a struct of `world` keeps its node
_NODE, _ITEM = 16, 8


class Objects(Held):
    """bpf_obj_new, spin locks, trees, lists, bpf_kptr_xchg."""

    def choices(self) -> list[tuple[int, Statement]]:
        more: list[tuple[int, Statement]] = []
        if self.fits("locks") or self.slip():
            more += [(3, self.locked), (4, self.tree), (4, self.list)]
        if self.fits("task", "objects", "skb"):
            more += [(3, self.plain), (2, self.counted)]
        if self.fits("task"):
            more += [(4, self.kept)]
        if self.fits("task", "objects", "skb"):
            more += [(2, self.kept_own)]
        return [*super().choices(), *more]

    def new(self, struct: str, out: str, register: int) -> None:
        self.say(f"r1 = struct {struct}", "r2 = 0")
        self.kfunc("bpf_obj_new_impl")
        self.test(out)
        self.say(f"r{register} = r0")

    def drop(self, register: int) -> None:
        if not self.slip(2):
            self.say(f"r1 = r{register}", "r2 = 0")
            self.kfunc("bpf_obj_drop_impl")

    def plain(self) -> None:
        out = self.label()
        with self.register() as thing:
            self.new("plain", out, thing)
            self.body(1)
            end = self.label()
            self.touch(thing, 24, end, index=self.slip())
            self.at(end)
            self.drop(thing)
            if self.slip():
                self.say(f"r0 = *(u64 *)(r{thing} +0)")
        self.at(out)

    def counted(self) -> None:
        out, drop = self.label(), self.label()
        with self.register() as first, self.register() as second:
            self.new("shared", out, first)
            self.say(f"r1 = r{first}", "r2 = 0")
            self.kfunc("bpf_refcount_acquire_impl")
            if self.chance(0.5):
                self.test(drop)
            self.say(f"r{second} = r0")
            self.body(1)
            self.say(f"*(u64 *)(r{second} +{64 + (8 if self.slip() else 0)}) = 1")
            self.drop(second)
            self.at(drop)
            self.drop(first)
        self.at(out)

    def lock(self, value: int) -> None:
        self.say(f"r1 = r{value}", "call bpf_spin_lock")

    def unlock(self, value: int) -> None:
        if not self.slip(2):
            self.say(f"r1 = r{value}", "call bpf_spin_unlock")

    def locked(self) -> None:
        """A value's numbers changed under its lock."""
        if "lock" in self.held and not self.slip(8):
            raise OutOfRoom
        out = self.label()
        with self.register() as value:
            self.lookup("locks", out, self.random.randrange(2))
            self.say(f"r{value} = r0")
            self.lock(value)
            self.held.append("lock")
            for _ in range(self.random.randrange(3)):
                self.say(
                    f"r0 = *(u64 *)(r{value} +8)",
                    "r0 += 1",
                    f"*(u64 *)(r{value} +{self.random.choice((8, 16, 24))}) = r0",
                )
            if self.chance(0.3):
                skip = self.label()
                self.say(f"if r0 > 5 goto {skip}", f"*(u32 *)(r{value} +4) = 3")
                if self.chance(0.3):
                    self.say(f"r0 = *(u32 *)(r{value} +0)") if self.slip(4) else None
                self.at(skip)
            if self.slip(4):
                self.body(1)
            self.held.remove("lock")
            self.unlock(value)
        self.at(out)

    def less(self) -> str | None:
        """A function that compares two nodes."""

        def write() -> None:
            a, b = self.random.choice(((1, 2), (2, 1)))
            where = self.random.choice((-16, -8)) + (self.random.choice((16, 1)) if self.slip(2) else 0)
            skip = self.label()
            self.say(
                f"r3 = *(u64 *)(r{a} {where:+})",
                f"r4 = *(u64 *)(r{b} -16)",
                "r0 = 1",
                f"if r3 < r4 goto {skip}",
                "r0 = 0",
            )
            self.at(skip)
            self.say("exit")

        return self.function("less", write)

    def tree(self) -> None:
        """A node put into a tree, or the first taken out."""
        out = self.label()
        with self.register() as value, self.register() as node:
            self.lookup("trees", out, 0)
            self.say(f"r{value} = r0")
            if self.chance(0.55):
                less = self.less()
                if less is None:
                    raise OutOfRoom
                self.new("node", out, node)
                self.say(f"*(u64 *)(r{node} +0) = {self.random.randrange(9)}")
                self.lock(value)
                self.say(
                    f"r1 = r{value}",
                    f"r1 += {8 + (8 if self.slip() else 0)}",
                    f"r2 = r{node}",
                    f"r2 += {_NODE + (8 if self.slip() else 0)}",
                )
                self.say(f"r3 = func {less}", "r4 = 0", "r5 = 0")
                self.kfunc("bpf_rbtree_add_impl")
                if self.chance(0.4):
                    self.say(f"r0 = *(u64 *)(r{node} +8)")
                self.unlock(value)
                if self.slip(2):
                    self.say(f"*(u64 *)(r{node} +8) = 1")
            else:
                give, none = self.label(), self.label()
                self.lock(value)
                self.say(f"r1 = r{value}", "r1 += 8")
                self.kfunc(self.random.choice(("bpf_rbtree_first", "bpf_rbtree_root")))
                self.test(none)
                if self.chance(0.3):
                    self.say("r2 = *(u64 *)(r0 -8)")
                if self.chance(0.3):
                    self.say("r1 = r0")
                    self.kfunc(self.random.choice(("bpf_rbtree_left", "bpf_rbtree_right")))
                    self.test(none)
                self.say(f"r1 = r{value}", "r1 += 8", "r2 = r0")
                self.kfunc("bpf_rbtree_remove")
                self.say(f"r{node} = r0")
                self.unlock(value)
                self.test(give, node)
                if not self.slip():
                    self.say(f"r{node} += -{_NODE}")
                self.say(f"r0 = *(u64 *)(r{node} +8)")
                self.drop(node)
                self.at(give)
                end = self.label()
                self.say(f"goto {end}")
                self.at(none)
                self.unlock(value)
                self.at(end)
        self.at(out)

    def list(self) -> None:
        """An item put into a list, or one taken out."""
        out = self.label()
        with self.register() as value, self.register() as item:
            self.lookup("lists", out, 0)
            self.say(f"r{value} = r0")
            end = self.random.choice(("front", "back"))
            if self.chance(0.5):
                self.new("item", out, item)
                self.say(f"*(u64 *)(r{item} +0) = {self.random.randrange(9)}")
                self.lock(value)
                self.say(
                    f"r1 = r{value}",
                    "r1 += 8",
                    f"r2 = r{item}",
                    f"r2 += {_ITEM + (8 if self.slip() else 0)}",
                    "r3 = 0",
                    "r4 = 0",
                )
                self.kfunc(f"bpf_list_push_{end}_impl")
                self.unlock(value)
                if self.slip(2):
                    self.drop(item)
            else:
                self.lock(value)
                self.say(f"r1 = r{value}", f"r1 += {8 + (8 if self.slip() else 0)}")
                self.kfunc(f"bpf_list_pop_{end}")
                self.say(f"r{item} = r0")
                self.unlock(value)
                self.test(out, item)
                self.say(f"r{item} += -{_ITEM}")
                self.say(f"r0 = *(u64 *)(r{item} +0)")
                self.drop(item)
        self.at(out)

    def kept(self) -> None:
        """A task or a mask exchanged with what a map keeps, or read where it is."""
        out, none = self.label(), self.label()
        with self.register() as value, self.register() as old:
            self.lookup("kept", out, self.random.randrange(2))
            self.say(f"r{value} = r0")
            how = self.random.randrange(3)
            where, acquire, release = self.random.choice(
                (
                    (0, "bpf_task_acquire", "bpf_task_release"),
                    (16, "bpf_cpumask_acquire", "bpf_cpumask_release"),
                )
            )
            if self.slip():
                where ^= 16
            if how == 0:
                self.say(f"r1 = r{value}", f"r1 += {where}", "r2 = 0", "call bpf_kptr_xchg")
            elif how == 1:
                if where:
                    self.kfunc("bpf_cpumask_create")
                else:
                    self.say("r1 = 1")
                    self.kfunc("bpf_task_from_pid")
                self.test(out)
                self.say(f"r1 = r{value}", f"r1 += {where}", "r2 = r0", "call bpf_kptr_xchg")
            else:
                inside = "rcu" not in self.held and self.chance(0.5)
                if inside:
                    self.kfunc("bpf_rcu_read_lock")
                self.say(f"r1 = *(u64 *)(r{value} +{where})")
                skip = self.label()
                self.test(skip, 1)
                self.kfunc(acquire)
                self.say(f"r{old} = r0")
                if inside:
                    self.kfunc("bpf_rcu_read_unlock")
                self.test(out, old)
                self.say(f"r1 = r{old}")
                self.kfunc(release)
                self.say(f"goto {out}")
                self.at(skip)
                if inside:
                    self.kfunc("bpf_rcu_read_unlock")
                self.say(f"goto {out}")
                self.at(none)
                self.at(out)
                return
            self.say(f"r{old} = r0")
            self.test(none, old)
            self.body(1)
            if not self.slip(2):
                self.say(f"r1 = r{old}")
                self.kfunc(release)
            self.at(none)
        self.at(out)

    def kept_own(self) -> None:
        """An object of the program's own exchanged with what a map keeps."""
        out = self.label()
        with self.register() as value, self.register() as thing:
            self.lookup("kept", out, 0)
            self.say(f"r{value} = r0")
            if self.chance(0.6):
                self.new(self.random.choice((*["plain"] * 30, "item")), out, thing)
                self.say(f"r2 = r{thing}")
            else:
                self.say("r2 = 0")
            self.say(f"r1 = r{value}", f"r1 += {8 if not self.slip() else 0}", "call bpf_kptr_xchg")
            self.test(out)
            self.say(f"r{thing} = r0")
            self.drop(thing)
        self.at(out)
