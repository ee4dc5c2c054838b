"""Simplifying one node: constants, the peephole, dead stores.

What is done, and in which order, is libpcap's; `values` tells why some of it is not done here.
"""

from __future__ import annotations

from skep.errors import FilterSyntaxError
from skep.filter.optimise.graph import (
    A_BIT,
    MEM,
    NOP,
    X_BIT,
    A,
    Node,
    Values,
    X,
    atom_defined,
    atoms_of,
    atoms_used,
    rejects,
)
from skep.filter.optimise.values import (
    ADD_X,
    AND_K,
    DIVISIONS,
    JEQ_K,
    JEQ_X,
    JSET_K,
    LD_IMM,
    LD_MEM,
    LDX_IMM,
    LDX_MEM,
    LDX_MSH,
    MAX,
    NEG,
    SUB_K,
    SUB_X,
    TAX,
    TXA,
    Numbering,
    by_zero,
    fold,
    holds,
)
from skep.isa import classic as c

_ZERO_MEANS_NOTHING = frozenset({c.BPF_ADD, c.BPF_LSH, c.BPF_RSH, c.BPF_OR, c.BPF_XOR})
_X_WHEN_A_IS_ZERO = frozenset({c.BPF_ADD, c.BPF_OR, c.BPF_XOR})
_ZERO_WHEN_A_IS_ZERO = frozenset({c.BPF_MUL, c.BPF_AND, c.BPF_LSH, c.BPF_RSH})
#: Nodes of more statements lose those that were deleted at once.
_LONG = 500
#: No packet that is filtered has more bytes.
_LONGEST_PACKET = 0x7FFFFFFF


class Simplifier(Numbering):
    """Visits nodes, from the root on.

    ``careless``: divisions that may be by zero are dropped as libpcap drops them. ``patient``: a division
    by a constant zero is left in the code, where it rejects, instead of being refused.
    """

    __slots__ = ("careless", "nodes", "patient")

    def __init__(self, nodes: list[Node], careless: bool = False, patient: bool = False) -> None:
        super().__init__(atoms_of(nodes))
        self.nodes = nodes
        self.careless = careless
        self.patient = patient

    def visit(self, node: Node, alter: bool) -> None:
        """Work out the values a node leaves, simplify it, and set up its operand for `branches`."""
        entry, entry_tru = self._entries(node)
        seen = (node.out_use, node.to[0], node.to[1])
        if (
            not node.stale
            and not alter
            and seen == node.seen
            and entry == node.entry
            and entry_tru == node.entry_tru
        ):
            return
        node.entry, node.entry_tru, node.seen = entry, entry_tru, seen
        node.val, node.tru = list(entry), list(entry_tru)
        before = [stmt.copy() for stmt in node.stmts], node.code, node.k
        if alter:
            for stmt in node.stmts:
                self._alter(stmt, node.val, node.tru)
        else:
            self.run(node.stmts, node.val)
            self.run(node.stmts, node.tru)
        if alter and self._needless(node):
            if not node.bare:
                node.stmts = []
                node.bare = True
                self.mark()
        else:
            self._peephole(node)
            self._dead_stores(node)
        node.stale = (node.stmts, node.code, node.k) != before
        if node.stale:
            # ``val`` stays as libpcap has it; ``tru`` tells what is really there now.
            node.tru = list(entry_tru)
            self.run(node.stmts, node.tru)
        node.traps = frozenset() if self.careless else self.traps(node)
        self._operand(node)
        if len(node.stmts) > _LONG:
            # What is deleted stays in place, as in libpcap, but not where it would be most of the work.
            node.stmts = [stmt for stmt in node.stmts if stmt[0] != NOP]

    def _operand(self, node: Node) -> None:
        if node.code & c.BPF_X:
            node.oval, node.oval_tru = node.val[X], node.tru[X]
        else:
            node.oval = node.oval_tru = self.const(node.k)

    def _entries(self, node: Node) -> tuple[Values, Values]:
        if not node.in_edges:
            return [0] * self.atoms, [self.phi(node.number, atom) for atom in range(self.atoms)]
        first = node.in_edges[0][0]
        val, tru = first.val, first.tru
        for pred, _ in node.in_edges[1:]:
            if pred.val is not val and pred.val != val:
                val = [a if a == b else 0 for a, b in zip(val, pred.val, strict=True)]
            if pred.tru is not tru and pred.tru != tru:
                tru = [
                    a if a == b else self.phi(node.number, atom)
                    for atom, (a, b) in enumerate(zip(tru, pred.tru, strict=True))
                ]
        return val, tru

    def _needless(self, node: Node) -> bool:
        """Whether nothing the node computes matters."""
        if node.code & 7 == c.BPF_RET:
            return rejects(node) or not (atoms_used(node.code, node.k) or self.traps(node))
        return (
            not node.out_use
            and node.entry[A] != 0
            and node.val[A] == node.entry[A]
            and node.tru[A] == node.entry_tru[A]
            and node.entry[X] != 0
            and node.val[X] == node.entry[X]
            and node.tru[X] == node.entry_tru[X]
            and not self.traps(node)
        )

    def _store(self, stmt: list[int], atom: int, val: Values, tru: Values, new: int, new_tru: int) -> None:
        """Note that a statement sets an atom; delete it when the atom holds that value already."""
        if new and val[atom] == new and tru[atom] == new_tru:
            stmt[0] = NOP
        else:
            val[atom] = new
            tru[atom] = new_tru

    def _known(self, val: int, tru: int) -> int | None:
        """The constant both numbers stand for."""
        known = self.consts.get(val)
        return known if known is not None and val == tru else None

    def _alter(self, stmt: list[int], val: Values, tru: Values) -> None:
        """Execute one statement on both rows, simplifying it."""
        code, k = stmt
        kind = code & 7
        if code == NOP:
            return
        if kind == c.BPF_ALU:
            if code == NEG:
                known = self._known(val[A], tru[A])
                if known is not None:
                    stmt[:] = LD_IMM, -known & MAX
                    val[A] = tru[A] = self.const(stmt[1])
                    return
            elif code & c.BPF_X:
                if self._alter_x(stmt, val, tru):
                    return
            elif self._alter_k(stmt, val, tru):
                return
            self.run([stmt], val)
            self.run([stmt], tru)
        elif kind == c.BPF_ST:
            self._store(stmt, MEM + k, val, tru, val[A], tru[A])
        elif kind == c.BPF_STX:
            self._store(stmt, MEM + k, val, tru, val[X], tru[X])
        elif code == TAX:
            self._store(stmt, X, val, tru, val[A], tru[A])
        elif code == TXA:
            self._store(stmt, A, val, tru, val[X], tru[X])
        elif code in (LD_MEM, LDX_MEM):
            known = self._known(val[MEM + k], tru[MEM + k])
            atom = A if kind == c.BPF_LD else X
            new, new_tru = val[MEM + k], tru[MEM + k]
            if known is not None:
                stmt[:] = LD_IMM if kind == c.BPF_LD else LDX_IMM, known
                self.mark()
            self._store(stmt, atom, val, tru, new, new_tru)
        elif kind == c.BPF_LD or kind == c.BPF_LDX:
            if kind == c.BPF_LD and code & 0xE0 == c.BPF_IND:
                known = self._known(val[X], tru[X])
                if known is not None and known + k <= MAX:
                    stmt[:] = c.BPF_LD | c.BPF_ABS | code & 0x18, known + k
                    self.mark()
            new_row, new_tru_row = list(val), list(tru)
            self.run([stmt], new_row)
            self.run([stmt], new_tru_row)
            atom = A if kind == c.BPF_LD else X
            self._store(stmt, atom, val, tru, new_row[atom], new_tru_row[atom])

    def _alter_k(self, stmt: list[int], val: Values, tru: Values) -> bool:
        """Arithmetic with a constant; whether it was done for good."""
        code, k = stmt
        op = code & 0xF0
        if k == 0:
            # "sub #0" stays: the peephole below may want it.
            if op in _ZERO_MEANS_NOTHING:
                stmt[0] = NOP
                return True
            if op == c.BPF_MUL or op == c.BPF_AND:
                stmt[0] = LD_IMM
                val[A] = tru[A] = self.const(0)
                return True
            if op in DIVISIONS:
                if self.patient:
                    return False
                raise by_zero(op)
        known = self._known(val[A], tru[A])
        if known is None:
            return False
        self._fold(stmt, op, known, k, val, tru)
        return True

    def _alter_x(self, stmt: list[int], val: Values, tru: Values) -> bool:
        """Arithmetic with X; whether it was done for good."""
        op = stmt[0] & 0xF0
        a, x = self._known(val[A], tru[A]), self._known(val[X], tru[X])
        if x == 0 and op in DIVISIONS and self.patient:
            return False
        # Otherwise a divisor of zero is refused when both are known, else as a constant, by the next pass,
        # which may not come by here any more.
        if x is not None:
            if a is not None:
                self._fold(stmt, op, a, x, val, tru)
                return True
            if (op == c.BPF_LSH or op == c.BPF_RSH) and x > 31:
                raise FilterSyntaxError("shift by more than 31 bits")
            stmt[:] = c.BPF_ALU | c.BPF_K | op, x
            self.mark()
            return False
        if a == 0:
            if op in _X_WHEN_A_IS_ZERO:
                stmt[0] = TXA
                self._store(stmt, A, val, tru, val[X], tru[X])
                return True
            if op in _ZERO_WHEN_A_IS_ZERO:  # 0 / X is left alone: X may be zero
                stmt[:] = LD_IMM, 0
                zero = self.const(0)
                self._store(stmt, A, val, tru, zero, zero)
                return True
        return False

    def _fold(self, stmt: list[int], op: int, a: int, b: int, val: Values, tru: Values) -> None:
        stmt[:] = LD_IMM, fold(op, a, b)
        val[A] = tru[A] = self.const(stmt[1])
        self.mark()

    # --- peephole ----------------------------------------------------------------------------

    def _peephole(self, node: Node) -> None:
        if node.bare:
            return
        stmts = node.stmts
        live = [stmt for stmt in stmts if stmt[0] != NOP]
        # Deleting on the way does not move the walk: it goes over what was there when it came by.
        last = stmts[0] if stmts else None
        index = 0
        while index < len(live):
            stmt = live[index]
            if stmt[0] == NOP:
                index += 1
                continue
            rest: list[list[int]] = []  # the next four: no pattern is longer
            for at in range(index + 1, len(live)):
                if live[at][0] != NOP:
                    rest.append(live[at])
                    if len(rest) == 4:
                        break
            if not rest:
                break
            last = rest[0]
            self._pair(node, stmt, rest)
            index += 1
        if last is not None:
            self._compare(node, last)
        self._test(node)

    def _pair(self, node: Node, stmt: list[int], rest: list[list[int]]) -> None:
        following = rest[0]
        if stmt[0] == c.BPF_ST and following[0] == LDX_MEM and stmt[1] == following[1]:
            following[0] = TAX
            self.mark()
        if stmt[0] == LD_IMM and following[0] == TAX:
            stmt[0] = LDX_IMM
            following[0] = TXA
            self.mark()
        if stmt[0] != LD_IMM or node.out_use & X_BIT:
            return
        # A header field at a constant offset: ld #n, [ldxb 4*([k]&0xf)], add x, tax, ld [x+m].
        skip = 1 if following[0] == LDX_MSH else 0
        if len(rest) < skip + 3:
            return
        add, tax, load = rest[skip : skip + 3]
        if add[0] != ADD_X or tax[0] != TAX or load[0] & 0xE7 != c.BPF_LD | c.BPF_IND:
            return
        if self._index_bound(node, stmt, skip == 1) + stmt[1] > MAX or load[1] + stmt[1] > MAX:
            return
        if self._x_read_later(node, load):
            return
        load[1] += stmt[1]
        stmt[0] = add[0] = tax[0] = NOP
        self.mark()

    def _index_bound(self, node: Node, stmt: list[int], header_length: bool) -> int:
        if header_length:
            return 60
        row = list(node.entry_tru)
        for other in node.stmts:
            if other is stmt:
                break
            self.run([other], row)
        found = self.bound(row[X])
        return _LONGEST_PACKET if found == MAX and self._was_index(node, row[X]) else found

    def _was_index(self, node: Node, number: int) -> bool:
        """Whether a load on every way to the node was at this value of X, which is then within the packet."""
        for other in self.nodes:
            if other is node or not node.dom >> other.number & 1:
                continue
            row = list(other.entry_tru)
            for stmt in other.stmts:
                if stmt[0] & 0xE7 == c.BPF_LD | c.BPF_IND and row[X] == number:
                    return True
                self.run([stmt], row)
        return False

    def _x_read_later(self, node: Node, load: list[int]) -> bool:
        """Whether X as it is after ``load`` is read in the node."""
        after = False
        for stmt in node.stmts:
            code, k = stmt
            if after and code != NOP:
                if atoms_used(code, k) & X_BIT:
                    return True
                if atom_defined(code, k) == X:
                    return False
            after = after or stmt is load
        return bool(node.code & c.BPF_X)

    def _compare(self, node: Node, last: list[int]) -> None:
        """Merge the last statement into a test for equality, when A is not wanted afterwards."""
        if node.code != JEQ_K or node.out_use & A_BIT:
            return
        code, k = last
        if code == SUB_X:
            x = self._known(node.val[X], node.tru[X])
            if x is not None:
                node.k = node.k + x & MAX
            elif node.k == 0 and node.val[X] not in self.consts:
                node.code = JEQ_X
            else:
                return
        elif code == SUB_K:
            node.k = node.k + k & MAX
        elif code == AND_K and node.k == 0:
            node.k = k
            node.code = JSET_K
            node.to.reverse()
        else:
            return
        last[0] = NOP
        self.mark()

    def _test(self, node: Node) -> None:
        """Decide the node's test where its operands are known."""
        to = node.to
        # libpcap also takes "jset #0xffffffff" for always true; it is not when A is zero.
        if node.code == JSET_K and node.k == 0:
            to[1] = to[0]
        if node.code & c.BPF_X:
            x = self._known(node.val[X], node.tru[X])
            if x is None:
                return
            node.code &= ~c.BPF_X
            node.k = x
        if node.code & 7 != c.BPF_JMP:
            return
        a = self._known(node.val[A], self._final_a(node))
        if a is None:
            return
        sense = holds(node.code, a, node.k)
        if to[0] is not to[1]:
            self.mark()
        to[not sense] = to[sense]

    def _final_a(self, node: Node) -> int:
        row = list(node.entry_tru)
        self.run(node.stmts, row)
        return row[A]

    # --- dead stores -------------------------------------------------------------------------

    def _dead_stores(self, node: Node) -> None:
        """Delete what is set again or not wanted before anyone reads it."""
        last: dict[int, list[int]] = {}
        for stmt in node.stmts:
            code, k = stmt
            if code == NOP:
                continue
            self._forget(last, atoms_used(code, k))
            atom = atom_defined(code, k)
            if atom >= 0:
                if atom in last:
                    self._delete(last[atom])
                if self._may_trap(node, stmt):
                    last.pop(atom, None)
                else:
                    last[atom] = stmt
        self._forget(last, atoms_used(node.code, node.k))
        for atom in sorted(last):
            if not node.out_use >> atom & 1:
                self._delete(last[atom])

    def _forget(self, last: dict[int, list[int]], used: int) -> None:
        if used & A_BIT:
            last.pop(A, None)
        if used & X_BIT:
            last.pop(X, None)
        if used >> MEM:
            last.pop(used.bit_length() - 1, None)

    def _delete(self, stmt: list[int]) -> None:
        stmt[0] = NOP
        self.mark()

    def _may_trap(self, node: Node, stmt: list[int]) -> bool:
        code = stmt[0]
        if self.careless:
            return False
        if code & 7 != c.BPF_ALU or not code & c.BPF_X or code & 0xF0 not in DIVISIONS:
            return False
        row = list(node.entry_tru)
        for other in node.stmts:
            if other is stmt:
                break
            self.run([other], row)
        return not self.consts.get(row[X])
