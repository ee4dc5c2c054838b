"""The root of everything a register or a stack slot can hold."""

from __future__ import annotations


class Value:
    """``type`` is a kind of `kinds` with its flags."""

    __slots__ = ("type",)

    type: int


class NotInit(Value):
    """Nothing has been written, or nothing may be read any more."""

    __slots__ = ()

    def __init__(self) -> None:
        self.type = 0

    def __repr__(self) -> str:
        return "NotInit"
