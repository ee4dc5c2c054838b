"""Types for kernels that do not know some kinds: replaced in place, the rest as it was."""

from __future__ import annotations

import struct

import pytest

from skep.btf import Btf, BtfBuilder
from skep.btf import types as t
from skep.errors import KernelError
from skep.kernel import btfload, probes
from skep.kernel.protocol import Buffer
from skep.linux.kernel import LinuxKernel
from tests.support import oracles


def types() -> bytes:
    builder = BtfBuilder()
    number = builder.add(t.Int("int", 4, t.SIGNED))
    builder.add(t.Enum("plain", 4, [t.EnumValue("A", 1)]))
    builder.add(t.Enum("signed", 4, [t.EnumValue("B", -1)], signed=True))
    builder.add(t.Struct("bits", 4, [t.Member("a", number, 0, 3)]))
    variable = builder.add(t.Var("ops", number, t.LINKAGE_GLOBAL))
    builder.add(t.DataSec("?.struct_ops", 4, [t.SectionVar(variable, 0, 4)]))
    return builder.build()


def headers(data: bytes) -> list[tuple[str, int]]:
    """Name and info word of each type."""
    btf = Btf(data)
    return [(value.name, struct.unpack_from("=II", data, btf.offset_of(id))[1]) for id, value in btf.items()]


def test_signed_enums_of_before_6_0() -> None:
    before, after = headers(types()), headers(btfload.adapt(types(), {"enum64"}))
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [(("signed", 1 << 31 | 6 << 24 | 1), ("signed", 6 << 24 | 1))]


def test_names_of_optional_sections() -> None:
    before, after = headers(types()), headers(btfload.adapt(types(), {"optional datasec"}))
    changed = [(a[0], b[0]) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [("?.struct_ops", "_.struct_ops")]


class Old(LinuxKernel):
    """A kernel of before 6.0: an enum whose values are said to be signed is damaged BTF to it."""

    def btf_load(self, btf: Buffer, *, log_level: int = 0, **attr: int) -> int:
        if any(
            info >> 24 & 0x1F == t.ENUM64 or info >> 24 == 0x80 | t.ENUM for _, info in headers(bytes(btf))
        ):
            raise KernelError(22, "Invalid btf_info kind_flag", cmd="BPF_BTF_LOAD")
        return super().btf_load(btf, log_level=log_level, **attr)


@pytest.mark.live
def test_types_are_loaded_where_enums_have_no_sign() -> None:
    oracles.bpf()
    kernel = Old()
    assert not probes.btf_kind(kernel, "enum64")
    for made in (kernel, LinuxKernel()):
        made.close(btfload.load(made, types()))


@pytest.mark.live
def test_what_this_kernel_has() -> None:
    oracles.bpf()
    kernel = LinuxKernel()
    for name, since in probes.BTF_SINCE.items():
        major, minor = map(int, since.split("."))
        if kernel.version >= (major, minor):
            assert probes.btf_kind(kernel, name), name
