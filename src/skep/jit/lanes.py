"""The third copy of a loop, many elements at a time, as LLVM IR. See `skep.jit.vector`."""

from __future__ import annotations

from typing import Final, NamedTuple

from skep.jit import guard
from skep.jit.body import Body, Value, signed
from skep.jit.vector import Line, Place, Vectors

#: What changes nothing in a sum, where that is not 0.
_NEUTRAL: Final = {"and": -1}


class Done(NamedTuple):
    """Where the vectors end: the label, the registers there, and how many turns remain."""

    label: str
    values: list[Value]
    left: Value


class Lanes:
    """The emission of one loop's vectors."""

    def __init__(self, body: Body, vectors: Vectors) -> None:
        self.body = body
        self.vectors = vectors
        self.lanes = vectors.lanes
        #: lines of the block before the loop
        self.early: list[str] = []
        self.splats: dict[tuple[str, int], str] = {}
        #: name of a scalar -> the vector that stands for it, and its width
        self.values: dict[str, tuple[str, int]] = {}
        #: phi of a sum -> the vector with the sums so far
        self.sums: dict[str, str] = {}
        self.bases: dict[Place, str] = {}
        self.index = ""

    def emit(self, total: Value, first: str, fast: str) -> Done:
        """From the label ``first`` on; to ``fast`` if the loop's ``total`` turns are not for vectors.

        The last block is left open.
        """
        body, vectors, lanes = self.body, self.vectors, self.lanes
        before = vectors.turn.before
        body.start(first)
        starts: dict[Place, Value] = {}
        for place in vectors.places.values():
            if place not in starts:
                starts[place] = guard.start(body, place.form.terms, place.form.const, before)
        ok = body.op(f"icmp {'uge' if vectors.whole else 'ugt'} i64 {total}, {lanes}")
        for one, other in vectors.pairs:
            apart = self._apart(total, one, starts[one], other, starts[other])
            ok = body.op(f"and i1 {ok}, {apart}")
        ahead, loop, end = body.fresh_label(), body.fresh_label(), body.fresh_label()
        body.do(f"br i1 {ok}, label %{ahead}, label %{fast}")
        body.start(ahead)
        for place, start in starts.items():
            base = "%ctx" if place.length == "%ctx_len" else "%frame"
            self.bases[place] = body.op(f"getelementptr inbounds i8, ptr {base}, i64 {start}")
        if vectors.whole:
            last = body.add(total, -lanes)
        else:
            last = body.op(f"and i64 {body.add(total, -1)}, {-lanes}")
        body.lines.append(self.early)
        body.do(f"br label %{loop}")
        body.start(loop)
        self.index, following = body.new(), body.new()
        back = body.fresh_label() if vectors.questions else loop  # the block that jumps back
        body.do(f"{self.index} = phi i64 [ 0, %{ahead} ], [ {following}, %{back} ]")
        slots: dict[str, list[str]] = {}
        for phi in vectors.sums:
            self.sums[phi] = body.new()
            slots[phi] = [self.sums[phi]]
            body.lines.append(slots[phi])
        for line in vectors.lines:
            if vectors.wanted(line):
                self._line(line)
        leaves = self._leaves() if vectors.questions else ""
        if vectors.whole:
            more = body.op(f"icmp ult i64 {self.index}, {last}")
            step = body.op(f"add nuw nsw i64 {self.index}, {lanes}")
            body.do(f"{following} = call i64 @llvm.umin.i64(i64 {step}, i64 {last})")
        else:
            body.do(f"{following} = add nuw nsw i64 {self.index}, {lanes}")
            more = body.op(f"icmp ult i64 {following}, {last}")
        if leaves:
            return self._search(leaves, total, more, (loop, back, end), last)
        body.do(f"br i1 {more}, label %{loop}, label %{end}, !llvm.loop !7004")
        for phi, slot in slots.items():
            found = vectors.sums[phi]
            neutral = _splat(_NEUTRAL.get(found.kind, 0), found.bits)
            slot[0] = (
                f"  {slot[0]} = phi {self._type(found.bits)} [ {neutral}, %{ahead} ],"
                f" [ {self.sums[phi]}, %{loop} ]"
            )
        body.start(end)
        values = list(before)
        if vectors.whole:
            return Done(end, values, 0)
        for reg, step_of in vectors.turn.steps.items():
            values[reg] = body.plus(before[reg], body.times(last, step_of))
        for phi, found in vectors.sums.items():
            values[found.reg] = self._summed(phi, found.bits, found.kind, before[found.reg])
        return Done(end, values, body.op(f"sub i64 {total}, {last}"))

    def _leaves(self) -> str:
        """A bit for each lane, set where its turn leaves the loop."""
        body = self.body
        leaves = ""
        for predicate, bits, line in self.vectors.questions:
            a, b = (self._operand(arg, bits, line.bits) for arg in line.args)
            asked = body.op(f"icmp {predicate} {self._type(bits)} {a}, {b}")
            leaves = body.op(f"or {self._type(1)} {leaves}, {asked}") if leaves else asked
        return body.op(f"bitcast {self._type(1)} {leaves} to i{self.lanes}")

    def _search(
        self, leaves: str, total: Value, more: str, labels: tuple[str, str, str], last: Value
    ) -> Done:
        """The end of a loop that is left where a bit of ``leaves`` is set: on to the first such turn."""
        body, vectors = self.body, self.vectors
        before, bits = vectors.turn.before, f"i{self.lanes}"
        loop, on, end = labels
        hit = body.fresh_label()
        some = body.op(f"icmp ne {bits} {leaves}, 0")
        body.do(f"br i1 {some}, label %{hit}, label %{on}, !prof !7003")
        body.start(on)
        body.do(f"br i1 {more}, label %{loop}, label %{end}, !llvm.loop !7004")
        body.start(hit)
        first = body.op(f"call {bits} @llvm.cttz.{bits}({bits} {leaves}, i1 true)")
        if self.lanes < 64:
            first = body.op(f"zext {bits} {first} to i64")
        here = body.op(f"add nuw nsw i64 {self.index}, {first}")
        body.do(f"br label %{end}")
        body.start(end)
        turn = body.op(f"phi i64 [ {last}, %{on} ], [ {here}, %{hit} ]")
        values = list(before)
        for reg, step in vectors.turn.steps.items():
            values[reg] = body.plus(before[reg], body.times(turn, step))
        return Done(end, values, body.op(f"sub i64 {total}, {turn}"))

    def _apart(self, total: Value, one: Place, start: Value, other: Place, other_start: Value) -> str:
        """The i1 that no element of a vector of the one is also one of the other's."""
        body = self.body
        if one.size == other.size:
            reach = self.lanes * one.size
            gap = body.op(f"sub i64 {start}, {other_start}")
            return body.op(f"icmp uge i64 {body.add(gap, reach - 1)}, {2 * reach - 1}")
        end = body.plus(body.times(total, one.size), start)
        other_end = body.plus(body.times(total, other.size), other_start)
        below = body.op(f"icmp ule i64 {end}, {other_start}")
        above = body.op(f"icmp ule i64 {other_end}, {start}")
        return body.op(f"or i1 {below}, {above}")

    def _type(self, bits: int) -> str:
        return f"<{self.lanes} x i{bits}>"

    def _line(self, line: Line) -> None:
        body, vectors = self.body, self.vectors
        if line.op == "store":
            value = self._operand(line.args[0], line.bits, line.bits)
            body.do(f"store {self._type(line.bits)} {value}, ptr {self._address(line)}, align 1")
            return
        phi = vectors.links.get(line.name)
        if phi is not None:
            a, b = line.args
            mine = a == phi or vectors.links.get(a) == phi or vectors.is_half(a, phi)
            more = self._operand(b if mine else a, line.bits, line.bits)
            self.sums[phi] = body.op(f"{line.op} {self._type(line.bits)} {self.sums[phi]}, {more}")
            return
        need = vectors.need[line.name]
        if line.op == "load":
            made = body.op(f"load {self._type(line.bits)}, ptr {self._address(line)}, align 1")
        elif line.op in ("zext", "sext"):
            made = self._operand(line.args[0], min(need, line.bits), line.bits)
            if need > line.bits:
                made = body.op(f"{line.op} {self._type(line.bits)} {made} to {self._type(need)}")
        elif line.op == "trunc":
            made = self._operand(line.args[0], need, line.bits)
        elif line.op == "bswap":
            value = self._operand(line.args[0], need, line.bits)
            kind = self._type(need)
            made = body.op(f"call {kind} @llvm.bswap.v{self.lanes}i{need}({kind} {value})")
        else:
            a, b = (self._operand(arg, need, line.bits) for arg in line.args)
            made = body.op(f"{line.op} {self._type(need)} {a}, {b}")
        self.values[line.name] = (made, need)

    def _address(self, line: Line) -> str:
        place = self.vectors.places[line]
        at = self.body.times(self.index, place.size)
        return self.body.op(f"getelementptr inbounds i8, ptr {self.bases[place]}, i64 {at}")

    def _operand(self, arg: str, bits: int, wide: int) -> str:
        """The vector of the low ``bits`` of an operand that is ``wide`` bits."""
        body, vectors = self.body, self.vectors
        if not arg.startswith("%"):
            return _splat(int(arg), bits)
        found = self.values.get(arg)
        if found is not None:
            value, have = found
            if have == bits:
                return value
            return body.op(f"trunc {self._type(have)} {value} to {self._type(bits)}")
        if arg in vectors.moving:
            reg = vectors.moving[arg]
            step = vectors.turn.steps[reg]
            now = body.plus(vectors.turn.before[reg], body.times(self.index, step))
            splat = self._spread(now, bits, 64, body.lines)
            ladder = ", ".join(f"i{bits} {signed(step * lane, bits)}" for lane in range(self.lanes))
            return body.op(f"add {self._type(bits)} {splat}, <{ladder}>")
        key = (arg, bits)
        if key not in self.splats:
            self.splats[key] = self._spread(vectors.constant.get(arg, arg), bits, wide, self.early)
        return self.splats[key]

    def _spread(self, value: Value, bits: int, wide: int, lines: list[str]) -> str:
        """A vector of one value, by ``lines``."""
        if isinstance(value, int):
            return _splat(value, bits)
        body = self.body
        if bits < wide:
            narrow = body.new()
            lines.append(f"  {narrow} = trunc i{wide} {value} to i{bits}")
            value = narrow
        one, all_ = body.new(), body.new()
        kind = self._type(bits)
        lines.append(f"  {one} = insertelement {kind} poison, i{bits} {value}, i64 0")
        lines.append(
            f"  {all_} = shufflevector {kind} {one}, {kind} poison, <{self.lanes} x i32> zeroinitializer"
        )
        return all_

    def _summed(self, phi: str, bits: int, kind: str, start: Value) -> Value:
        """The sum as an i64, from what it was before and all lanes."""
        body = self.body
        vector = f"{self._type(bits)} {self.sums[phi]}"
        made = body.op(f"call i{bits} @llvm.vector.reduce.{kind}.v{self.lanes}i{bits}({vector})")
        if bits == 64:
            return body.op(f"{kind} i64 {start}, {made}")
        low: Value = signed(start, 32) if isinstance(start, int) else body.op(f"trunc i64 {start} to i32")
        return body.op(f"zext i32 {body.op(f'{kind} i32 {low}, {made}')} to i64")


def _splat(number: int, bits: int) -> str:
    number = signed(number, bits)
    return f"splat (i{bits} {number})" if number else "zeroinitializer"
