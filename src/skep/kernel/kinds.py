"""What kind of object of the kernel a descriptor is of."""

from __future__ import annotations

import os

#: what a descriptor leads to in /proc -> the kind
KINDS = {
    "anon_inode:bpf-map": "map",
    "anon_inode:bpf-prog": "prog",
    "anon_inode:bpf-link": "link",
    "anon_inode:bpf_link": "link",
}


def kind_of(fd: int) -> str | None:
    """Which kind of object a descriptor is of: "map", "prog", "link"; None for anything else.

    Asked for its info, an object of another kind answers too, with its own.
    """
    return KINDS.get(file_of(fd))


def file_of(fd: int) -> str:
    """What /proc says a descriptor is of; "nothing" when it is not open."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "nothing"
