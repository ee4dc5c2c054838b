"""A command line as bpftool reads it: words one after the other, keywords by any prefix."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Usage(Exception):
    """The command line is wrong; the message says what was expected."""


class Words:
    """The words not read yet."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._at = 0

    def __len__(self) -> int:
        return len(self._words) - self._at

    def rest(self) -> list[str]:
        """All the words left, read."""
        left = self._words[self._at :]
        self._at = len(self._words)
        return left

    def peek(self) -> str | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def next_is(self, *keywords: str) -> bool:
        """Whether the next word is one of ``keywords`` or a prefix of one."""
        word = self.peek()
        return word is not None and any(is_prefix(word, keyword) for keyword in keywords)

    def accept(self, *keywords: str) -> bool:
        """Read the next word if it is one of ``keywords``."""
        if self.next_is(*keywords):
            self._at += 1
            return True
        return False

    def take(self, what: str) -> str:
        """The next word, which is ``what``.

        Raises:
            Usage: there is none.
        """
        word = self.peek()
        if word is None:
            raise Usage(f"{what} is missing")
        self._at += 1
        return word

    def number(self, what: str) -> int:
        """The next word as an unsigned 32-bit number, decimal, 0x… or 0… (octal), as in C."""
        return number(self.take(what), what)

    def end(self) -> None:
        """Raises Usage when a word is left."""
        if self:
            raise Usage(f"unexpected {self.peek()!r}")


def is_prefix(word: str, keyword: str) -> bool:
    return bool(word) and keyword.startswith(word)


def number(word: str, what: str, bits: int = 32) -> int:
    """``word`` as an unsigned number in C's notation.

    Raises:
        Usage: it is none, or needs more than ``bits`` bits.
    """
    try:
        if len(word) > 1 and word[0] == "0" and word.isdigit():
            value = int(word, 8)
        elif "_" in word:
            raise ValueError
        else:
            value = int(word, 0)
    except ValueError:
        raise Usage(f"{what}: {word!r} is no number") from None
    if not 0 <= value < 1 << bits:
        raise Usage(f"{what}: {word} does not fit {bits} bits")
    return value
