"""Programs as people write them, in C: accepted like by the kernel, and with about as much work.

``SKEP_LONG=1`` adds those of up to 80,000 instructions and 300,000 processed.
"""

from __future__ import annotations

import os

import pytest
from tools.verifier_corpus import kernel_verdict, our_verdict

from skep.obj import CoreTarget
from tests.support import oracles
from tests.verifier.harness import large

LONG = bool(os.environ.get("SKEP_LONG"))
BUILDS = (*large.SMALL, *large.MIDDLE, *(large.LARGE if LONG else ()))
MOST = 1.5


@pytest.mark.live
@pytest.mark.parametrize("what", BUILDS, ids=str)
def test_accepted_with_about_the_kernels_work(what: large.Build) -> None:
    oracles.bpf()
    CoreTarget.kernel()
    path = large.build(what)
    for name in large.programs(what):
        theirs = kernel_verdict(path, name)
        ours = our_verdict(path, name, 120)
        assert theirs["verdict"] == "accept", (name, theirs)
        assert ours["verdict"] == "accept", (name, ours)
        ratio = ours["processed"] / theirs["processed"]
        print(f"{what} {name}: kernel {theirs['processed']}, ours {ours['processed']} ({ratio:.2f})")
        assert ratio <= MOST or ours["processed"] < 100, (name, theirs["processed"], ours["processed"])
