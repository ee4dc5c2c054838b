"""The kernel's types are read once for all tests of the language: that takes most of a compilation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from skep.btf.read import Btf


@pytest.fixture(autouse=True, scope="package")
def types_read_once() -> Iterator[None]:
    """`Btf.kernel` gives one object."""
    read = Btf.kernel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Btf, "kernel", staticmethod(cache(lambda: read())))
        yield
