"""The kernel-style log: level 1 the path with register states that changed, level 2 every instruction's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.insn import Insn


class Printer:
    """Writes ``env.log``."""

    __slots__ = ("env",)

    def __init__(self, env: Env) -> None:
        self.env = env

    def before(self, insn: Insn, prev: int) -> None:
        """An instruction is about to be simulated."""

    def resume(self, prev: int) -> None:
        """Another path is taken up."""
