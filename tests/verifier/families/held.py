"""What is taken and given back: tasks, cgroups, masks of processors; RCU, preemption, interrupts."""

from __future__ import annotations

from tests.verifier.families.world import offset
from tests.verifier.families.writer import OutOfRoom, Statement, Writer

_TASK = (("real_parent", 8), ("group_leader", 8), ("parent", 8), ("last_wakee", 8))
_NUMBERS = (("pid", 4), ("tgid", 4), ("flags", 4), ("start_time", 8))


class Held(Writer):
    """Acquire and release, and walks over what is held."""

    def choices(self) -> list[tuple[int, Statement]]:
        more: list[tuple[int, Statement]] = []
        if self.fits("task"):
            more += [(6, self.task), (4, self.mask), (5, self.rcu), (2, self.cgroup)]
        if self.fits("irq", "task"):
            more += [(2, self.preempt), (2, self.interrupts)]
        if self.tasks or (self.fits("btf") and self.frame is self.main):
            more.append((8, self.walk))
        return [*super().choices(), *more]

    def trusted(self, register: int) -> bool:
        """Put a trusted task into a register, if there is one."""
        if self.tasks and self.chance(0.7):
            self.say(f"r{register} = r{self.random.choice(self.tasks)}")
            return True
        if self.fits("btf") and self.frame is self.main:
            self.say(f"r{register} = *(u64 *)(r6 +{self.random.choice((0, 8)) + (8 if self.slip() else 0)})")
            return True
        return False

    def task(self) -> None:
        out = self.label()
        with self.register() as task:
            if self.chance(0.5) and self.trusted(1):
                self.kfunc("bpf_task_acquire")
            elif self.chance(0.3):
                self.say("call bpf_get_current_task_btf", "r1 = r0")
                self.kfunc("bpf_task_acquire")
            else:
                self.say(f"r1 = {self.random.randrange(5)}")
                self.kfunc("bpf_task_from_pid")
            early = self.chance(0.5)
            if early:
                self.test(out)
            self.say(f"r{task} = r0")
            if not early:
                self.test(out, task)
            self.tasks.append(task)
            self.body(2)
            if self.chance(0.4):
                self.walk()
            if task in self.tasks:
                self.tasks.remove(task)
                if not self.slip(2):
                    self.say(f"r1 = r{task}")
                    self.kfunc("bpf_task_release")
                if self.slip(2):
                    self.say(f"r0 = *(u32 *)(r{task} +{offset('task_struct', 'pid')})")
        self.at(out)

    def walk(self) -> None:
        """Pointers followed from a task to tasks, to its files, cgroups, memory."""
        rng = self.random
        with self.register() as at:
            if not self.trusted(at):
                return
            for _ in range(rng.randrange(4)):
                name, _size = rng.choice(_TASK)
                self.say(
                    f"r{at} = *(u64 *)(r{at} +{offset('task_struct', name) + (4 if self.slip() else 0)})"
                )
                how = rng.random()
                if how < 0.3:
                    skip = self.label()
                    self.say(
                        f"if r{at} == 0 goto {skip}", f"r0 = *(u32 *)(r{at} +{offset('task_struct', 'pid')})"
                    )
                    self.at(skip)
                elif how < 0.4:
                    self.say(f"r1 = r{at}")
                    self.kfunc("bpf_task_acquire")
                    out = self.label()
                    self.say(f"if r0 == 0 goto {out}", "r1 = r0")
                    self.kfunc("bpf_task_release")
                    self.at(out)
            name, size = rng.choice(_NUMBERS)
            how = rng.randrange(6)
            if how < 3:
                size = rng.choice((size, size, size, 1, 2, 8))
                self.say(f"r0 = *(u{8 * size} *)(r{at} +{offset('task_struct', name)})")
            elif how == 3:
                self.say(f"r1 = *(u64 *)(r{at} +{offset('task_struct', 'cgroups')})")
                skip = self.label()
                if self.chance(0.5):
                    self.say(f"if r1 == 0 goto {skip}")
                self.say(f"r1 = *(u64 *)(r1 +{offset('css_set', 'dfl_cgrp')})")
                self.say(f"r0 = *(u32 *)(r1 +{offset('cgroup', 'level')})")
                self.at(skip)
            elif how == 4:
                self.say(f"r1 = *(u64 *)(r{at} +{offset('task_struct', 'mm')})")
                self.say(f"r0 = *(u64 *)(r1 +{offset('mm_struct', 'mmap_base')})")
            else:
                self.say(f"r1 = r{at}", f"r1 += {offset('task_struct', 'comm')}")
                self.say(f"r0 = *(u8 *)(r1 +{rng.choice((0, 5, 15, 15, 16))})")
            if self.slip():
                self.say(f"*(u64 *)(r{at} +{offset('task_struct', 'pid')}) = 0")

    def mask(self) -> None:
        """A mask of processors: made, changed, compared, kept, given back."""
        out = self.label()
        with self.register() as mask:
            self.kfunc("bpf_cpumask_create")
            self.test(out)
            self.say(f"r{mask} = r0")
            for _ in range(self.random.randrange(4)):
                how = self.random.randrange(6)
                if how < 2:
                    self.say(f"r1 = {self.random.randrange(9)}", f"r2 = r{mask}")
                    self.kfunc(self.random.choice(("bpf_cpumask_set_cpu", "bpf_cpumask_clear_cpu")))
                elif how == 2:
                    self.say(f"r1 = {self.random.randrange(9)}", f"r2 = r{mask}")
                    self.kfunc("bpf_cpumask_test_cpu")
                elif how == 3:
                    self.say(f"r1 = r{mask}", f"r2 = r{mask}", f"r3 = r{mask}")
                    self.kfunc(self.random.choice(("bpf_cpumask_and", "bpf_cpumask_or")))
                elif how == 4 and self.trusted(2):
                    self.say(f"r2 = *(u64 *)(r2 +{offset('task_struct', 'cpus_ptr')})", f"r1 = r{mask}")
                    self.kfunc("bpf_cpumask_copy")
                else:
                    self.say(f"r1 = r{mask}")
                    self.kfunc(
                        self.random.choice(("bpf_cpumask_first", "bpf_cpumask_weight", "bpf_cpumask_setall"))
                    )
            self.body(1)
            if not self.slip(2):
                self.say(f"r1 = r{mask}")
                self.kfunc("bpf_cpumask_release")
        self.at(out)

    def cgroup(self) -> None:
        out = self.label()
        with self.register() as group:
            self.say(f"r1 = {self.random.randrange(3)}")
            self.kfunc("bpf_cgroup_from_id")
            self.test(out)
            self.say(f"r{group} = r0")
            if self.chance(0.4):
                second = self.label()
                self.say(f"r1 = r{group}", "r2 = 1")
                self.kfunc("bpf_cgroup_ancestor")
                self.test(second)
                self.say("r1 = r0")
                self.kfunc("bpf_cgroup_release")
                self.at(second)
            if self.tasks and self.chance(0.4):
                self.say(f"r1 = r{self.tasks[-1]}", f"r2 = r{group}")
                self.kfunc("bpf_task_under_cgroup")
            self.body(1)
            if not self.slip(2):
                self.say(f"r1 = r{group}")
                self.kfunc("bpf_cgroup_release")
        self.at(out)

    def _section(self, name: str, before: str, after: str) -> None:
        if name in self.held and not self.slip(8):
            raise OutOfRoom
        self.kfunc(before)
        self.held.append(name)
        self.body(3)
        self.held.remove(name)
        if not self.slip(2):
            self.kfunc(after)
        if self.slip():
            self.kfunc(after)

    def rcu(self) -> None:
        self._section("rcu", "bpf_rcu_read_lock", "bpf_rcu_read_unlock")

    def preempt(self) -> None:
        self._section("preempt", "bpf_preempt_disable", "bpf_preempt_enable")

    def interrupts(self) -> None:
        with self.slots(8) as slot:
            self.address(1, slot)
            self.kfunc("bpf_local_irq_save")
            self.body(2)
            if not self.slip(2):
                self.address(1, slot)
                self.kfunc("bpf_local_irq_restore")
