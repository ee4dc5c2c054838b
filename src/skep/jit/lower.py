"""A program as LLVM IR text.

The main program becomes one function, subprograms internal ones beside it:

    i64 @NAME(ptr ctx, i64 ctx_len, ptr pkt, i64 pkt_len, ptr state)

``ctx``/``ctx_len`` is the memory that r1 and r2 give to the program, ``pkt``/``pkt_len`` what LD_ABS and
LD_IND read. ``state`` points to three words: the budget left (i64, read once); where and why the program was
stopped (i64: reason << 32 | slot, written only then; 0 before the call); the helper table (ptr to functions
``i64 (i64, i64, i64, i64, i64, ptr state)``, in the order of ``helpers``). A program without helper calls,
jumps back and subprograms reads nothing of it. Lengths are below 2**47; the budget below 2**63.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from skep.isa import Insn
from skep.isa import opcodes as op
from skep.jit import cfg, kinds
from skep.jit.emit import FunctionEmitter
from skep.jit.insns import Plan, parameters, result_type
from skep.jit.liveness import Liveness

#: What every module that holds lowered programs must contain once.
DECLARATIONS: Final = """\
declare i16 @llvm.bswap.i16(i16)
declare i32 @llvm.bswap.i32(i32)
declare i64 @llvm.bswap.i64(i64)
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.usub.sat.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
!7001 = !{!"branch_weights", i32 2000, i32 1}
!7002 = !{}
!7003 = !{!"branch_weights", i32 1, i32 2000}
!7004 = distinct !{!7004, !7005, !7006}
!7005 = !{!"llvm.loop.vectorize.enable", i1 false}
!7006 = !{!"llvm.loop.unroll.disable"}
"""

#: Of functions with vectors. Longer ones than 256 bits, stored across cache lines, cost more than they bring.
_VECTORS: Final = '"prefer-vector-width"="256" "min-legal-vector-width"="256" '
_LENGTH: Final = f"i64 range(i64 0, {1 << 47})"
_ABI: Final = f"ptr %ctx, {_LENGTH} %ctx_len, ptr %pkt, {_LENGTH} %pkt_len, ptr noalias %state"


#: With more loops or functions than this, the time of LLVM's own pipelines grows like their square.
_MAX_LOOPS: Final = 40
_MAX_CALLEES: Final = 400


class Lowered(NamedTuple):
    """A program's IR, and what the choice of an optimisation level wants to know of it."""

    text: str
    #: instructions, counted in each function that has them
    size: int
    #: LLVM's loop vectoriser or inliner may find something, in a time worth it
    rewarding: bool
    #: some loop has but one copy, which LLVM should turn so that it is tested at its end
    turning: bool


def lower(
    insns: Sequence[Insn],
    *,
    name: str = "prog",
    helpers: Sequence[int] = (),
    checks: bool = True,
    budget: bool = True,
    blind: bool = False,
    attributes: str = "",
    declarations: bool = True,
) -> Lowered:
    """LLVM IR of a program that `skep.isa.validate` accepts.

    ``helpers`` are the numbers of the helper table, in its order. ``checks=False`` leaves out bounds checks
    (for programs that a verifier has passed), ``budget=False`` the counting of jumps back. ``blind`` hides
    the program's constants behind random masks (against code smuggled in as constants). ``attributes`` go to
    the main function (``alwaysinline``, with ``internal`` before it for linkage). ``declarations=False``
    leaves out `DECLARATIONS`, for a module that has them already.

    Raises:
        DecodeError: code that needs a kernel (see docs/machine.md).
        CompileError: subprograms that share code without bounds.
    """
    cfg.refuse_foreign(insns)
    starts = cfg.subprogram_starts(insns)
    blocks = cfg.blocks_of(insns, starts)
    functions = _functions(insns, blocks, starts, name)
    pays = budget and any(function.pays for function in functions.values())
    liveness = Liveness(insns, functions, budget=pays)
    analysis = kinds.Analysis(insns, functions)
    plan = Plan(
        insns,
        functions,
        liveness,
        analysis,
        {number: index for index, number in enumerate(helpers)},
        checks,
        pays,
        _too_deep(functions),
        bool(analysis.escapes),
        blind,
    )
    linkage = "internal " if "internal" in attributes.split() else ""
    rest = " ".join(word for word in attributes.split() if word != "internal")
    parts = []
    rewarding = 0
    turning = False
    for key, function in functions.items():
        emitter = FunctionEmitter(plan, key)
        text = emitter.text()
        how = _VECTORS if emitter.vectors else ""
        if function.is_main:
            parts.append(f"define {linkage}i64 @{name}({_ABI}) nounwind {how}{rest} ")
        else:
            signature = _ABI
            if plan.area:
                signature += ", ptr %area, i64 %top_in"
            if plan.depth:
                signature += ", i64 %depth"
            for reg in parameters(plan, key):
                signature += f", i64 %{'budget' if reg == cfg.BUDGET else f'a{reg}'}"
            parts.append(
                f"define internal fastcc {result_type(plan, key)} @{function.name}({signature})"
                f" nounwind {how}"
            )
        parts.append(text)
        rewarding += emitter.rewarding()
        turning = turning or emitter.turning()
    if declarations:
        parts.append(DECLARATIONS)
    worth = (
        (rewarding > 0 or len(functions) > 1) and rewarding <= _MAX_LOOPS and len(functions) <= _MAX_CALLEES
    )
    size = sum(block.at + 1 - block.start for f in functions.values() for block in f.blocks.values())
    return Lowered("".join(parts), size, worth, turning)


def _functions(
    insns: Sequence[Insn], blocks: dict[int, cfg.Block], starts: Sequence[int], name: str
) -> dict[int, cfg.Function]:
    """The main program (key -1) and every subprogram that it can reach, by first slot."""
    functions = {-1: cfg.function_of(insns, blocks, 0, is_main=True, name=name)}
    total = functions[-1].slots
    work = sorted(functions[-1].calls, reverse=True)
    while work:
        entry = work.pop()
        if entry in functions:
            continue
        function = cfg.function_of(insns, blocks, entry, is_main=False, name=f"{name}.f{entry}")
        functions[entry] = function
        work += sorted((callee for callee in function.calls if callee not in functions), reverse=True)
        total += function.slots
        cfg.check_size(total, len(functions))
    ends = [*starts[1:], len(insns)]
    lengths = {start: end - start for start, end in zip(starts, ends, strict=True)}
    for function in functions.values():
        function.length = lengths[function.entry]
    return functions


def _too_deep(functions: dict[int, cfg.Function]) -> bool:
    """Whether calls may nest deeper than `MAX_FRAMES`: a longer chain of callees, or a ring."""
    depth: dict[int, int] = {}
    for _ in range(op.MAX_FRAMES + 1):
        depth = {
            key: 1 + max((depth.get(callee, 0) for callee in function.calls), default=0)
            for key, function in functions.items()
        }
    return depth[-1] > op.MAX_FRAMES
