"""The instructions of a function as LLVM IR, one method a kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from skep.isa import Insn, imm64
from skep.isa import opcodes as op
from skep.jit import alu, kinds
from skep.jit.body import NO_BUDGET, NO_HELPER, TOO_DEEP, Body, Value
from skep.jit.cfg import BUDGET, Function
from skep.jit.liveness import Liveness
from skep.jit.loops import Tracker
from skep.jit.memory import Memory


class Plan(NamedTuple):
    """What holds for the whole program."""

    insns: Sequence[Insn]
    functions: Mapping[int, Function]
    liveness: Liveness
    analysis: kinds.Analysis
    helpers: Mapping[int, int]  # number -> index in the table
    checks: bool
    budget: bool
    depth: bool  # frames must be counted at run time
    area: bool  # some frame is visible outside its function
    blind: bool


class Instructions:
    """State of one function under emission, and the emission of single instructions."""

    def __init__(self, plan: Plan, key: int) -> None:
        self.plan = plan
        self.function = plan.functions[key]
        self.key = key
        self.escapes = key in plan.analysis.escapes
        self.body = Body(blind=plan.blind)
        self.memory = Memory(self.body, checks=plan.checks, area=plan.area)
        self.regs: list[Value] = []
        self.kinds: kinds.Kinds = []
        #: some block goes to the label "unwind"
        self.unwinds = False
        #: the function has a frame of its own
        self.frame = False
        self.packet_limits: set[int] = set()
        #: follows values while a loop's careful copy is emitted
        self.tracker: Tracker | None = None
        #: predicate, width and operands (i64) of the last conditional jump
        self.compared: tuple[str, int, Value, Value] = ("", 64, 0, 0)

    def _pay(self, cost: int, pc: int) -> None:
        """Take ``cost`` from the budget, or stop at slot ``pc``."""
        body = self.body
        left = self.regs[BUDGET]
        body.require(body.op(f"icmp sge i64 {left}, {cost}"), NO_BUDGET, pc)
        self.regs[BUDGET] = body.op(f"sub nuw nsw i64 {left}, {cost}")

    # --- operands

    def _kind(self, reg: int) -> int:
        return kinds.frame_at(0) if reg == 10 else self.kinds[reg]

    def _value(self, reg: int) -> Value:
        if reg == 10:
            self.frame = True
            return 0
        if kinds.is_frame(self.kinds[reg]):
            self.frame = True
        return self.regs[reg]

    def _number(self, reg: int) -> Value:
        """A register as a number (an address, if it holds a pointer)."""
        return self.memory.integer(self._kind(reg), self._value(reg))

    def _set(self, reg: int, value: Value, kind: int = kinds.INT) -> None:
        self.regs[reg] = value
        self.kinds[reg] = kind

    # --- instructions

    def _insn(self, pc: int, insn: Insn) -> None:
        opcode = insn.opcode
        cls = opcode & 7
        if cls == op.BPF_ALU64:
            self._alu64(insn)
        elif cls == op.BPF_ALU:
            self._alu32(insn)
        elif cls == op.BPF_LDX:
            size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
            at = self.memory.pointer(self._kind(insn.src), self._value(insn.src), insn.off, size, pc)
            sign = opcode & op.MODE_MASK == op.BPF_MEMSX
            self._set(insn.dst, self.memory.load(at, size, sign=sign))
        elif cls == op.BPF_STX:
            if opcode & op.MODE_MASK == op.BPF_ATOMIC:
                self._atomic(pc, insn)
            else:
                size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
                at = self.memory.pointer(self._kind(insn.dst), self._value(insn.dst), insn.off, size, pc)
                self.memory.store(at, self._number(insn.src), size)
        elif cls == op.BPF_ST:
            size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
            at = self.memory.pointer(self._kind(insn.dst), self._value(insn.dst), insn.off, size, pc)
            self.memory.store(at, self.body.const(insn.imm), size)
        elif opcode == op.LD_IMM64:
            self._set(insn.dst, self.body.const(imm64(self.plan.insns, pc)))
        elif cls == op.BPF_LD:
            self._packet(pc, insn)
        elif opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
            self._call(pc, insn)
        else:
            self._helper(pc, insn)

    def _alu64(self, insn: Insn) -> None:
        opcode, dst, src, off, imm = insn
        body = self.body
        operation = opcode & op.OP_MASK
        by_reg = opcode & op.BPF_X
        if operation == op.BPF_MOV:
            if not by_reg:
                self._set(dst, body.const(imm))
            elif off:
                self._set(dst, alu.extend(body, self._number(src), off, 64))
            else:
                self._set(dst, self._value(src), self._kind(src))
            return
        if operation == op.BPF_END:
            self._set(dst, alu.swap(body, imm, self._number(dst), reverse=True))
            return
        have = self._kind(dst)
        other = self._kind(src) if by_reg else kinds.INT
        if (have or other) and self._pointer_arithmetic(insn, have, other):
            return
        a = self._number(dst)
        if operation == op.BPF_NEG:
            self._set(dst, alu.negate(body, 64, a))
            return
        b = self._number(src) if by_reg else body.const(imm)
        self._set(dst, self._binary64(operation, a, b, signed_division=off == 1))

    def _binary64(self, operation: int, a: Value, b: Value, *, signed_division: bool = False) -> Value:
        result = alu.binary(self.body, operation, 64, a, b, signed_division=signed_division)
        if self.tracker is not None:
            self.tracker.note(operation, 64, a, b, result)
        return result

    def _pointer_arithmetic(self, insn: Insn, have: int, other: int) -> bool:
        """Additions that keep a pointer one; False leaves the operation to the numbers."""
        body, dst = self.body, insn.dst
        operation = insn.opcode & op.OP_MASK
        by_reg = insn.opcode & op.BPF_X
        if operation not in (op.BPF_ADD, op.BPF_SUB):
            return False
        add = operation == op.BPF_ADD
        if not by_reg:
            imm = insn.imm if add else -insn.imm
            by = body.const(imm) if not kinds.is_frame(have) else imm
            value = self._binary64(op.BPF_ADD, self._value(dst), by)
            self._set(dst, value, kinds.moved(have, imm))
            return True
        a, b = self._value(dst), self._value(insn.src)
        if add and (have == kinds.INT or other == kinds.INT):
            kind = kinds.moved(have or other, None)
        elif not add and other == kinds.INT:
            kind = kinds.moved(have, None)
        elif not add and kinds.region(have) == kinds.region(other):
            kind = kinds.INT
        else:
            return False
        self._set(dst, self._binary64(operation, a, b), kind)
        return True

    def _alu32(self, insn: Insn) -> None:
        opcode, dst, src, off, imm = insn
        body = self.body
        operation = opcode & op.OP_MASK
        by_reg = opcode & op.BPF_X
        if operation == op.BPF_END:
            self._set(dst, alu.swap(body, imm, self._number(dst), reverse=bool(by_reg)))
            return
        if operation == op.BPF_MOV:
            if not by_reg:
                self._set(dst, body.const(imm & 0xFFFFFFFF))
            elif off:
                self._set(dst, alu.extend(body, self._number(src), off, 32))
            else:
                number = self._number(src)
                self._set(dst, body.word(number))
                if self.tracker is not None:
                    self.tracker.same(number, self.regs[dst])
            return
        left = self._number(dst)
        a = body.low32(left)
        if operation == op.BPF_NEG:
            self._set(dst, body.widen(alu.negate(body, 32, a)))
            return
        right = self._number(src) if by_reg else body.const(imm)
        b = body.low32(right)
        self._set(dst, body.widen(alu.binary(body, operation, 32, a, b, signed_division=off == 1)))
        if self.tracker is not None:
            self.tracker.note(operation, 32, left, right, self.regs[dst])

    def _condition(self, insn: Insn) -> str:
        opcode, dst, src, _off, imm = insn
        body = self.body
        operation = opcode & op.OP_MASK
        by_reg = opcode & op.BPF_X
        if by_reg and kinds.comparable(insn, self._kind(dst), self._kind(src)):
            a, b = self._value(dst), self._value(src)
            name = alu.PREDICATES[operation].replace("u", "s")
            self.compared = (name, 64, a, b)
            return body.op(f"icmp {name} i64 {a}, {b}")
        a = self._number(dst)
        b = self._number(src) if by_reg else body.const(imm)
        self.compared = (
            alu.PREDICATES.get(operation, ""),
            32 if opcode & 7 == op.BPF_JMP32 else 64,
            a,
            b,
        )
        if opcode & 7 == op.BPF_JMP32:
            return alu.compare(body, operation, 32, body.low32(a), body.low32(b))
        return alu.compare(body, operation, 64, a, b)

    def _atomic(self, pc: int, insn: Insn) -> None:
        opcode, dst, src, off, imm = insn
        memory = self.memory
        size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
        base = src if imm == op.BPF_LOAD_ACQ else dst
        at = memory.pointer(self._kind(base), self._value(base), off, size, pc, atomic=True)
        if imm == op.BPF_LOAD_ACQ:
            self._set(dst, memory.load_acquire(at, size))
        elif imm == op.BPF_STORE_REL:
            memory.store_release(at, self._number(src), size)
        elif imm == op.BPF_CMPXCHG:
            self._set(0, memory.compare_exchange(at, self._number(0), self._number(src), size))
        else:
            old = memory.modify(at, imm, self._number(src), size)
            if imm & op.BPF_FETCH:
                self._set(src, old)

    def _packet(self, pc: int, insn: Insn) -> None:
        """LD_ABS and LD_IND: big-endian from the packet; outside it the whole program ends with 0."""
        body = self.body
        opcode = insn.opcode
        size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
        if opcode & op.MODE_MASK == op.BPF_IND:
            low = body.low32(self._number(insn.src))
            at = body.widen(alu.binary(body, op.BPF_ADD, 32, low, insn.imm, signed_division=False))
        else:
            at = insn.imm & 0xFFFFFFFF
        facts = self.memory.facts
        key = (-1, "")
        known = facts.get(key, (0, 0))[1]
        if not isinstance(at, int) or at + size > known:
            if isinstance(at, int):
                ok = body.op(f"icmp ugt i64 %pkt_len, {at + size - 1}")
                facts[key] = (0, at + size)
            else:
                self.packet_limits.add(size)
                limit = "%pkt_len" if size == 1 else f"%pktlim{size}"
                ok = body.op(f"icmp ult i64 {at}, {limit}")
            label = body.fresh_label()
            self.unwinds = True
            body.do(f"br i1 {ok}, label %{label}, label %unwind")
            body.start(label)
        pointer = body.op(f"getelementptr inbounds i8, ptr %pkt, i64 {at}")
        bits = size * 8
        raw = body.op(f"load i{bits}, ptr {pointer}, align 1")
        if size > 1:
            raw = body.op(f"call i{bits} @llvm.bswap.i{bits}(i{bits} {raw})")
        self._set(0, body.widen(raw) if size == 4 else body.op(f"zext i{bits} {raw} to i64"))

    # --- calls

    def _helper(self, pc: int, insn: Insn) -> None:
        """A call of an outside function through the table."""
        body = self.body
        if insn.opcode == op.CALL:
            index = self.plan.helpers.get(insn.imm & 0xFFFFFFFF)
            if index is None:
                body.stop(NO_HELPER, pc)
                self._set(0, 0)
                return
            slot: Value = index
        else:
            slot = self._helper_index(pc, self._number(insn.dst))
        tablep = body.op("getelementptr i8, ptr %state, i64 16")
        table = body.op(f"load ptr, ptr {tablep}, align 8, !invariant.load !7002")
        entry = body.op(f"getelementptr ptr, ptr {table}, i64 {slot}")
        target = body.op(f"load ptr, ptr {entry}, align 8, !invariant.load !7002")
        arguments = ", ".join(f"i64 {self._number(reg)}" for reg in range(1, 6))
        result = body.op(f"call i64 {target}({arguments}, ptr %state)")
        raised = body.op("getelementptr i8, ptr %state, i64 8")
        error = body.op(f"load i64, ptr {raised}, align 8")
        ok = body.op(f"icmp eq i64 {error}, 0")
        label = body.fresh_label()
        self.unwinds = True
        body.do(f"br i1 {ok}, label %{label}, label %unwind, !prof !7001")
        body.start(label)
        self._set(0, result)

    def _helper_index(self, pc: int, number: Value) -> Value:
        """CALLX: the table index of the helper whose number is in a register."""
        body = self.body
        rows = sorted(self.plan.helpers.items())
        if not rows:
            body.stop(NO_HELPER, pc)
            return 0
        found: Value = -1
        for helper, index in rows:
            is_it = body.op(f"icmp eq i64 {number}, {helper}")
            found = body.op(f"select i1 {is_it}, i64 {index}, i64 {found}")
        body.require(body.op(f"icmp ne i64 {found}, -1"), NO_HELPER, pc)
        return found

    def _call(self, pc: int, insn: Insn) -> None:
        """A call of a subprogram."""
        body, plan = self.body, self.plan
        entry = pc + 1 + insn.imm
        callee = plan.functions[entry]
        if plan.depth:
            depth = "1" if self.function.is_main else "%depth"
            body.require(body.op(f"icmp ult i64 {depth}, {op.MAX_FRAMES}"), TOO_DEEP, pc)
        if plan.budget:
            self._pay(1 + callee.length, pc)
        wanted = plan.analysis.parameters[entry]
        arguments = ["ptr %ctx", "i64 %ctx_len", "ptr %pkt", "i64 %pkt_len", "ptr %state"]
        if plan.area:
            arguments += ["ptr %area", "i64 %top"]
        if plan.depth:
            depth = "1" if self.function.is_main else "%depth"
            arguments.append("i64 " + body.op(f"add i64 {depth}, 1"))
        for reg in parameters(plan, entry):
            if reg == BUDGET:
                arguments.append(f"i64 {self.regs[BUDGET]}")
            else:
                value = self.memory.convert(self._kind(reg), wanted[reg], self._value(reg))
                arguments.append(f"i64 {value}")
        ty = result_type(plan, entry)
        made = body.op(f"call fastcc {ty} @{callee.name}({', '.join(arguments)})")
        returned = results(plan, entry)
        failed = body.op(f"extractvalue {ty} {made}, {len(returned)}")
        label = body.fresh_label()
        self.unwinds = True
        body.do(f"br i1 {failed}, label %unwind, label %{label}, !prof !7003")
        body.start(label)
        for reg in range(1, 6):
            self._set(reg, 0)
        for index, reg in enumerate(returned):
            value = body.op(f"extractvalue {ty} {made}, {index}")
            if reg == BUDGET:
                self.regs[BUDGET] = value
            else:
                self._set(reg, value)


def parameters(plan: Plan, entry: int) -> list[int]:
    """Registers that a subprogram is given, ascending."""
    function = plan.functions[entry]
    live = function.live[function.entry]
    return [reg for reg in range(BUDGET + 1) if live >> reg & 1]


def results(plan: Plan, entry: int) -> list[int]:
    """Registers that a subprogram gives back, in the order of its result's fields."""
    function = plan.functions[entry]
    found = [reg for reg in range(6) if function.results >> reg & 1]
    if plan.budget and function.pays:
        found.append(BUDGET)
    return found


def result_type(plan: Plan, entry: int) -> str:
    """What a function returns: r0 for the main program, else its results and whether it was stopped."""
    if plan.functions[entry].is_main:
        return "i64"
    return "{ " + "i64, " * len(results(plan, entry)) + "i1 }"
