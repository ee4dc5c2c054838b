"""Cases and generated programs in other kernels, under emulation, and from processes without privileges.

Runs under `make test-kernels` (SKEP_TEST_KERNELS names the versions, by default all): every kernel takes
minutes. Our verifier is asked for the same version by data alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import emulate, images
from tests.support.oracles import ROOT, absent
from tests.verifier import generate
from tests.verifier.harness import differ, guest
from tests.verifier.harness.cases import read_file
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Answer, Question
from tests.verifier.test_cases import FILES, wrong

VERSIONS = ("5.10", "6.1", "6.12", "6.18", "7")
ASKED = os.environ.get("SKEP_TEST_KERNELS", "")
GENERATED = 250
#: What stable releases changed: an early 6.18 knows no byte-swapped numbers, lets kprobes write registers.
#: These cases hold for the later ones (tests/verifier/test_cases.py asks the running kernel).
STABLE = {
    (6, 18): (
        "scalars.txt: byte swap of a constant",
        "scalars.txt: be16 bounds to 16 bits",
        "context.txt: writing registers of a kprobe",
    )
}

pytestmark = [
    pytest.mark.skipif(not ASKED, reason="make test-kernels runs these"),
    pytest.mark.oracle,
]


def wanted() -> list[str]:
    chosen = [v for v in ASKED.split() if v[0].isdigit() and v != "1"]
    return chosen or list(VERSIONS)


def asked() -> Iterator[tuple[str, Question]]:
    """Every case but those that take a million instructions, and generated programs."""
    for file in FILES:
        for case in read_file(file):
            if "million" not in case.name:
                yield f"{case.file}: {case.name}", case.question
    for seed in range(GENERATED):
        made = generate.question(seed)
        if made is not None:
            yield f"seed {seed}", made


def guests(prefix: str, *words: str) -> tuple[tuple[int, int], dict[str, Answer | None]]:
    """(version, what the kernel says to each question)."""
    with tempfile.TemporaryDirectory(prefix="skep-asked-") as folder:
        file = Path(folder, "asked")
        guest.write(file, asked())
        try:
            image = images.find(prefix) or images.fetch(prefix)
            command = [sys.executable, "-m", "tests.verifier.harness.guest", str(file), *words]
            answer = emulate.run(image, command, folder=str(ROOT), timeout=900, memory=1200)
        except images.Missing as reason:
            absent(str(reason))
    assert answer.status == 0, f"{answer.status}: {answer.output[-2000:]}{answer.console[-1000:]}"
    return image.version, guest.answers(answer.output)


def compared(found: dict[str, Answer | None], version: tuple[int, int], privileged: bool) -> differ.Tally:
    tally = differ.Tally()
    for name, question in asked():
        theirs = found.get(name)
        if theirs is None or theirs.processed > differ.MOST or name in STABLE.get(version, ()):
            continue
        try:
            ours = judge(question, kernel=version, privileged=privileged)
        except Exception as error:
            broken = differ.Compared(differ.BROKEN, theirs, Answer(False), f"{type(error).__name__}: {error}")
            tally.add(broken, name)
            continue
        tally.add(differ.judged(theirs, ours), name)
    return tally


@pytest.mark.parametrize("prefix", wanted())
def test_verdicts_of_another_kernel(prefix: str) -> None:
    version, found = guests(prefix)
    own = f"{version[0]}.{version[1]}"
    for file in FILES:
        for case in read_file(file):
            said = found.get(f"{case.file}: {case.name}")
            if own in case.verdicts and said is not None:
                assert not wrong(case, said, own)
    tally = compared(found, version, privileged=True)
    report = f"Linux {version}\n{tally.table()}"
    print(report)
    assert tally.accepted + tally.rejected > 400, report
    assert not tally.kinds[differ.BROKEN], report
    assert not tally.kinds[differ.UNSAFE], report
    assert tally.kinds[differ.STRICT] <= 0.01 * sum(tally.kinds.values()), report


def test_verdicts_without_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any capability, and with the processor's speculation taken for dangerous."""
    if "6.18" not in wanted():
        pytest.skip("6.18 was not asked for")
    monkeypatch.setattr(emulate, "_ARGUMENTS", emulate._ARGUMENTS.replace("mitigations=off ", ""))
    version, found = guests("6.18", "--unprivileged")
    for file in FILES:
        for case in read_file(file):
            theirs = found.get(f"{case.file}: {case.name}")
            if "unprivileged" in case.verdicts and theirs is not None:
                assert not wrong(case, theirs, "unprivileged")
    tally = compared(found, version, privileged=False)
    report = tally.table()
    print(report)
    assert tally.accepted > 50 and tally.rejected > 200, report
    assert not tally.kinds[differ.BROKEN], report
    assert tally.kinds[differ.UNSAFE] + tally.kinds[differ.STRICT] <= 0.02 * sum(tally.kinds.values()), report
