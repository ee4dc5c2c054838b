"""The function that a thrown exception ends in: named by a tag of the main program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.btf import types as t

if TYPE_CHECKING:
    from skep.verifier.env import Env

_TAG: Final = "exception_callback:"
_GLOBAL: Final = 1


def callback_start(env: Env) -> int:
    """The slot where the program's exception callback starts, 0 without one."""
    subject = env.subject
    btf = subject.btf
    main = subject.funcs.get(0)
    if btf is None or main is None or not main.btf_id:
        return 0
    names = [
        row[1][len(_TAG) :]
        for row in btf
        if row[0] == t.DECL_TAG and row[2] == main.btf_id and row[3] == -1 and row[1].startswith(_TAG)
    ]
    if not names:
        return 0
    if len(names) > 1:
        env.reject("multiple exception callback tags for main subprog")
    found = btf.find(names[0], t.FUNC)
    if found is None:
        env.reject(f"exception callback '{names[0]}' could not be found in BTF")
    if btf[found][3] != _GLOBAL:
        env.reject(f"exception callback '{names[0]}' must have global linkage")
    start = next((slot for slot, row in subject.funcs.items() if row.btf_id == found), 0)
    if not start and found == main.btf_id:
        env.reject("invalid exception callback insn_off in func_info: 0")
    return start


def throws(env: Env, btf_id: int, module: int) -> bool:
    """Whether a call of a kernel function is bpf_throw."""
    if module:
        return False
    row = env.subject.kfunc(btf_id, 0)
    return row is not None and row.name == "bpf_throw"
