"""What an errno of bpf(2) means, in words, and which kind of error it is."""

from __future__ import annotations

import errno
import os

from skep.errors import KernelError, NotSupported, PermissionDenied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


_FROZEN: Final = "the map is frozen or read-only"
_WRITE_ONLY: Final = "the map may not be read from user space (BPF_F_WRONLY)"
#: command -> errno -> what it means there
_MEANING: Final[dict[str, dict[int, str]]] = {
    "BPF_MAP_UPDATE_ELEM": {
        errno.E2BIG: "the map is full (max_entries), or the index is past its end",
        errno.EEXIST: "the key exists already (BPF_NOEXIST)",
        errno.ENOENT: "no such key (BPF_EXIST)",
        errno.ENOSPC: "the map is full (max_entries)",
        errno.EBUSY: "the element is in use",
        errno.EPERM: _FROZEN,
    },
    "BPF_MAP_UPDATE_BATCH": {
        errno.EPERM: _FROZEN,
        errno.E2BIG: "the map is full (max_entries), or an index is past its end",
        errno.ENOSPC: "the map is full (max_entries)",
    },
    "BPF_MAP_LOOKUP_ELEM": {errno.ENOENT: "no such key", errno.EPERM: _WRITE_ONLY},
    "BPF_MAP_DELETE_ELEM": {
        errno.ENOENT: "no such key",
        errno.EINVAL: "elements of this map type cannot be deleted",
        errno.EPERM: _FROZEN,
    },
    "BPF_MAP_LOOKUP_AND_DELETE_ELEM": {errno.ENOENT: "no such key, or the queue is empty"},
    "BPF_LINK_CREATE": {
        errno.EBUSY: "another program is attached there",
        errno.EEXIST: "another program is attached there",
    },
    "BPF_RAW_TRACEPOINT_OPEN": {
        errno.EBUSY: "the function has no place for programs (inline, notrace), or this one is there",
    },
    "BPF_LINK_UPDATE": {
        errno.EPERM: "another program is attached now than the one said to be",
        errno.EINVAL: "this link takes no program of this type",
        errno.ENOLINK: "what it was attached to is gone",
    },
    "BPF_OBJ_GET": {errno.ENOENT: "nothing is pinned there"},
    "BPF_OBJ_PIN": {
        errno.EEXIST: "something is pinned there already",
        errno.EPERM: "not a bpffs: mount -t bpf bpf DIR",
        errno.EINVAL: "not a bpffs: mount -t bpf bpf DIR",
    },
}


#: capability -> its number: what tracing programs need beside CAP_BPF, and what network programs do
_KINDS: Final = {"CAP_PERFMON": 38, "CAP_NET_ADMIN": 12}


def refused(code: int, cmd: str, what: str = "") -> KernelError:
    """The error for errno ``code`` of ``cmd``; ``what`` names its object (a path, an id)."""
    meant = _MEANING.get(cmd, {}).get(code)
    if cmd == "BPF_OBJ_PIN" and code == errno.EPERM and "." in os.path.basename(what):
        meant = "bpffs takes no names with a dot"
    reason = meant or os.strerror(code)
    if what:
        reason = f"{what}: {reason}"
    if code == errno.ENOSYS:
        return NotSupported(code, "bpf(2)" if cmd.startswith("BPF_") else cmd, since="3.18", cmd=cmd)
    if code == errno.EPERM and meant is None:
        missing, words = _who_forbids()
        return PermissionDenied(code, f"{reason}: {words}" if words else reason, missing=missing, cmd=cmd)
    return KernelError(code, reason, cmd=cmd)


def _who_forbids() -> tuple[str | None, str]:
    """(what is missing, in words): a capability of this process, or the kernel's lockdown."""
    have = _capabilities()
    if have is not None and not have >> 39 & 1 and not have >> 21 & 1:
        return "CAP_BPF", "this process lacks CAP_BPF (Linux 5.8) or CAP_SYS_ADMIN"
    if have is not None and not have >> 21 & 1:
        lacks = [name for name, bit in _KINDS.items() if not have >> bit & 1]
        if lacks:
            return " or ".join(lacks), f"this process lacks {' and '.join(lacks)}, or else CAP_SYS_ADMIN"
    mode = _lockdown()
    if mode in {"integrity", "confidentiality"}:
        return f"lockdown={mode}", f"the kernel is locked down ({mode})"
    return None, "the process has the capabilities; the kernel's security policy (lockdown, LSM) forbids it"


def _capabilities() -> int | None:
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return None


def _lockdown() -> str | None:
    try:
        with open("/sys/kernel/security/lockdown", encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return None
    return text[text.find("[") + 1 : text.find("]")] if "[" in text else None
