"""Writing initramfs archives: the "newc" format of Documentation/driver-api/early-userspace/buffer-format."""

from __future__ import annotations

_FIELDS = 13


def entry(name: str, data: bytes = b"", mode: int = 0o100644, device: tuple[int, int] = (0, 0)) -> bytes:
    """One member; ``mode`` with the type bits of st_mode, ``device`` (major, minor) of a device node."""
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, device of the file (2), of the node (2), name size, checksum
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    assert len(numbers) == _FIELDS
    head = b"070701" + b"".join(b"%08x" % n for n in numbers) + path
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


def folder(name: str) -> bytes:
    return entry(name, mode=0o040755)


def archive(*members: bytes) -> bytes:
    """A whole archive. Archives may follow one another in one file, starting at multiples of four."""
    data = b"".join(members) + entry("TRAILER!!!", mode=0)
    return data + b"\0" * (-len(data) % 512)
