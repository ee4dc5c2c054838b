"""Loads, stores and atomics with their bounds checks.

Sizes are in bytes. Every check leaves a fact behind (this base, these offsets are inside), which spares
later checks in the blocks it dominates.
"""

from __future__ import annotations

from typing import Final

from skep.isa import opcodes as op
from skep.jit import kinds
from skep.jit.body import OUT_OF_BOUNDS, UNALIGNED, Body, Value
from skep.jit.loops import Access, Tracker

#: Bytes between the starts of two frames in the shared area: a frame, and as much that belongs to nobody.
STRIDE: Final = 1024
STACK: Final = op.STACK_SIZE

#: (region, name of the offset without its constant part) -> lowest and end of the constants known inside
Facts = dict[tuple[int, str], tuple[int, int]]

_RMW: Final = {
    op.BPF_ADD: "add",
    op.BPF_OR: "or",
    op.BPF_AND: "and",
    op.BPF_XOR: "xor",
    op.BPF_XCHG & ~op.BPF_FETCH: "xchg",
}


class Memory:
    """Accesses of one function.

    The function's text defines ``%ctx`` and ``%ctx_len``; ``%frame`` if it has a frame of its own, the
    lowest byte; ``%area`` and ``%top`` (bytes in use by live frames) if ``area`` is true.
    """

    __slots__ = ("area", "body", "checks", "facts", "places", "skip", "tracker", "uses_ctx_int")

    def __init__(self, body: Body, *, checks: bool, area: bool) -> None:
        self.body = body
        self.checks = checks
        #: some frame of the program lies in the shared area
        self.area = area
        self.facts: Facts = {}
        self.uses_ctx_int = False
        #: told of every access while a loop's careful copy is emitted
        self.tracker: Tracker | None = None
        #: slots whose accesses a loop's guard has vouched for
        self.skip: frozenset[int] = frozenset()
        #: address -> its slot, for those accesses
        self.places: dict[str, int] = {}

    # --- addresses as numbers

    def integer(self, kind: int, value: Value) -> Value:
        """The address that (kind, value) means, as an i64."""
        if kind == kinds.INT:
            return value
        body = self.body
        if kind == kinds.CTX:
            self.uses_ctx_int = True
            return "%ctx_int" if value == 0 else body.op(f"add i64 %ctx_int, {value}")
        if kind == kinds.AREA:
            return body.op(f"add i64 %area_int, {value}")
        return body.op(f"add i64 %frame_int, {body.add(value, STACK)}")

    def convert(self, have: int, want: int, value: Value) -> Value:
        """``value`` of kind ``have`` as kind ``want`` (its region, for an own frame)."""
        have, want = kinds.region(have), kinds.region(want)
        if have == want:
            return value
        if want == kinds.AREA and have == kinds.FRAME:
            base = self.body.add(value, STACK)
            return self.body.op(f"add i64 %own, {base}")
        if want == kinds.INT:
            return self.integer(have, value)
        raise AssertionError(f"a value of kind {have} cannot become {want}")

    # --- one access

    def pointer(self, kind: int, value: Value, off: int, size: int, pc: int, *, atomic: bool = False) -> str:
        """The checked ``ptr`` for ``size`` bytes at ``value + off``."""
        body = self.body
        if kinds.is_fixed(kind):
            start = kinds.fixed_offset(kind) + off + STACK
            if self.checks and not 0 <= start <= STACK - size:
                body.stop(OUT_OF_BOUNDS, pc)
                start = 0
            elif atomic and self.checks and start % size:
                body.stop(UNALIGNED, pc)
            return body.op(f"getelementptr i8, ptr %frame, i64 {start}")
        region = kinds.region(kind)
        if region == kinds.INT:
            return self._unknown(value, off, size, pc, atomic)
        if region == kinds.FRAME:
            off += STACK
        if self.tracker is not None:
            self._tell(region, value, off, size, pc)
        checked = self.checks and pc not in self.skip
        at = self._inside(region, value, off, size, pc) if checked else body.add(value, off)
        if atomic and self.checks:
            self._aligned(at, size, pc)
        base = ("", "%ctx", "%area", "%frame")[region]
        pointer = body.op(f"getelementptr {'inbounds ' if self.checks else ''}i8, ptr {base}, i64 {at}")
        if not checked:
            self.places[pointer] = pc
        return pointer

    def _tell(self, region: int, value: Value, off: int, size: int, pc: int) -> None:
        """Let the tracker know of an access at ``value + off`` in ctx or the own frame."""
        assert self.tracker is not None
        if region == kinds.AREA:
            return
        form = self.tracker.form(value)
        if form is not None:
            form = form._replace(const=form.const + off)
        length: Value = "%ctx_len" if region == kinds.CTX else STACK
        self.tracker.accesses[pc] = Access(form, size, length)

    def _aligned(self, at: Value, size: int, pc: int) -> None:
        body = self.body
        if size == 1:
            return
        if isinstance(at, int):
            if at % size:
                body.stop(UNALIGNED, pc)
            return
        rest = body.op(f"and i64 {at}, {size - 1}")
        body.require(body.op(f"icmp eq i64 {rest}, 0"), UNALIGNED, pc)

    def _known(self, region: int, value: Value, off: int, size: int) -> bool:
        """Whether earlier checks cover the access; notes it as covered from now on."""
        key = (region, value) if isinstance(value, str) else (region, "")
        low = off if isinstance(value, str) else value + off
        have = self.facts.get(key)
        if have is None:
            self.facts[key] = (low, low + size)
            return False
        if have[0] <= low and low + size <= have[1]:
            return True
        hull = (min(have[0], low), max(have[1], low + size))
        # Two accesses inside one region vouch for what is between them. In the shared area they may be in
        # two frames (then at least 514 bytes apart); a bare number may even mean two regions.
        apart = region == kinds.INT or (region == kinds.AREA and hull[1] - hull[0] > STACK)
        self.facts[key] = (low, low + size) if apart else hull
        return False

    def _inside(self, region: int, value: Value, off: int, size: int, pc: int) -> Value:
        """The offset ``value + off``, after checking that ``size`` bytes from it lie in the region."""
        body = self.body
        at = body.add(value, off)
        if self._known(region, value, off, size):
            return at
        if region == kinds.CTX:
            if isinstance(at, int):
                if at < 0:
                    body.stop(OUT_OF_BOUNDS, pc)
                else:
                    body.require(body.op(f"icmp ugt i64 %ctx_len, {at + size - 1}"), OUT_OF_BOUNDS, pc)
            else:
                body.require(self._in_ctx(at, size), OUT_OF_BOUNDS, pc)
        elif region == kinds.FRAME:
            body.require(body.op(f"icmp ult i64 {at}, {STACK - size + 1}"), OUT_OF_BOUNDS, pc)
        else:
            body.require(self._in_frames(at, size), OUT_OF_BOUNDS, pc)
        return at

    def _in_ctx(self, at: Value, size: int) -> str:
        """The i1 that ``size`` bytes at offset ``at`` lie within ctx.

        Both ends are tested, instead of the start against the length less ``size - 1``: that needs no
        care for short contexts, and it is the form that LLVM proves from a loop's own condition.
        """
        body = self.body
        first = body.op(f"icmp ult i64 {at}, %ctx_len")
        if size == 1:
            return first
        last = body.op(f"icmp ult i64 {body.add(at, size - 1)}, %ctx_len")
        return body.op(f"and i1 {first}, {last}")

    def _in_frames(self, at: Value, size: int) -> str:
        """The i1 that ``size`` bytes at offset ``at`` of the shared area lie within one live frame."""
        body = self.body
        within = body.op(f"and i64 {at}, {STRIDE - 1}")
        fits = body.op(f"icmp ult i64 {within}, {STACK - size + 1}")
        live = body.op(f"icmp ult i64 {at}, %top")
        return body.op(f"and i1 {fits}, {live}")

    def _unknown(self, value: Value, off: int, size: int, pc: int, atomic: bool) -> str:
        """An address of which only the number is known: it may be in ctx, or in a shared frame."""
        body = self.body
        if not self.checks:
            at = body.add(value, off)
            return body.op(f"inttoptr i64 {at} to ptr")
        self.uses_ctx_int = True
        in_ctx = body.op(f"sub i64 {value}, %ctx_int")
        if not self.area:
            # No frame's address is known to anybody, so only ctx can be meant.
            if self.tracker is not None:
                self.tracker.note(op.BPF_SUB, 64, value, "%ctx_int", in_ctx)
                self._tell(kinds.CTX, in_ctx, off, size, pc)
            checked = pc not in self.skip
            at = self._inside(kinds.CTX, in_ctx, off, size, pc) if checked else body.add(in_ctx, off)
            if atomic:
                self._aligned(at, size, pc)
            pointer = body.op(f"getelementptr inbounds i8, ptr %ctx, i64 {at}")
            if not checked:
                self.places[pointer] = pc
            return pointer
        at_ctx = body.add(in_ctx, off)
        ok_ctx = self._in_ctx(at_ctx, size)
        in_area = body.op(f"sub i64 {value}, %area_int")
        at_area = body.add(in_area, off)
        if not self._known(kinds.INT, value, off, size):
            ok_area = self._in_frames(at_area, size)
            body.require(body.op(f"or i1 {ok_ctx}, {ok_area}"), OUT_OF_BOUNDS, pc)
        if atomic:
            self._aligned(body.op(f"select i1 {ok_ctx}, i64 {at_ctx}, i64 {at_area}"), size, pc)
        ctx = body.op(f"getelementptr i8, ptr %ctx, i64 {at_ctx}")
        area = body.op(f"getelementptr i8, ptr %area, i64 {at_area}")
        return body.op(f"select i1 {ok_ctx}, ptr {ctx}, ptr {area}")

    # --- what is done at the address

    def load(self, pointer: str, size: int, *, sign: bool) -> Value:
        """The ``size`` bytes at ``pointer`` (little-endian) extended to 64 bits."""
        body = self.body
        if size == 8:
            return body.op(f"load i64, ptr {pointer}, align 1")
        raw = body.op(f"load i{size * 8}, ptr {pointer}, align 1")
        if sign:
            return body.op(f"sext i{size * 8} {raw} to i64")
        if size == 4:
            return body.widen(raw)
        wide = body.op(f"zext i{size * 8} {raw} to i64")
        body.narrow[wide] = (raw, size * 8)
        return wide

    def narrow(self, value: Value, size: int) -> Value:
        """The low ``size`` bytes of an i64 as an integer of that width."""
        if size == 8:
            return value
        if size == 4:
            return self.body.low32(value)
        if isinstance(value, int):
            bits = size * 8
            number = value & (1 << bits) - 1
            return number - (1 << bits) if number >> (bits - 1) else number
        raw, bits = self.body.narrow.get(value, ("", 0))
        return raw if bits == size * 8 else self.body.op(f"trunc i64 {value} to i{size * 8}")

    def store(self, pointer: str, value: Value, size: int) -> None:
        """Store the low ``size`` bytes of ``value``."""
        self.body.do(f"store i{size * 8} {self.narrow(value, size)}, ptr {pointer}, align 1")

    def load_acquire(self, pointer: str, size: int) -> Value:
        bits = size * 8
        raw = self.body.op(f"load atomic i{bits}, ptr {pointer} acquire, align {size}")
        return raw if size == 8 else self.body.op(f"zext i{bits} {raw} to i64")

    def store_release(self, pointer: str, value: Value, size: int) -> None:
        narrow = self.narrow(value, size)
        self.body.do(f"store atomic i{size * 8} {narrow}, ptr {pointer} release, align {size}")

    def compare_exchange(self, pointer: str, old: Value, new: Value, size: int) -> Value:
        """BPF_CMPXCHG: what was there before, zero-extended."""
        body, ty = self.body, f"i{size * 8}"
        pair = body.op(
            f"cmpxchg ptr {pointer}, {ty} {self.narrow(old, size)}, {ty} {self.narrow(new, size)}"
            f" seq_cst seq_cst, align {size}"
        )
        raw = body.op(f"extractvalue {{ {ty}, i1 }} {pair}, 0")
        return raw if size == 8 else body.widen(raw)

    def modify(self, pointer: str, imm: int, value: Value, size: int) -> Value:
        """The other atomic operations: what was there before, zero-extended."""
        body, ty = self.body, f"i{size * 8}"
        order = "seq_cst" if imm & op.BPF_FETCH else "monotonic"
        name = _RMW[imm & ~op.BPF_FETCH]
        raw = body.op(
            f"atomicrmw {name} ptr {pointer}, {ty} {self.narrow(value, size)} {order}, align {size}"
        )
        return raw if size == 8 or not imm & op.BPF_FETCH else body.widen(raw)
