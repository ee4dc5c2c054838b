"""From a verifier's log to an explanation a person can use.

    from skep.explain import explain
    print(explain(log).render())

The log is a kernel's, of any version (5.10 to 7.3 are tested; 7.3's own report is read too), or that of
`skep.verifier`, which prints the same. Nothing here needs a kernel or the object.
"""

from __future__ import annotations

from collections.abc import Callable

from skep.explain.klog import parse
from skep.explain.report import Explanation
from skep.explain.trail import Cause, Location, Report, Step, Trail

__all__ = ["Cause", "Explanation", "Location", "Report", "Step", "Trail", "explain", "parse"]


def explain(log: str, locate: Callable[[int], Location | None] | None = None) -> Explanation | None:
    """The explanation of the refusal that ``log`` tells of; None when it holds no refusal.

    ``locate`` gives the place in the source of an instruction slot, for logs without source lines or columns.
    """
    trail = parse(log, locate)
    if trail.accepted or (not trail.messages and trail.report is None):
        return None
    explanation = Explanation(trail)
    told = trail.last is not None or trail.processed is not None or trail.report is not None
    return explanation if told or explanation.family != "other" else None
