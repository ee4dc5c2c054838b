"""Programs of kernel functions, callbacks, iterators, objects: what we accept, the running kernel accepts.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many. What we reject is not shown to a
running kernel: Linux 6.18 itself falls over some of it (a function where bpf_wq_init takes a map is one).
`tests.verifier.long --families` asks an emulated kernel about all.
"""

from __future__ import annotations

import os

import pytest

from skep.asm import disassemble
from skep.isa import opcodes as op
from tests.support import oracles
from tests.verifier import families
from tests.verifier.families import world
from tests.verifier.harness.kernel import lab
from tests.verifier.harness.ours import judge

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 5
#: instructions; longer programs count as rejected
MOST = 50_000


@pytest.mark.live
def test_what_we_accept_linux_accepts() -> None:
    oracles.bpf()
    print(f"SKEP_SEED={SEED}")
    accepted = rejected = 0
    first = SEED * 1_000_000 + 100_000
    with lab() as live:
        for seed in range(first, first + COUNT):
            question = families.question(seed)
            if question is None:
                continue
            ours = judge(question, max_insns=MOST)
            if not ours.accepted:
                rejected += 1
                continue
            accepted += 1
            theirs = live.ask(question)
            assert theirs.accepted, (seed, theirs.reason, disassemble(question.insns))
    print(f"{accepted} accepted, {rejected} rejected")
    assert accepted > 0.4 * COUNT and rejected > 0.15 * COUNT


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
