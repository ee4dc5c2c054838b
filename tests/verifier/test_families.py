"""Programs of kernel functions, callbacks, iterators, objects: our verdict against the live kernel's.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many; ``python -m tests.verifier.long
--families`` is the long form.
"""

from __future__ import annotations

import os

import pytest

from skep.isa import opcodes as op
from tests.support import oracles
from tests.verifier import families
from tests.verifier.families import world
from tests.verifier.harness import differ
from tests.verifier.harness.kernel import lab

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 5


@pytest.mark.live
def test_verdicts() -> None:
    oracles.bpf()
    print(f"SKEP_SEED={SEED}")
    tally = differ.Tally()
    shown: list[str] = []
    first = SEED * 1_000_000 + 100_000
    made = ((seed, families.question(seed)) for seed in range(first, first + COUNT))
    with lab() as live:
        for name, question, found in differ.run(live, made, tally):
            if len(shown) < 4:
                small = differ.shrunk(live, question, found, families.fit)
                shown.append(differ.text(small, differ.compare(live, small), name))
    report = tally.table() + "\n\n" + "\n".join(shown)
    print(report)
    assert tally.accepted > 0.4 * COUNT and tally.rejected > 0.15 * COUNT, report
    assert not tally.kinds[differ.UNSAFE], report
    assert not tally.kinds[differ.BROKEN], report
    assert tally.kinds[differ.STRICT] <= 0.01 * tally.accepted, report


@pytest.mark.live
def test_what_is_made() -> None:
    """The families reach the kernel functions, instructions and program types they are for."""
    oracles.bpf()
    made = [one for seed in range(500) if (one := families.question(seed)) is not None]
    kfuncs = {name for one in made for _, name in one.kfuncs}
    helpers = {i.imm for one in made for i in one.insns if i.opcode == op.CALL and not i.src}
    opcodes = {insn.opcode for one in made for insn in one.insns}
    assert {
        "bpf_task_acquire", "bpf_cpumask_create", "bpf_rcu_read_lock", "bpf_obj_new_impl",
        "bpf_rbtree_add_impl",
        "bpf_list_push_front_impl", "bpf_iter_num_new", "bpf_iter_bits_new", "bpf_iter_task_vma_new",
        "bpf_dynptr_slice", "bpf_throw", "bpf_arena_alloc_pages", "bpf_local_irq_save",
        "bpf_refcount_acquire_impl",
    } <= kfuncs  # fmt: skip
    assert {93, 94, 148, 164, 169, 170, 181, 194, 197, 201, 209} <= helpers
    assert op.MAY_GOTO in opcodes
    assert {hook.prog_type for hook in world.HOOKS} == {one.prog_type for one in made}
    assert any(name.startswith("trusted") for one in made for _, name in one.functions)
    assert [families.question(seed) for seed in range(20)] == [families.question(seed) for seed in range(20)]
