"""The grammar of pcap-filter(7), as a parser with a stack of its own: no nesting is too deep.

Code is generated as the expression is read, from left to right, because words like `vlan` change
what the words after them mean.

What may come next depends on what is open. After `and` or `or` a whole term or a bare id (a name,
number or address that inherits its qualifiers) may follow; after qualifiers only an id. A parenthesis
may turn out to hold an expression, a list of ids, a number or arithmetic.
"""

from __future__ import annotations

from typing import Any, Final

from skep.errors import FilterSyntaxError
from skep.filter import gen_arith as arith
from skep.filter import gen_id, gen_ip
from skep.filter.emit import Cond, Emitter, both, either, negate
from skep.filter.gen_ip import NO_QUAL, Qual
from skep.filter.lexer import ARCNET, DIR, DOTTED, END, HEX6, IN, KIND, MAC, NAME, NUM, PROTO, Tokens, lex
from skep.filter.primitives import PRIMITIVES
from skep.isa.classic import BPF_JEQ, BPF_JGE, BPF_JGT

# What an open construct waits for.
TERM: Final = 0
TERM_OR_ID: Final = 1
ID: Final = 2
ARITH: Final = 3
# The same just behind a parenthesis.
IN_TERM: Final = 4  # an expression, or arithmetic
IN_TERM_OR_ID: Final = 5  # ... or a list of ids
IN_ID: Final = 6  # a list of ids, or a number
IN_NUMBER: Final = 7
IN_ARITH: Final = 8

_TAKES_TERM: Final = frozenset({TERM, TERM_OR_ID, IN_TERM, IN_TERM_OR_ID})
_TAKES_ID: Final = frozenset({TERM_OR_ID, ID, IN_TERM_OR_ID, IN_ID})
_TAKES_ARITH: Final = frozenset({TERM, TERM_OR_ID, ARITH, IN_TERM, IN_TERM_OR_ID, IN_ARITH})
_AFTER_PAREN: Final = {
    TERM: IN_TERM,
    TERM_OR_ID: IN_TERM_OR_ID,
    ID: IN_ID,
    ARITH: IN_ARITH,
    IN_TERM: IN_TERM,
    IN_TERM_OR_ID: IN_TERM,
    IN_ID: IN_NUMBER,
    IN_NUMBER: IN_NUMBER,
    IN_ARITH: IN_ARITH,
}
_AFTER_NOT: Final = {
    TERM: TERM,
    TERM_OR_ID: TERM_OR_ID,
    ID: ID,
    IN_TERM: TERM,
    IN_TERM_OR_ID: TERM_OR_ID,
    IN_ID: ID,
}
_EXPECTED: Final = {
    TERM: "a primitive",
    TERM_OR_ID: "a primitive, or another value for the last one",
    ID: "a name, number or address",
    ARITH: "a number, len, or bytes such as tcp[13]",
    IN_TERM: "an expression",
    IN_TERM_OR_ID: "an expression or values",
    IN_ID: "names, numbers or addresses",
    IN_NUMBER: "a number",
    IN_ARITH: "arithmetic",
}

# Kinds of value.
_NUMBER: Final = 0  # not yet known as what: id, or arithmetic
_ARITH: Final = 1
_ID: Final = 2
_TERM: Final = 3

# (precedence, groups to the left); yacc gives % and ^ none, so they take all to their right.
_PRECEDENCE: Final = {"|": 1, "&": 2, "<<": 3, ">>": 3, "+": 4, "-": 4, "*": 5, "/": 5, "%": None, "^": None}
_NEGATION: Final = 6
_RELATIONS: Final = {
    ">": (BPF_JGT, False),
    ">=": (BPF_JGE, False),
    "=": (BPF_JEQ, False),
    "<=": (BPF_JGT, True),
    "<": (BPF_JGE, True),
    "!=": (BPF_JEQ, True),
}
#: What may follow a protocol when it qualifies something.
_QUALIFIED: Final = frozenset({DIR, KIND, "broadcast", "multicast", "type", "subtype", "dir"})
_IDS: Final = frozenset({NAME, DOTTED, HEX6, MAC, ARCNET})


class _Frame:
    """Something open: ``what`` it is, the value it ``waits`` for, the qualifiers an id in it inherits."""

    __slots__ = ("data", "qual", "waits", "what")

    def __init__(self, what: str, waits: int, qual: Qual, data: Any = None) -> None:
        self.what = what
        self.waits = waits
        self.qual = qual
        self.data = data


class Parser:
    """One expression on its way to a `Cond`."""

    def __init__(self, text: str, g: Emitter) -> None:
        self.text = text
        self.g = g
        self.tokens: Tokens = lex(text)
        self.at = 0
        self.mark = 0  # first token of what is being generated, for errors

    def parse(self) -> Cond | None:
        """The whole expression; None for an empty one.

        Raises:
            FilterSyntaxError: with the column of what is refused.
        """
        if self.tokens.kinds[0] == END:
            return None
        try:
            return self._expression()
        except FilterSyntaxError as error:
            if error.column is not None:
                raise
            _, _, starts, ends = self.tokens
            last = max(self.mark, self.at - 1)
            raise FilterSyntaxError(
                error.reason,
                source=self.text,
                column=starts[self.mark],
                end_column=ends[last],
                hint=error.hint,
            ) from None

    # --- errors --------------------------------------------------------------------------------

    def unexpected(self, expected: str) -> FilterSyntaxError:
        """The current token is not what can stand there."""
        kinds, _, starts, ends = self.tokens
        start, end = starts[self.at], ends[self.at]
        shown = self.text[start : min(end, start + 40)]
        found = "the expression ends" if kinds[self.at] == END else f"{shown!r} is out of place"
        return FilterSyntaxError(
            f"{found}, expected {expected}",
            source=self.text,
            column=start,
            end_column=max(end, start + 1),
        )

    def unknown_word(self) -> FilterSyntaxError:
        """A name stands where a primitive begins."""
        start, end = self.tokens.starts[self.at], self.tokens.ends[self.at]
        return FilterSyntaxError(
            f"{self.text[start : min(end, start + 40)]!r} is no word of the filter language",
            source=self.text,
            column=start,
            end_column=end,
            hint="a name has host, net, port or proto before it",
        )

    def take(self, kind: str, expected: str) -> Any:
        """The value of the current token, which must be of this kind; steps over it."""
        if self.tokens.kinds[self.at] != kind:
            raise self.unexpected(expected)
        value = self.tokens.values[self.at]
        self.at += 1
        return value

    # --- the loop ------------------------------------------------------------------------------

    def _expression(self) -> Cond:
        stack: list[_Frame] = [_Frame("start", TERM, NO_QUAL)]
        while True:
            # An operand begins here.
            value = self._operand(stack)
            if value is None:
                continue
            done = self._reduce(stack, *value)
            if done is not None:
                return done

    def _operand(self, stack: list[_Frame]) -> tuple[int, Any, Qual] | None:
        """Read a primary: (kind, value, its qualifiers). None when it only opened something."""
        kinds, values, _, _ = self.tokens
        frame = stack[-1]
        waits = frame.waits
        self.mark = at = self.at
        kind = kinds[at]
        if kind in (KIND, DIR):
            if waits in _TAKES_TERM:
                return self._head(stack, None)
        elif kind in _IDS:
            # A word that libpcap 1.10 does not know, so it stays a name where only one can be.
            if values[at] == "vxlan" and waits in _TAKES_TERM and kind == NAME:
                return _TERM, self._primitive(None), NO_QUAL
            if waits in _TAKES_ID:
                return _ID, self._id(frame.qual), frame.qual
        elif kind == NUM:
            self.at = at + 1
            return _NUMBER, values[at], frame.qual
        elif kind == PROTO:
            following = kinds[at + 1]
            if following == "[":
                if waits in _TAKES_ARITH:
                    self.at = at + 2
                    stack.append(_Frame("[", ARITH, NO_QUAL, (str(values[at]), at)))
                    return None
            elif waits in _TAKES_TERM:
                self.at = at + 1
                name = str(values[at])
                if following in _QUALIFIED:
                    return self._head(stack, name)
                return _TERM, gen_ip.abbreviation(self.g, name), NO_QUAL
        elif kind == "(":
            saved = self.g.place() if self.g.scoped else None
            stack.append(_Frame("(", _AFTER_PAREN[waits], frame.qual, saved))
            self.at = at + 1
            return None
        elif kind == "not":
            if waits in _AFTER_NOT:
                stack.append(_Frame("not", _AFTER_NOT[waits], frame.qual))
                self.at = at + 1
                return None
        elif kind == "-":
            if waits in _TAKES_ARITH:
                stack.append(_Frame("minus", ARITH, NO_QUAL))
                self.at = at + 1
                return None
        elif kind == "len":
            if waits in _TAKES_ARITH:
                self.at = at + 1
                return _ARITH, arith.length(self.g), NO_QUAL
        elif waits in _TAKES_TERM and kind in PRIMITIVES:
            return _TERM, self._primitive(None), NO_QUAL
        if kind == NAME and waits in _TAKES_TERM:
            raise self.unknown_word()
        raise self.unexpected(_EXPECTED[waits])

    def _reduce(self, stack: list[_Frame], kind: int, value: Any, qual: Qual) -> Cond | None:
        """Give a value to what waits for it, as far as the next token allows. A `Cond` at the end."""
        g = self.g
        kinds = self.tokens.kinds
        while True:
            frame = stack[-1]
            what, waits = frame.what, frame.waits
            token = kinds[self.at]
            if kind == _ID:
                if what == "head":
                    stack.pop()
                    kind = _TERM
                elif what == "not":
                    negate(value)
                    stack.pop()
                elif what == "and" or what == "or":
                    value = both(frame.data, value) if what == "and" else either(frame.data, value)
                    stack.pop()
                    kind = _TERM if waits == TERM_OR_ID else _ID
                elif token == ")":
                    self._close(stack)
                elif token == "and" or token == "or":
                    stack.append(_Frame(token, ID, qual, value))
                    self.at += 1
                    return None
                else:
                    raise self.unexpected("'and', 'or' or ')'")
            elif kind == _TERM:
                if what == "and" or what == "or":
                    value = both(frame.data, value) if what == "and" else either(frame.data, value)
                    stack.pop()
                elif what == "not":
                    negate(value)
                    stack.pop()
                elif token == "and" or token == "or":
                    stack.append(_Frame(token, TERM_OR_ID, qual, value))
                    self.at += 1
                    return None
                elif what == "(" and token == ")":
                    qual = frame.qual
                    self._close(stack)
                elif what == "start" and token == END:
                    return value  # type: ignore[no-any-return]  # the stack holds values of each step
                else:
                    raise self.unexpected("'and' or 'or'" if what == "start" else "'and', 'or' or ')'")
            elif kind == _NUMBER:
                if token in _PRECEDENCE or token in _RELATIONS:
                    if waits not in _TAKES_ARITH:
                        raise self.unexpected(_AFTER_ID)
                    kind, value = _ARITH, arith.constant(g, value)
                elif token == ")" and what == "(":
                    self._close(stack)
                    qual = stack[-1].qual
                elif waits in _TAKES_ID:
                    qual = stack[-1].qual
                    kind, value = _ID, gen_id.number(g, value, qual)
                elif waits == ARITH:
                    kind, value = _ARITH, arith.constant(g, value)
                else:
                    raise self.unexpected("a relation such as = or >")
            elif self._arithmetic(stack, value):
                # The value was put aside, or became a relation or part of a larger value.
                pending = self._pending
                if pending is None:
                    return None
                kind, value, qual = pending
            else:
                raise self.unexpected("an operator, or a relation such as = or >")

    def _arithmetic(self, stack: list[_Frame], value: arith.Arith) -> bool:
        """One step with an arithmetic value; what comes of it in ``_pending``. False if nothing fits."""
        g = self.g
        frame = stack[-1]
        what = frame.what
        token = self.tokens.kinds[self.at]
        self._pending: tuple[int, Any, Qual] | None = None
        if what == "minus":
            if token not in ("%", "^"):
                stack.pop()
                self._pending = _ARITH, arith.minus(g, value), NO_QUAL
                return True
        elif what == "operator":
            sign, left = frame.data
            if token not in _PRECEDENCE or _binds_first(sign, token):
                stack.pop()
                self._pending = _ARITH, arith.operate(g, sign, left, value), NO_QUAL
                return True
        if token in _PRECEDENCE:
            stack.append(_Frame("operator", ARITH, NO_QUAL, (token, value)))
            self.at += 1
            return True
        if what == "[":
            size = 1
            if token == ":":
                self.at += 1
                size = self.take(NUM, "a size: 1, 2 or 4")
                token = self.tokens.kinds[self.at]
            if token != "]":
                raise self.unexpected("]")
            self.at += 1
            stack.pop()
            proto, self.mark = frame.data
            self._pending = _ARITH, arith.load(g, proto, value, size), NO_QUAL
            return True
        if what == "relation":
            jump, reverse, left = frame.data
            stack.pop()
            self._pending = _TERM, arith.relation(g, jump, reverse, left, value), NO_QUAL
            return True
        if token in _RELATIONS and frame.waits in _TAKES_TERM:
            jump, reverse = _RELATIONS[token]
            stack.append(_Frame("relation", ARITH, NO_QUAL, (jump, reverse, value)))
            self.at += 1
            return True
        if token == ")" and what == "(" and frame.waits in (IN_TERM, IN_TERM_OR_ID, IN_ARITH):
            self._close(stack)
            self._pending = _ARITH, value, NO_QUAL
            return True
        return False

    def _close(self, stack: list[_Frame]) -> None:
        """Step over the parenthesis that closes the top frame."""
        frame = stack.pop()
        self.at += 1
        if frame.data is not None:
            self.g.return_to(frame.data)

    # --- primitives ----------------------------------------------------------------------------

    def _head(self, stack: list[_Frame], proto: str | None) -> tuple[int, Any, Qual] | None:
        """Qualifiers, and what they qualify."""
        kinds, values, _, _ = self.tokens
        at = self.at
        kind = kinds[at]
        if kind != DIR and kind != KIND:
            return _TERM, self._primitive(proto), NO_QUAL
        dir: str | None = None
        if kind == DIR:
            dir = str(values[at])
            at += 1
            kind = kinds[at]
            if dir in ("src", "dst") and kind in ("and", "or"):
                self.at = at + 1
                other = "dst" if dir == "src" else "src"
                if kinds[at + 1] != DIR or values[at + 1] != other:
                    raise self.unexpected(f"{other}, as in {dir} {kind} {other}")
                dir = f"src {kind} dst"
                at += 2
                kind = kinds[at]
        wanted: str | None = None
        if kind == KIND:
            wanted = str(values[at])
            if dir is not None and wanted in ("proto", "protochain", "gateway"):
                self.at = at
                raise self.unexpected(f"host, net, port or a value: {wanted} takes no direction")
            at += 1
        self.at = at
        qual = Qual(proto, dir, wanted)
        if kinds[at] == IN:
            from skep.filter.gen_set import from_file

            self.at = at + 2
            return _TERM, from_file(self.g, str(values[at + 1]), qual), NO_QUAL
        stack.append(_Frame("head", ID, qual))
        return None

    def _id(self, qual: Qual) -> Cond:
        """A name or address at the current token."""
        kinds, values, _, _ = self.tokens
        g, at = self.g, self.at
        kind, text = kinds[at], str(values[at])
        self.at = at + 1
        if kind == DOTTED:
            following = kinds[at + 1]
            if following == "/":
                self.at = at + 2
                return gen_id.network4(g, text, None, self.take(NUM, "a prefix length"), qual)
            if following == "mask":
                self.at = at + 2
                return gen_id.network4(g, text, self.take(DOTTED, "a mask such as 255.255.0.0"), 0, qual)
            return gen_id.dotted(g, text, qual)
        if kind == HEX6:
            length = None
            if kinds[at + 1] == "/":
                self.at = at + 2
                length = self.take(NUM, "a prefix length")
            return gen_id.six(g, text, length, qual)
        if kind == MAC:
            return gen_id.hardware(g, text, qual)
        if kind == ARCNET:
            return gen_id.arcnet(g, text, qual)
        return gen_id.name(g, text, qual)

    def _primitive(self, proto: str | None) -> Cond:
        word = str(self.tokens.values[self.at])
        self.at += 1
        return PRIMITIVES[word](self, word, proto)

    # --- helpers of primitives -----------------------------------------------------------------

    def optional_number(self) -> int | None:
        """A number in any number of parentheses, if one follows."""
        kinds = self.tokens.kinds
        depth = 0
        while kinds[self.at] == "(":
            depth += 1
            self.at += 1
        if not depth and kinds[self.at] != NUM:
            return None
        value: int = self.take(NUM, "a number")
        for _ in range(depth):
            self.take(")", "a closing parenthesis")
        return value

    def comparison(self) -> tuple[int, bool]:
        """A relation in front of a number; equality when there is none."""
        relation = _RELATIONS.get(self.tokens.kinds[self.at])
        if relation is None:
            return BPF_JEQ, False
        self.at += 1
        return relation


_AFTER_ID: Final = "and, or, or the end: there is no arithmetic with qualifiers"


def _binds_first(sign: str, token: str) -> bool:
    """``a sign b token`` groups as ``(a sign b) token``."""
    left, right = _PRECEDENCE[sign], _PRECEDENCE[token]
    return left is not None and right is not None and left >= right
