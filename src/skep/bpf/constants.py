"""Constants of the kernel's user interface by name: ``bpf.XDP_PASS``, ``bpf.BPF_ANY``."""

from __future__ import annotations


def constant(name: str) -> int | None:
    """The number that ``name`` stands for in the kernel's headers, None when it is none of ours."""
    from skep.uapi import flags, network

    for module in (flags, network):
        value = getattr(module, name, None)
        if isinstance(value, int):
            return int(value)
    if name.startswith("E"):
        import errno

        value = getattr(errno, name, None)
        if isinstance(value, int):
            return value
    if name.startswith("BPF_"):
        from skep.uapi.enums import AttachType, MapType, ProgType

        for enum in (MapType, ProgType, AttachType):
            for member in enum.__members__.values():
                if member.c_name == name:
                    return int(member)
    return None
