"""The check of the tables finds a wrong entry: on the running kernel, without booting another."""

from __future__ import annotations

import pytest

from skep.errors import FormatError
from skep.linux.kernel import LinuxKernel
from skep.uapi.enums import SINCE
from tests.kernels.facts import contradictions
from tests.support.oracles import absent, bpf


def test_wrong_entries_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    bpf()
    monkeypatch.setitem(SINCE, "BPF_MAP_CREATE", "99.0")
    monkeypatch.setitem(SINCE, "BPF_NO_SUCH_COMMAND", "4.0")
    try:
        total, found = contradictions(LinuxKernel())
    except FormatError as error:
        absent(f"the kernel's BTF ({error})")
    assert total > 450
    wrong = {(one.name, one.answer) for one in found if one.table == "enums.SINCE"}
    assert wrong == {("BPF_MAP_CREATE", "present"), ("BPF_NO_SUCH_COMMAND", "missing")}
