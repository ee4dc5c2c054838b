"""The verifier, offline: what Linux would say of a program, and why.

>>> subject = verifier.Subject.from_object(obj.read("prog.bpf.o"), "firewall")
>>> verifier.check(subject, kernel="6.18").processed
214
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skep.verifier.subject import FuncFacts as FuncFacts
    from skep.verifier.subject import KfuncFacts as KfuncFacts
    from skep.verifier.subject import LineFacts as LineFacts
    from skep.verifier.subject import MapFacts as MapFacts
    from skep.verifier.subject import Subject as Subject
    from skep.verifier.verdict import Verdict as Verdict
    from skep.verifier.verdict import check as check

_HOMES = {
    "FuncFacts": "skep.verifier.subject",
    "KfuncFacts": "skep.verifier.subject",
    "LineFacts": "skep.verifier.subject",
    "MapFacts": "skep.verifier.subject",
    "Subject": "skep.verifier.subject",
    "Verdict": "skep.verifier.verdict",
    "check": "skep.verifier.verdict",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'skep.verifier' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
