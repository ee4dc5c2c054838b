"""Values of the kernel's configuration for ``extern … __kconfig`` variables."""

from __future__ import annotations

import os
from sys import byteorder

from skep.btf import types as t
from skep.errors import LinkError
from skep.obj.externs import KCONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from skep.btf import Btf
    from skep.obj.spec import Extern, ObjectSpec

_TRISTATE: Final = {"n": 0, "y": 1, "m": 2}
_MAX_CONFIG: Final = 1 << 24
#: type of a value -> what it is
_BOOL, _TRI, _CHAR, _INT, _CHARS = "bool", "tristate", "char", "integer", "string"


def config_lines(release: str | None = None) -> list[str]:
    """The running kernel's configuration: /boot/config-RELEASE, or /proc/config.gz.

    Raises LinkError when there is neither.
    """
    path = f"/boot/config-{release or os.uname().release}"
    for name in (path, "/proc/config.gz"):
        try:
            with open(name, "rb") as file:
                data = file.read(_MAX_CONFIG)
        except OSError:
            continue
        if data[:2] == b"\x1f\x8b":
            import zlib

            try:
                data = zlib.decompressobj(31).decompress(data, _MAX_CONFIG)
            except zlib.error as error:
                raise LinkError(f"{name}: cannot be unpacked: {error}") from None
        return data.decode("utf-8", "replace").splitlines()
    raise LinkError(
        f"the kernel's configuration is neither in {path} nor in /proc/config.gz: give the values as lines"
    )


def fill_kconfig(
    spec: ObjectSpec,
    lines: Iterable[str] | None = None,
    *,
    version: int = 0,
    has: Iterable[str] = (),
) -> None:
    """Fill map ``.kconfig`` of ``spec`` with the values that its externs ask for.

    ``lines`` are a configuration's (``CONFIG_HZ=250``), by default the running kernel's; ``version`` is
    LINUX_KERNEL_VERSION (major << 16 | minor << 8 | patch; 0: the running kernel's); ``has`` the names of the
    LINUX_HAS_… values that are true (``LINUX_HAS_BPF_COOKIE``, ``LINUX_HAS_SYSCALL_WRAPPER``). Weak values
    that are not set stay 0. Raises LinkError for a missing or misfit value.
    """
    externs = {extern.name: extern for extern in spec.externs.values() if extern.kind == "kconfig"}
    if not externs:
        return
    btf = spec.btf
    assert btf is not None
    data = spec.maps[KCONFIG].data
    assert data is not None
    missing: dict[str, Extern] = {}
    for name, extern in externs.items():
        if name == "LINUX_KERNEL_VERSION":
            _put_number(btf, data, extern, version or running_version())
        elif name.startswith("LINUX_HAS_"):
            if name not in ("LINUX_HAS_BPF_COOKIE", "LINUX_HAS_SYSCALL_WRAPPER") and not extern.weak:
                raise LinkError(f"extern {name!r}: this value is unknown")
            _put_number(btf, data, extern, int(name in has))
        elif name.startswith("CONFIG_"):
            missing[name] = extern
        elif not extern.weak:
            raise LinkError(f"extern {name!r}: kconfig values are called CONFIG_… or LINUX_…")
    if not missing:
        return
    try:
        known = config_lines() if lines is None else lines
    except LinkError:
        if not all(extern.weak for extern in missing.values()):
            raise
        return
    for line in known:
        name, sign, value = line.strip().partition("=")
        found = missing.pop(name, None) if sign else None
        if found is not None:
            _put(btf, data, found, value)
    lacking = [name for name, extern in missing.items() if not extern.weak]
    if lacking:
        raise LinkError(f"the kernel's configuration does not set {', '.join(lacking)}: declare it __weak")


def running_version() -> int:
    """The running kernel's version: major << 16 | minor << 8 | patch (at most 255)."""
    try:
        with open("/proc/version_signature", encoding="utf-8", errors="replace") as file:
            signature = file.read(256)
    except OSError:
        signature = ""
    system = os.uname()
    return version_code(system.release, system.version, signature)


def version_code(release: str, version: str = "", signature: str = "") -> int:
    """A version as a number, from what uname(2) and Ubuntu's /proc/version_signature say.

    The releases of Debian and Ubuntu end in .0 whatever is inside: Debian has the true one in ``version``
    ("#1 SMP Debian 5.10.223-1"), Ubuntu in the signature's third word. As libbpf reads them.
    """
    words = signature.split()
    text = release
    if len(words) > 2 and words[2].count(".") == 2:
        text = words[2]
    elif "Debian " in version:
        text = version.partition("Debian ")[2] or release
    numbers = []
    for part in text.split("-", 1)[0].split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return major << 16 | minor << 8 | min(patch, 255)


def _kind(btf: Btf, type_id: int) -> tuple[str, bool]:
    """What a variable holds, and whether it is signed."""
    value = btf[btf.resolve(type_id)]
    if isinstance(value, t.Int):
        if value.encoding & t.BOOL:
            return (_BOOL if value.size == 1 else ""), False
        if value.size == 1:
            return _CHAR, value.signed
        return (_INT if value.size in (2, 4, 8) else ""), value.signed
    if isinstance(value, t.Enumeration) and value.name == "libbpf_tristate":
        return _TRI, False
    if isinstance(value, t.Array) and value.nelems and _kind(btf, value.type)[0] == _CHAR:
        return _CHARS, False
    return "", False


def _put(btf: Btf, data: bytearray, extern: Extern, text: str) -> None:
    kind = _kind(btf, extern.type_id)[0]

    def misfit() -> LinkError:
        return LinkError(f"extern {extern.name!r}: {text} does not fit its {kind or 'unsupported'} type")

    at = extern.offset
    if text[:1] in _TRISTATE:
        if kind == _BOOL and text[0] != "m":
            data[at] = text[0] == "y"
        elif kind == _TRI:
            _store(data, extern, _TRISTATE[text[0]])
        elif kind == _CHAR:
            data[at] = ord(text[0])
        else:
            raise misfit()
    elif text[:1] == '"':
        if kind != _CHARS or len(text) < 2 or text[-1] != '"':
            raise misfit()
        raw = text[1:-1].encode("utf-8", "surrogateescape")[: extern.size - 1]
        data[at : at + len(raw) + 1] = raw + b"\0"
    else:
        digits = text.strip()
        negative = digits.startswith("-")
        digits = digits.lstrip("+-")
        try:
            if digits.lower().startswith("0x"):
                number = int(digits[2:], 16)
            else:
                number = int(digits, 8 if digits.startswith("0") else 10)
        except ValueError:
            raise misfit() from None
        if kind not in (_INT, _CHAR):
            raise misfit()
        _put_number(btf, data, extern, -number if negative else number)


def _put_number(btf: Btf, data: bytearray, extern: Extern, number: int) -> None:
    kind, signed = _kind(btf, extern.type_id)
    bits = 8 * extern.size
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    if extern.size == 8:
        low, high = -(1 << 63), 1 << 64
    if kind not in (_INT, _CHAR, _BOOL) or not low <= number < high or (kind == _BOOL and number > 1):
        raise LinkError(f"extern {extern.name!r}: {number} does not fit its {kind or 'unsupported'} type")
    _store(data, extern, number)


def _store(data: bytearray, extern: Extern, number: int) -> None:
    size = extern.size
    data[extern.offset : extern.offset + size] = (number & (1 << 8 * size) - 1).to_bytes(size, byteorder)
