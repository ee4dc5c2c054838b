"""Value numbering: which registers hold the same value, which are constant, and what follows.

A value has a number; equal numbers mean equal values. libpcap calls everything it loses sight of
(words that differ between two ways that meet) number 0, and then takes 0 to equal 0, which is how some
of its miscompilations come about. Here every node carries two rows of numbers: ``val``, libpcap's, and
``tru``, in which a word that depends on the way taken gets a number of its own. A statement or test is
changed when libpcap would change it and ``tru`` shows that this keeps its meaning.

Two more things libpcap overlooks are kept here: a load at X + k does not wrap around 2**32 (the program
rejects instead), and a division by zero rejects, so a division whose divisor may be zero stays.
"""

from __future__ import annotations

from skep.errors import FilterSyntaxError
from skep.filter.optimise.graph import MEM, NOP, A, Node, Values, X
from skep.isa import classic as c

LD_IMM = c.BPF_LD | c.BPF_IMM
LDX_IMM = c.BPF_LDX | c.BPF_IMM
LD_MEM = c.BPF_LD | c.BPF_MEM
LDX_MEM = c.BPF_LDX | c.BPF_MEM
LDX_MSH = c.BPF_LDX | c.BPF_MSH | c.BPF_B
LD_LEN = c.BPF_LD | c.BPF_LEN
TAX = c.BPF_MISC | c.BPF_TAX
TXA = c.BPF_MISC | c.BPF_TXA
NEG = c.BPF_ALU | c.BPF_NEG
SUB_X = c.BPF_ALU | c.BPF_SUB | c.BPF_X
SUB_K = c.BPF_ALU | c.BPF_SUB | c.BPF_K
AND_K = c.BPF_ALU | c.BPF_AND | c.BPF_K
ADD_X = c.BPF_ALU | c.BPF_ADD | c.BPF_X
JEQ_K = c.BPF_JMP | c.BPF_JEQ | c.BPF_K
JEQ_X = c.BPF_JMP | c.BPF_JEQ | c.BPF_X
JSET_K = c.BPF_JMP | c.BPF_JSET | c.BPF_K

DIVISIONS = frozenset({c.BPF_DIV, c.BPF_MOD})
MAX = 0xFFFFFFFF


class Numbering:
    """Value numbers of one optimisation, and the flags that its loop runs on.

    ``changed``: another pass is needed. ``progress``: something other than a jump moved.
    """

    __slots__ = (
        "_bounds",
        "_numbers",
        "_phis",
        "_trap_numbers",
        "atoms",
        "changed",
        "consts",
        "progress",
    )

    def __init__(self, atoms: int) -> None:
        self.atoms = atoms
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._phis: dict[tuple[int, int], int] = {}
        self._bounds: dict[int, int] = {}
        self._trap_numbers: set[int] = set()
        self.consts: dict[int, int] = {}
        self.changed = False
        self.progress = False

    def value(self, code: int, v0: int, v1: int) -> int:
        """The number of what ``code`` makes of two operands (constants or value numbers)."""
        key = (code, v0, v1)
        number = self._numbers.get(key)
        if number is None:
            self._numbers[key] = number = self._fresh()
        return number

    def const(self, k: int) -> int:
        """The number of a constant."""
        key = (LD_IMM, k, 0)
        number = self._numbers.get(key)
        if number is None:
            self._numbers[key] = number = self._fresh()
            self.consts[number] = self._bounds[number] = k
        return number

    def phi(self, node: int, atom: int) -> int:
        """The number of what ``atom`` holds on entry to a node when that depends on the way taken."""
        key = (node, atom)
        number = self._phis.get(key)
        if number is None:
            self._phis[key] = number = self._fresh()
        return number

    def _fresh(self) -> int:
        return len(self._numbers) + len(self._phis) + 1

    def bound(self, number: int) -> int:
        """The largest the value can be, as far as is known."""
        return self._bounds.get(number, MAX)

    def mark(self) -> None:
        self.changed = self.progress = True

    # --- symbolic execution ------------------------------------------------------------------

    def run(self, stmts: list[list[int]], row: Values) -> None:
        """Execute statements on a row of value numbers."""
        value = self.value
        for code, k in stmts:
            kind = code & 7
            if code == NOP:
                continue
            if kind == c.BPF_LD:
                mode = code & 0xE0
                if mode == c.BPF_ABS:
                    row[A] = self._load(code, k, 0)
                elif mode == c.BPF_IND:
                    row[A] = self._load(code, k, row[X])
                elif mode == c.BPF_MEM:
                    row[A] = row[MEM + k]
                elif mode == c.BPF_IMM:
                    row[A] = self.const(k)
                else:
                    row[A] = value(LD_LEN, 0, 0)
            elif kind == c.BPF_LDX:
                mode = code & 0xE0
                if mode == c.BPF_IMM:
                    row[X] = self.const(k)
                elif mode == c.BPF_MEM:
                    row[X] = row[MEM + k]
                elif mode == c.BPF_MSH:
                    row[X] = number = value(code, k, 0)
                    self._bounds[number] = 60
                else:
                    row[X] = value(LD_LEN, 0, 0)
            elif kind == c.BPF_ALU:
                row[A] = self._arithmetic(code, k, row)
            elif kind == c.BPF_ST:
                row[MEM + k] = row[A]
            elif kind == c.BPF_STX:
                row[MEM + k] = row[X]
            elif code == TAX:
                row[X] = row[A]
            elif code == TXA:
                row[A] = row[X]

    def _load(self, code: int, k: int, index: int) -> int:
        number = self.value(code, k, index)
        size = code & 0x18
        if size != c.BPF_W:
            self._bounds[number] = 0xFF if size == c.BPF_B else 0xFFFF
        return number

    def _arithmetic(self, code: int, k: int, row: Values) -> int:
        if code == NEG:
            return self.value(code, row[A], 0)
        if not code & c.BPF_X:
            operand = self.const(k)
        else:
            operand = row[X]
        number = self.value(code, row[A], operand)
        if number not in self._bounds:
            self._bounds[number] = self._bound_of(code & 0xF0, row[A], operand)
        if not code & c.BPF_X:
            return number
        if code & 0xF0 in DIVISIONS and not self.consts.get(row[X]):
            self._trap_numbers.add(number)
        return number

    def _bound_of(self, op: int, left: int, right: int) -> int:
        """The largest that ``left op right`` can be."""
        a, b = self.bound(left), self.bound(right)
        if op == c.BPF_AND:
            return min(a, b)
        if op in (c.BPF_DIV, c.BPF_MOD, c.BPF_RSH):
            return a
        if op == c.BPF_ADD:
            return min(a + b, MAX)
        if op == c.BPF_MUL:
            return min(a * b, MAX)
        if op == c.BPF_LSH:
            return min(a << b, MAX) if b < 32 else MAX
        if op in (c.BPF_OR, c.BPF_XOR):
            return (1 << max(a, b).bit_length()) - 1
        return MAX

    def traps(self, node: Node) -> frozenset[int]:
        """Numbers of the divisions in a node that may be by zero."""
        if not any(code & 7 == c.BPF_ALU and code & 0xF0 in DIVISIONS for code, _ in node.stmts):
            return frozenset()
        row = list(node.entry_tru)
        found = set()
        for stmt in node.stmts:
            self.run([stmt], row)
            if stmt[0] & 7 == c.BPF_ALU and row[A] in self._trap_numbers and stmt[0] & 0xF0 in DIVISIONS:
                found.add(row[A])
        return frozenset(found)


def by_zero(op: int) -> FilterSyntaxError:
    """libpcap's refusal of a constant divisor of zero."""
    return FilterSyntaxError("division by zero" if op == c.BPF_DIV else "modulus by zero")


def fold(op: int, a: int, b: int) -> int:
    """``a op b`` in unsigned 32-bit arithmetic; shifts of 32 and more leave nothing.

    Raises:
        FilterSyntaxError: division or modulus by zero.
    """
    if op in DIVISIONS and b == 0:
        raise by_zero(op)
    if op == c.BPF_ADD:
        a += b
    elif op == c.BPF_SUB:
        a -= b
    elif op == c.BPF_MUL:
        a *= b
    elif op == c.BPF_DIV:
        a //= b
    elif op == c.BPF_MOD:
        a %= b
    elif op == c.BPF_AND:
        a &= b
    elif op == c.BPF_OR:
        a |= b
    elif op == c.BPF_XOR:
        a ^= b
    elif op == c.BPF_LSH:
        a = a << b if b < 32 else 0
    elif op == c.BPF_RSH:
        a = a >> b if b < 32 else 0
    return a & MAX


def holds(code: int, a: int, b: int) -> bool:
    """Whether a test with operands ``a`` and ``b`` is true."""
    op = code & 0xF0
    if op == c.BPF_JEQ:
        return a == b
    if op == c.BPF_JGT:
        return a > b
    if op == c.BPF_JGE:
        return a >= b
    return bool(a & b)
