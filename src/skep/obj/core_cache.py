"""Answers to CO-RE relocations, kept on disk.

Finding a few types among a kernel's 130,000 takes 20 to 30 ms; their answers for one object on one kernel
never change. They are kept in ``$SKEP_CACHE`` (else ``$XDG_CACHE_HOME/skep``, else ``~/.cache/skep``; empty:
not at all), in a file named by a hash of the object's types and of the kernel's build id and modules. Only
files that nobody else can write are read; what is damaged is not there. All of this fails silently.
"""

from __future__ import annotations

import os
import stat

from skep.obj.core_patch import Patch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.btf import Btf

Key = tuple[int, int, int]
#: what to write; and of a failed relocation, what it asked for and why there is no answer
Answer = tuple[Patch, str, str]

_MAGIC: Final = b"skep core answers 1"
_NOTES: Final = "/sys/kernel/notes"
_SYSFS: Final = "/sys/kernel/btf"
_MAX_BYTES: Final = 1 << 24
_DIGEST: Final = 16


def kernel_identity() -> bytes:
    """What changes when the running kernel's types do; b"" where that cannot be told."""
    try:
        with open(_NOTES, "rb") as file:
            notes = file.read(1 << 16)
        modules = sorted((entry.name, entry.stat().st_size) for entry in os.scandir(_SYSFS))
    except OSError:
        return b""
    if b"GNU\0" not in notes:  # no build id
        return b""
    name = os.uname()
    return b"\0".join((notes, name.release.encode(), name.version.encode(), repr(modules).encode()))


class AnswerFile:
    """The answers for an object with types ``local`` on the kernel of that identity."""

    def __init__(self, local: Btf, identity: bytes) -> None:
        self.path = _path(local, identity) if identity else None

    def load(self) -> dict[Key, Answer]:
        """What is known; nothing when the file is missing, damaged or not to be trusted."""
        data = _read(self.path) if self.path else b""
        head, _, body = data.partition(b"\n")
        if head != _MAGIC + b" " + _checksum(body):
            return {}
        found: dict[Key, Answer] = {}
        try:
            for line in body.decode().splitlines():
                *numbers, what, reason = line.split("\t")
                type_id, access, kind, old, new, validate, old_size, new_size, poison = map(int, numbers)
                patch = Patch(old, new, bool(validate), old_size, new_size, reason, bool(poison))
                found[type_id, access, kind] = (patch, what, reason)
        except ValueError:
            return {}
        return found

    def save(self, answers: dict[Key, Answer]) -> None:
        """Keep ``answers``, in place of what there was."""
        if self.path is None:
            return
        lines: list[str] = []
        for key, (patch, what, reason) in answers.items():
            if "\t" in what + reason or len((what + reason).splitlines()) > 1:
                continue
            old, new, validate, old_size, new_size, _, poison = patch
            numbers = (*key, old, new, validate, old_size, new_size, poison)
            lines.append("\t".join([*(str(int(number)) for number in numbers), what, reason]))
        body = "\n".join(lines).encode("utf-8", "replace")
        if len(body) < _MAX_BYTES:
            _write(self.path, _MAGIC + b" " + _checksum(body) + b"\n" + body)


def _checksum(body: bytes) -> bytes:
    digest: str = _blake2b(body).hexdigest()
    return digest.encode()


def _blake2b(data: bytes) -> Any:
    try:
        from _blake2 import blake2b  # hashlib would load OpenSSL, 4 ms
    except ImportError:
        from hashlib import blake2b
    return blake2b(data, digest_size=_DIGEST)


def _path(local: Btf, identity: bytes) -> str | None:
    from skep import __version__

    folder = os.environ.get("SKEP_CACHE")
    if folder is None:
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):
            base = os.path.join(os.path.expanduser("~"), ".cache")
        folder = os.path.join(base, "skep")
    if not os.path.isabs(folder):
        return None
    digest = _blake2b(__version__.encode() + b"\0" + identity)
    digest.update(local.raw)
    return os.path.join(folder, f"core-{digest.hexdigest()}")


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        info = os.fstat(fd)
        own = info.st_uid == os.geteuid() and not info.st_mode & 0o022
        if not stat.S_ISREG(info.st_mode) or not own or info.st_size > _MAX_BYTES + 100:
            return b""
        return os.read(fd, info.st_size)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        try:
            written = os.write(fd, data)
        finally:
            os.close(fd)
        if written == len(data):
            os.replace(temporary, path)
            return
    except OSError:
        pass  # a full disk
    try:  # noqa: SIM105 - contextlib is 5 ms of a start
        os.unlink(temporary)
    except OSError:
        pass
