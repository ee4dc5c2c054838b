"""What an older kernel says of instructions that it does not know, and what is made of it."""

from __future__ import annotations

import errno

import pytest

from skep.asm import assemble
from skep.errors import KernelError, NotSupported, VerifierError
from skep.isa import Insn, encode
from skep.kernel import refusal
from skep.linux.kernel import LinuxKernel
from skep.obj.linked import LinkedProgram
from skep.obj.spec import MapSpec, ObjectSpec, ProgramSpec
from skep.uapi.enums import MapType, ProgType
from tests.support.oracles import bpf

END = [Insn(0xB7), Insn(0x95)]


class Old(LinuxKernel):
    def __init__(self, *version: int) -> None:
        super().__init__()
        self.version = (version[0], version[1])


def refused(kernel: LinuxKernel, insns: list[Insn], log: str) -> Exception:
    spec = ProgramSpec("old", "xdp", ProgType.XDP)
    linked = LinkedProgram(ObjectSpec("old"), spec)
    linked.code += encode([*insns, *END])
    error = KernelError(errno.EINVAL, "Invalid argument", cmd="BPF_PROG_LOAD")
    error.log = f"{log}\nprocessed 0 insns (limit 1000000)\n"
    return refusal.of_program(kernel, linked, error)


@pytest.mark.live
@pytest.mark.parametrize(
    ("version", "text", "log", "what", "since"),
    [
        ((5, 10), "r1 = subprog[+1]", "unrecognized bpf_ld_imm64 insn", "functions as callbacks", "5.13"),
        (
            (5, 10),
            "r1 = subprog[+1]",
            "number of funcs in func_info doesn't match number of subprogs",
            "functions as callbacks",
            "5.13",
        ),
        (
            (5, 10),
            "lock *(u64 *)(r10 - 8) |= r2",
            "BPF_STX uses reserved fields",
            r"instruction `lock \*\(u64 \*\)\(r10 -8\) \|= r2`",
            "5.12",
        ),
        ((6, 1), "r1 = bswap64 r1", "unknown opcode d7", "bswap64 r1` of -mcpu=v4", "6.6"),
        ((6, 1), "w1 s/= w2", "BPF_ALU uses reserved fields", "of -mcpu=v4", "6.6"),
        (
            (6, 12),
            "r1 = load_acquire((u8 *)(r2 + 0))",
            "BPF_ATOMIC uses invalid atomic opcode 100",
            "load_acquire",
            "6.15",
        ),
    ],
)
def test_instructions(version: tuple[int, int], text: str, log: str, what: str, since: str) -> None:
    bpf()
    insns = assemble(f"r1 = 0\nr2 = 0\n*(u64 *)(r10 - 8) = r2\n{text}")
    made = refused(Old(*version), insns, log)
    assert isinstance(made, NotSupported) and made.since == since
    with pytest.raises(NotSupported, match=what):
        raise made
    # the same words of a kernel that knows the instruction have another cause
    assert isinstance(refused(Old(9, 9), insns, log), VerifierError)


@pytest.mark.live
def test_maps_that_are_too_large() -> None:
    bpf()
    kernel = LinuxKernel()
    spec = MapSpec("huge", MapType.HASH, 4, 1 << 30, 1 << 30)
    with pytest.raises(KernelError) as caught:
        kernel.map_create(spec.type, spec.key_size, spec.value_size, spec.max_entries)
    assert caught.value.errno == errno.E2BIG
    assert "larger than this kernel allows" in str(refusal.of_map(kernel, spec, caught.value))


@pytest.mark.live
@pytest.mark.parametrize(
    ("kind", "sizes", "words"),
    [
        (MapType.ARRAY, (8, 4), "its keys are indexes of 4 bytes"),
        (MapType.ARRAY, (4, 0), "its values have no bytes"),
        (MapType.LPM_TRIE, (8, 0), "its values have no bytes"),
    ],
)
def test_shapes_that_are_wrong(kind: MapType, sizes: tuple[int, int], words: str) -> None:
    bpf()
    kernel = LinuxKernel()
    spec = MapSpec("wrong", kind, *sizes, 1, flags=kind == MapType.LPM_TRIE)
    with pytest.raises(KernelError) as caught:
        kernel.map_create(spec.type, spec.key_size, spec.value_size, 1, spec.flags)
    assert str(refusal.of_map(kernel, spec, caught.value)).endswith(words)


@pytest.mark.live
def test_weak_functions_of_later_kernels() -> None:
    bpf()
    made = refusal._weak(Old(6, 1), "p", "bpf_dynptr_from_skb")
    assert isinstance(made, NotSupported) and made.since == "6.4"
    assert not isinstance(refusal._weak(Old(6, 4), "p", "bpf_dynptr_from_skb"), NotSupported)
