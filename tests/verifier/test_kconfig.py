"""Values of the kernel's configuration decide which code is alive, as in tools that run on many releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep import obj
from skep.errors import VerifierError
from skep.verifier import Subject, check
from tests.obj.support import compiled, written

SOURCE = """
extern int LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));
extern int CONFIG_NOBODY_HAS_THIS __attribute__((section(".kconfig")));

__attribute__((section("tp_btf/sched_process_fork"), used)) int by_version(unsigned long long *ctx)
{
	return LINUX_KERNEL_VERSION < 0x061200 ? ctx[7] & 1 : 0; // there is no eighth argument
}

__attribute__((section("tp_btf/sched_process_fork"), used)) int by_unknown(unsigned long long *ctx)
{
	return CONFIG_NOBODY_HAS_THIS ? ctx[7] & 1 : 0;
}
"""


def built(folder: Path, source: str) -> obj.ObjectSpec:
    return obj.read(compiled(written(folder, "kconfig.c", source), folder))


def test_the_release_asked_about_decides(tmp_path: Path) -> None:
    spec = built(
        tmp_path, SOURCE.replace("extern int CONFIG_NOBODY_HAS_THIS", "int CONFIG_NOBODY_HAS_THIS;//")
    )
    before = bytes(spec.maps[".kconfig"].data or b"")
    assert check(Subject.from_object(spec, "by_version", kernel="6.18"), kernel="6.18").processed < 8
    with pytest.raises(VerifierError, match="doesn't have"):
        check(Subject.from_object(spec, "by_version", kernel="6.12"), kernel="6.12")
    assert bytes(spec.maps[".kconfig"].data or b"") == before


def test_a_value_that_is_not_known_may_be_anything(tmp_path: Path) -> None:
    spec = built(tmp_path, SOURCE)
    with pytest.raises(VerifierError, match="doesn't have"):
        check(Subject.from_object(spec, "by_unknown"))


def test_a_release_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(VerifierError, match="is not of the form"):
        Subject.from_object(built(tmp_path, SOURCE), "by_version", kernel="six")
