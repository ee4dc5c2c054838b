"""The loop over capture records as x86-64 machine code, and the two functions that are called from outside.

``walk(states, count)``
    Judge the records of several stretches of one buffer, a record of each in turns, as the ``count``
    states (`skep.tap.layout.FIELDS`) say; ``base``, ``length`` and what else all must share is taken from
    the first. Where a record begins is in the record before it, so one walk is a chain of cache misses;
    several in turns wait for their misses together, and each asks for its next record before it judges this.
``match(packet, caplen, wirelen)``
    The filter's return value for one packet.
"""

from __future__ import annotations

from skep.tap.layout import FIELDS, INDEX_ENTRY, RECORD_HEADER, Mode, Status
from skep.tap.x86 import code as x
from skep.tap.x86.code import Code, Mem

_STATE = 8 * len(FIELDS)
_SAVED = (x.RBX, x.RBP, x.R12, x.R13, x.R14, x.R15)

# The lane's state, the end of all states, the buffer's address and length, how many lanes had a record in
# this round, the first lane's state.
_LANE, _END, _BASE, _LENGTH, _LIVE, _FIRST = _SAVED

# Locals on the stack, which stays a multiple of 16 for the call of memcpy.
_ROOM = 40
_MODE, _DIVISOR, _MOST, _SNAP = (Mem(x.RSP, offset) for offset in (0, 4, 8, 12))


def _field(name: str, base: int = _LANE) -> Mem:
    return Mem(base, 8 * FIELDS.index(name))


def write_match(code: Code) -> None:
    """Write ``match``: the arguments to where the filter wants them, which must follow."""
    code.label("match")
    code.op(x.MOV, x.R9, x.RDI, wide=True)
    code.op(x.MOV, x.RDI, x.RSI, wide=True)
    code.op(x.MOV, x.RSI, x.R9, wide=True)
    code.op(x.MOV, x.R8, x.RDX)


def write_walk(code: Code, *, swapped: bool) -> None:
    """Write ``walk``; ``swapped``: the record headers are in the other byte order."""
    _Walk(code, swapped).write()


class _Walk:
    def __init__(self, code: Code, swapped: bool) -> None:
        self.code = code
        self.swapped = swapped

    def write(self) -> None:
        code = self.code
        self._enter()
        code.label("round")
        code.op(x.MOV, _LANE, _FIRST, wide=True)
        code.constant(_LIVE, 0)
        code.label("lane")
        self._record()
        code.call("judge")
        code.op(x.TEST, x.RAX, x.RAX)
        code.jump("hit", x.NE)
        code.label("next")
        code.group(x.G_ADD, _LANE, _STATE, wide=True)
        code.op(x.CMP, _LANE, _END, wide=True)
        code.jump("lane", x.B)
        code.op(x.TEST, _LIVE, _LIVE)
        code.jump("round", x.NE)
        code.group(x.G_ADD, x.RSP, _ROOM, wide=True)
        for register in reversed(_SAVED):
            code.pop(register)
        code.ret()
        self._hit()
        self._endings()

    def _enter(self) -> None:
        code = self.code
        code.label("walk")
        for register in _SAVED:
            code.push(register)
        code.group(x.G_SUB, x.RSP, _ROOM, wide=True)
        code.op(x.MOV, _FIRST, x.RDI, wide=True)
        code.op(0x69, _END, x.RSI, wide=True, tail=_STATE.to_bytes(4, "little"))  # imul by a constant
        code.op(x.ADD, _END, x.RDI, wide=True)
        for name, where in (
            ("mode", _MODE),
            ("divisor", _DIVISOR),
            ("max_caplen", _MOST),
            ("snaplen", _SNAP),
        ):
            code.op(x.MOV, x.RAX, _field(name, _FIRST))
            code.op(x.STORE, x.RAX, where)
        code.op(x.MOV, _BASE, _field("base", _FIRST), wide=True)
        code.op(x.MOV, _LENGTH, _field("length", _FIRST), wide=True)

    def _word(self, reg: int, base: int, disp: int) -> None:
        """A field of a record's header."""
        self.code.op(x.MOV, reg, Mem(base, disp))
        if self.swapped:
            self.code.bswap(reg)

    def _record(self) -> None:
        """The lane's next record: rsi its packet, rdi the bytes to judge, r8d its length on the wire."""
        code = self.code
        code.op(x.MOV, x.RSI, _field("pos"), wide=True)
        code.op(x.CMP, x.RSI, _field("stop"), wide=True)
        code.jump("next", x.AE)
        code.op(x.LEA, x.RDX, Mem(x.RSI, RECORD_HEADER), wide=True)
        code.op(x.CMP, x.RDX, _LENGTH, wide=True)
        code.jump("short", x.A)
        code.op(x.ADD, x.RSI, _BASE, wide=True)
        self._word(x.RDI, x.RSI, 8)
        code.op(x.CMP, x.RDI, _MOST)
        code.jump("bad", x.A)
        code.op(x.ADD, x.RDX, x.RDI, wide=True)
        code.op(x.CMP, x.RDX, _LENGTH, wide=True)
        code.jump("short", x.A)
        code.op(x.PREFETCH, 1, Mem(_BASE, 0, x.RDX))
        code.op(x.PREFETCH, 1, Mem(_BASE, 64, x.RDX))
        code.op(x.STORE, x.RDX, _field("pos"), wide=True)
        self._word(x.R8, x.RSI, 12)
        code.op(x.CMP, x.RDI, _SNAP)
        code.op(x.CMOV_A, x.RDI, _SNAP)
        code.group(x.G_ADD, x.RSI, RECORD_HEADER, wide=True)
        code.group(x.G_ADD, _field("seen"), 1, wide=True)
        code.group(x.G_ADD, _LIVE, 1)

    def _hit(self) -> None:
        code = self.code
        code.label("hit")
        code.op(x.MOV, x.RDX, _MODE)
        code.group(x.G_CMP, x.RDX, Mode.COUNT)
        code.jump("counted", x.E)
        code.op(x.MOV, x.R9, _field("out_used"), wide=True)
        code.group(x.G_CMP, x.RDX, Mode.INDEX)
        code.jump("index", x.E)
        code.op(x.LEA, x.RAX, Mem(x.R9, RECORD_HEADER, x.RDI), wide=True)
        self._take_room()
        self._word(x.RAX, x.RSI, -16)
        code.op(x.STORE, x.RAX, Mem(x.R9))
        self._word(x.RAX, x.RSI, -12)
        code.group(x.G_CMP, _DIVISOR, 1)
        code.jump("scaled", x.E)
        code.constant(x.RDX, 0)
        code.op(x.GROUP_3, x.G_DIV, _DIVISOR)
        code.label("scaled")
        code.op(x.STORE, x.RAX, Mem(x.R9, 4))
        code.op(x.STORE, x.RDI, Mem(x.R9, 8))
        code.op(x.STORE, x.R8, Mem(x.R9, 12))
        code.op(x.MOV, x.RDX, x.RDI, wide=True)
        code.op(x.LEA, x.RDI, Mem(x.R9, RECORD_HEADER), wide=True)
        code.op(x.GROUP_5, x.G_CALL, _field("copy"))
        code.label("counted")
        code.op(x.MOV, x.RAX, _field("matched"), wide=True)
        code.group(x.G_ADD, x.RAX, 1, wide=True)
        code.op(x.STORE, x.RAX, _field("matched"), wide=True)
        code.op(x.CMP, x.RAX, _field("limit"), wide=True)
        code.jump("next", x.B)
        self._end(Status.LIMIT)
        code.label("index")
        code.op(x.LEA, x.RAX, Mem(x.R9, INDEX_ENTRY), wide=True)
        self._take_room()
        code.op(x.MOV, x.RAX, _field("seen"), wide=True)
        code.op(x.ADD, x.RAX, _field("first"), wide=True)
        code.group(x.G_SUB, x.RAX, 1, wide=True)
        code.op(x.STORE, x.RAX, Mem(x.R9), wide=True)
        code.op(x.MOV, x.RAX, x.RSI, wide=True)
        code.op(x.SUB, x.RAX, _BASE, wide=True)
        code.op(x.ADD, x.RAX, _field("file_offset"), wide=True)
        code.op(x.STORE, x.RAX, Mem(x.R9, 8), wide=True)
        code.op(x.STORE, x.RDI, Mem(x.R9, 16))
        code.op(x.STORE, x.R8, Mem(x.R9, 20))
        for offset in (0, 4):
            self._word(x.RAX, x.RSI, offset - RECORD_HEADER)
            code.op(x.STORE, x.RAX, Mem(x.R9, 24 + offset))
        code.jump("counted")

    def _take_room(self) -> None:
        """r9, an offset in the output, becomes an address there; what is used of it becomes rax."""
        code = self.code
        code.op(x.CMP, x.RAX, _field("out_size"), wide=True)
        code.jump("full", x.A)
        code.op(x.STORE, x.RAX, _field("out_used"), wide=True)
        code.op(x.ADD, x.R9, _field("out"), wide=True)

    def _endings(self) -> None:
        code = self.code
        code.label("full")  # the record is taken back
        code.group(x.G_SUB, _field("seen"), 1, wide=True)
        code.op(x.SUB, x.RSI, _BASE, wide=True)
        code.group(x.G_SUB, x.RSI, RECORD_HEADER, wide=True)
        code.op(x.STORE, x.RSI, _field("pos"), wide=True)
        self._end(Status.FULL)
        code.label("short")
        self._end(Status.SHORT)
        code.label("bad")
        self._end(Status.BAD)

    def _end(self, status: int) -> None:
        """The lane has ended before its stretch: it takes no more turns."""
        code = self.code
        code.op(x.STORE_IMM, 0, _field("status"), wide=True, tail=status.to_bytes(4, "little"))
        code.op(x.STORE_IMM, 0, _field("stop"), wide=True, tail=bytes(4))
        code.jump("next")
