"""``bpf.ResSpinLock``: a lock that notices deadlocks and gives up after a time (Linux 6.15).

Where it is not taken the block of its ``with`` is skipped.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from skep.lang.owned import call
from skep.lang.values import Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

NAME: Final = "bpf_res_spin_lock"


def enter(c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value]:
    """Take the lock; (it, whether it was taken)."""
    c.may_lock(node)
    got = call(c, NAME, [f"ptr {v.ir}"], node)
    c.hold()
    return v, c.boolean(c.em.op(f"icmp eq i32 {got}, 0"))


def leave(c: Walker, v: Value, node: ast.AST) -> None:
    """Release it."""
    call(c, "bpf_res_spin_unlock", [f"ptr {v.ir}"], node, locked=True)
    c.released()
