"""Constants of the kernel's user interface by name: ``bpf.XDP_PASS``, ``bpf.BPF_ANY``."""

from __future__ import annotations


def constant(name: str) -> int | None:
    """The number that ``name`` stands for in the kernel's headers, None when it is none of ours."""
    from skep.uapi import enums, flags

    for module in (flags, enums):
        value = getattr(module, name, None)
        if isinstance(value, int):
            return int(value)
    return None
