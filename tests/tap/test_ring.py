"""How large a ring may be. (What comes out of one is tested in test_live.)"""

from __future__ import annotations

import errno

import pytest

from skep.errors import KernelError
from skep.tap.ring import available, blocks

MIB = 1 << 20


def test_a_ring_has_whole_blocks() -> None:
    assert [blocks(size, None) for size in (0, 1, 2 * MIB, 2 * MIB + 1, 8 * MIB)] == [2, 2, 2, 3, 8]


def test_a_ring_leaves_others_half_of_the_memory() -> None:
    """The kernel would end other processes to make room for one that is larger."""
    assert blocks(500 * MIB, 1000 * MIB) == 500
    with pytest.raises(KernelError, match=r"no ring of 501 MiB: 1000 MiB .* \(-B asks for less\)") as caught:
        blocks(500 * MIB + 1, 1000 * MIB)
    assert caught.value.errno == errno.ENOMEM


def test_what_linux_says_is_available() -> None:
    memory = available()
    assert memory is not None and MIB < memory < 1 << 50
    with pytest.raises(KernelError):
        blocks(memory, memory)
