"""Finished native code on disk, found again by what it was made from.

The directory is ``$SKEP_CACHE``, else ``$XDG_CACHE_HOME/skep``, else ``~/.cache/skep``; setting
``SKEP_CACHE`` to the empty string switches the cache off. An entry's name is a hash of the kind, the
caller's parts, skep's version, the processor and its features, followed by a hash of the LLVM that
made it. A machine without llvmlite takes an entry of whichever LLVM; one with it only its own.

Only a directory and files that belong to this user and that nobody else can write are trusted,
because what they hold will be executed. Every entry carries a checksum: damage is a miss.
Everything here fails silently into "not cached".
"""

from __future__ import annotations

import os
import stat
import time

from skep import __version__
from skep.llvm import host

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL, 4 ms
except ImportError:
    from hashlib import blake2b

_MAGIC = b"skep native code 1\n"
_DIGEST = 32
_HEADER = len(_MAGIC) + _DIGEST

#: Bounds of the directory; the least recently used entries go first.
MAX_BYTES = 256 << 20
MAX_ENTRIES = 4096
#: An entry larger than this is neither stored nor read.
MAX_ENTRY = 64 << 20
#: One store in so many looks whether the directory is too large.
_SWEEP_EVERY = 16
_TOUCH_AFTER = 3600.0
_HEX = frozenset("0123456789abcdef")


def directory() -> str | None:
    """The cache's directory (which may not exist yet), or None when caching is off."""
    chosen = os.environ.get("SKEP_CACHE")
    if chosen is not None:
        return os.path.abspath(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".cache")
    return os.path.join(base, "skep")


def _names(kind: str, parts: tuple[bytes, ...]) -> tuple[str, str | None] | None:
    """(name without the LLVM part, the LLVM part or None), or None when the processor is not known."""
    processor = host.processor()
    if processor is None:
        return None
    digest = blake2b(digest_size=24)
    for part in (kind.encode(), __version__.encode(), processor, *parts):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    version = host.llvm_version()
    maker = None if version is None else blake2b(version, digest_size=6).hexdigest()
    return digest.hexdigest(), maker


def _trusted(folder: str) -> bool:
    info = os.stat(folder)
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022


def lookup(kind: str, *parts: bytes) -> bytes | None:
    """What `store` kept for the same ``kind`` and ``parts`` on this processor, or None."""
    folder = directory()
    if folder is None:
        return None
    try:
        if not _trusted(folder):
            return None
        names = _names(kind, parts)
        if names is None:
            return None
        name, maker = names
        if maker is None:
            for entry in os.scandir(folder):
                if entry.name.startswith(name + "-"):
                    maker = entry.name[len(name) + 1 :]
                    break
            else:
                return None
        return _read(os.path.join(folder, f"{name}-{maker}"))
    except (OSError, ValueError):
        return None


def _read(path: str) -> bytes | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if (
            not stat.S_ISREG(info.st_mode)
            or info.st_uid != os.geteuid()
            or info.st_mode & 0o022
            or not _HEADER <= info.st_size <= MAX_ENTRY + _HEADER
        ):
            return None
        data = os.read(fd, info.st_size)
        while len(data) < info.st_size:
            more = os.read(fd, info.st_size - len(data))
            if not more:
                return None
            data += more
        now = time.time()
        if now - info.st_mtime > _TOUCH_AFTER:
            os.utime(fd, (now, now))
    finally:
        os.close(fd)
    payload = data[_HEADER:]
    if not data.startswith(_MAGIC) or _checksum(payload) != data[len(_MAGIC) : _HEADER]:
        return None
    return payload


def _checksum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_DIGEST).digest()


def store(kind: str, data: bytes, *parts: bytes) -> bool:
    """Keep ``data`` for `lookup`; False when it could not be kept (which is no error)."""
    folder = directory()
    if folder is None or len(data) > MAX_ENTRY:
        return False
    temporary = None
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        names = _names(kind, parts)
        if not _trusted(folder) or names is None:
            return False
        name = f"{names[0]}-{names[1] or 'unknown'}"
        temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(_MAGIC + _checksum(data) + data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.replace(temporary, os.path.join(folder, name))
        temporary = None
        if int(name[:4], 16) % _SWEEP_EVERY == 0:
            sweep(folder)
        return True
    except (OSError, ValueError):
        return False
    finally:
        if temporary is not None:
            _discard(temporary)


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def sweep(folder: str, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES) -> None:
    """Delete the least recently used entries of ``folder`` until it is within its bounds.

    Temporary files that a killed process left behind for an hour go too; files that are not the
    cache's own are left alone.
    """
    entries = []
    now = time.time()
    for entry in os.scandir(folder):
        try:
            info = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(info.st_mode):
                continue
            if _is_temporary(entry.name):
                if now - info.st_mtime > 3600:
                    os.unlink(entry.path)
            elif _is_entry(entry.name):
                entries.append((info.st_mtime, info.st_size, entry.path))
        except OSError:
            continue
    entries.sort()
    total = sum(size for _, size, _ in entries)
    count = len(entries)
    for _, size, path in entries:
        if total <= max_bytes and count <= max_entries:
            break
        try:
            os.unlink(path)
        except OSError:
            continue
        total -= size
        count -= 1


def _is_entry(name: str) -> bool:
    head, dash, maker = name.partition("-")
    if head == "core":  # answers to relocations, which `skep.obj.core_cache` keeps in the same folder
        return len(maker) == 32 and not set(maker) - _HEX
    return len(head) == 48 and bool(dash) and maker.isalnum() and not set(head) - _HEX


def _is_temporary(name: str) -> bool:
    if name.endswith(".tmp"):
        return name.startswith("core-") and _is_entry(name.partition(".")[0])
    return name.startswith(".") and _is_entry(name[1:].split(".", 1)[0])
