"""Every hook attaches, fires, and is silent again, on the running kernel."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator

import pytest

from skep.errors import KernelError, NotSupported, PermissionDenied
from tests.linux.links.rig import Rig, Scenario, Skipped, scenarios
from tests.support.oracles import absent, bpf

pytestmark = pytest.mark.live


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("rig"))


@pytest.fixture
def rig(folder: str) -> Iterator[Rig]:
    bpf()
    made = Rig(folder)
    yield made
    made.close()


@pytest.mark.parametrize("one", scenarios(), ids=lambda one: one.name)
def test_hook(one: Scenario, rig: Rig) -> None:
    gc.collect()  # what other tests left to the collector
    before = _open()
    old = rig.kernel.version < one.since
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            one.play(rig)
        assert rig.kernel.version >= one.early, f"works although the table says {one.since}"
    except Skipped as reason:
        if one.refused:
            pytest.skip(f"this kernel has no {one.refused}: tests/kernels plays it ({reason})")
        absent(str(reason))
    except (NotSupported, PermissionDenied) as error:
        if one.refused:
            pytest.skip(f"this kernel has or allows no {one.refused}: tests/kernels plays it ({error})")
        if not old or not isinstance(error, NotSupported):
            raise
    except KernelError as error:
        # without CONFIG_KPROBES, LSM, ftrace the verifier or the table of types says no in its own words
        if not one.refused:
            raise
        pytest.skip(f"this kernel has or allows no {one.refused}: tests/kernels plays it ({error})")
    finally:
        rig.close()
    gc.collect()
    assert _open() == before, "descriptors leak"


def _open() -> dict[str, str]:
    out = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            out[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return {n: to for n, to in out.items() if "/fd" not in to and not to.endswith(".so")}
