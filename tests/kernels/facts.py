"""What a kernel says about the entries of skep's tables: its BTF's enumerators, its answers."""

from __future__ import annotations

from typing import NamedTuple

from skep.btf import Btf
from skep.errors import KernelError
from skep.isa import Insn, encode
from skep.linux.features import Features
from skep.linux.kernel import LinuxKernel
from skep.uapi.enums import SINCE, ProgType
from skep.uapi.helpers import helpers

_ENUMS = ("bpf_cmd", "bpf_map_type", "bpf_prog_type", "bpf_attach_type", "bpf_link_type", "bpf_func_id")

#: features that Debian leaves out of some cloud kernels -> a function that is there with them
_CONFIGURED = {
    "BPF_PROG_TYPE_LIRC_MODE2": "lirc_mode2_prog_func_proto",
    "BPF_LINK_TYPE_KPROBE_MULTI": "register_fprobe_ips",
}


class Contradiction(NamedTuple):
    """A table's entry and what the kernel says: "missing" though new enough, or "present" though older."""

    table: str
    name: str
    since: str
    answer: str


def _compare(
    table: str, name: str, since: str, present: bool, version: tuple[int, int]
) -> list[Contradiction]:
    major, minor = map(int, since.split("."))
    expected = version >= (major, minor)
    if present == expected:
        return []
    return [Contradiction(table, name, since, "present" if present else "missing")]


def enumerators(btf: Btf) -> set[str]:
    """The names of the enumerators of bpf(2)'s enumerations."""
    out: set[str] = set()
    for name in _ENUMS:
        for id in btf.ids_named(name):
            for value in getattr(btf[id], "values", ()):
                out.add(value.name)
    return out


def contradictions(kernel: LinuxKernel) -> tuple[int, list[Contradiction]]:
    """How many entries were held against the running kernel, and those that it contradicts."""
    names = enumerators(Btf.kernel())
    found: list[Contradiction] = []
    for name, since in SINCE.items():
        found += _compare("enums.SINCE", name, since, name in names, kernel.version)
    total = len(SINCE)
    for helper in helpers().values():
        total += 1
        found += _compare(
            "helpers", helper.name, helper.since, _has_helper(kernel, helper.id), kernel.version
        )
    probed = Features(kernel)
    for group in ("prog_types", "map_types", "link_types", "btf_kinds", "miscellaneous"):
        for feature in getattr(probed, group)():
            if feature.name in _CONFIGURED and not feature.there and not _symbol(_CONFIGURED[feature.name]):
                continue
            total += 1
            found += _compare(group, feature.name, feature.since, feature.there, kernel.version)
    return total, found


def _symbol(name: str) -> bool:
    with open("/proc/kallsyms", encoding="ascii") as file:
        return any(line.split()[2] == name for line in file)


def _has_helper(kernel: LinuxKernel, number: int) -> bool:
    """Whether the verifier knows the number: it says "invalid func" only of those that it does not."""
    code = encode([Insn(0x85, imm=number), Insn(0xB7), Insn(0x95)])
    try:
        fd, _ = kernel.prog_load(ProgType.SOCKET_FILTER, code, "GPL", log_level=1)
    except KernelError as error:
        return "invalid func" not in error.log
    kernel.close(fd)
    return True
