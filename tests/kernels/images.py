"""Kernels to boot: Debian's own packages, fetched with apt into a cache, unpacked there, never installed.

The cache is $SKEP_KERNELS or ~/.cache/skep-kernels; a kernel lies in k/NAME with boot/vmlinuz-NAME and
lib/modules/NAME below it.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.lock import locked

_RELEASES = ("bookworm", "bookworm-backports", "bullseye", "trixie", "trixie-backports", "sid")
_SECURITY = ("bookworm-security", "bullseye-security")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: what the guest needs to see this machine's files, and what the hooks need that Debian builds as modules
MODULES = (
    "virtio_pci",
    "fuse",
    "virtiofs",
    "veth",
    "sch_ingress",
    "cls_bpf",
    "cls_matchall",
    "act_bpf",
)


#: how many kernels of a version are tried
_CANDIDATES = 4


class Missing(Exception):
    """What cannot be found or fetched here; the message says."""


class Image(NamedTuple):
    """A kernel on disk: its release name, its compressed image, its modules' folder."""

    name: str
    kernel: Path
    modules: Path

    @property
    def version(self) -> tuple[int, int]:
        major, minor = self.name.split(".")[:2]
        return int(major), int(re.match(r"\d+", minor)[0])  # type: ignore[index]

    def module_files(self, wanted: tuple[str, ...] = MODULES) -> list[tuple[str, bytes]]:
        """(file name, decompressed module) of the modules wanted and all they need, in loading order.

        One that is built in is no file, and is left out.
        """
        files = {_stem(path): path for path in self.modules.rglob("*.ko*")}
        order: dict[str, bytes] = {}

        def add(name: str) -> None:
            if name in order or name not in files:
                return
            data = _decompressed(files[name])
            found = re.search(rb"\0depends=([^\0]*)\0", data)
            for other in found[1].decode().split(",") if found else ():
                if other:
                    add(other.replace("-", "_"))
            order[name] = data

        for name in wanted:
            add(name)
        return [(f"{name}.ko", data) for name, data in order.items()]


def _stem(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def _decompressed(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def cache() -> Path:
    return Path(os.environ.get("SKEP_KERNELS") or Path.home() / ".cache" / "skep-kernels")


def find(prefix: str) -> Image | None:
    """The newest fetched kernel whose name begins with ``prefix`` ("6.12" does not find 6.1)."""
    folder = cache() / "k"
    names = sorted((p.name for p in folder.iterdir()), key=_numbers) if folder.is_dir() else []
    for name in reversed(names):
        if re.match(re.escape(prefix) + r"(?!\d)", name):
            root = folder / name
            modules = root / "lib" / "modules" / name
            if (root / "boot" / f"vmlinuz-{name}").exists() and modules.is_dir():
                return Image(name, root / "boot" / f"vmlinuz-{name}", modules)
    return None


def _numbers(name: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", name)]


# --- fetching ------------------------------------------------------------------------------------


def _apt() -> list[str]:
    """Options that keep apt to a state of our own, which knows older and newer releases too."""
    if not shutil.which("apt-get"):
        raise Missing("apt-get, to fetch kernels with")
    base = cache() / "apt"
    options = {
        "Dir::Etc::SourceList": base / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": base / "lists",
        "Dir::Cache": base / "cache",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    with locked(base / "lock"):
        _update(base, words)
    return words


def _update(base: Path, words: list[str]) -> None:
    if not (base / ".ok").exists():
        (base / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (base / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        mirror = _mirror()
        rows = [f"deb [signed-by={_KEYRING}] {mirror} {release} main" for release in _RELEASES]
        rows += [f"deb [signed-by={_KEYRING}] {mirror}-security {release} main" for release in _SECURITY]
        (base / "sources.list").write_text("\n".join(rows) + "\n")
        done = subprocess.run(["apt-get", *words, "-q", "update"], capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"Debian's archive: {done.stderr.strip().splitlines()[-1:]}")
        (base / ".ok").touch()


def _mirror() -> str:
    """The Debian mirror that this machine uses, else the public one."""
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if file.is_file():
            for line in file.read_text(errors="replace").splitlines():
                found = re.search(r"https?://\S+/debian(?=/?(\s|$))", line)
                if found and not line.lstrip().startswith("#"):
                    return found[0]
    return "http://deb.debian.org/debian"


def available() -> list[str]:
    """Names of the cloud kernels for this machine that the archive has, oldest first."""
    done = subprocess.run(
        ["apt-cache", *_apt(), "search", r"^linux-image-[0-9]+\.[0-9]+\.[0-9].*cloud-amd64$"],
        capture_output=True,
        text=True,
    )
    names = {line.split()[0].removeprefix("linux-image-") for line in done.stdout.splitlines()}
    return sorted((n for n in names if "unsigned" not in n and "-rt-" not in n), key=_numbers)


def fetch(prefix: str) -> Image:
    """The newest kernel of the archive whose name begins with ``prefix``, fetched unless it is here.

    Raises:
        Missing: no archive, or no such kernel in it.
    """
    found = find(prefix)
    if found is not None:
        return found
    names = [n for n in available() if re.match(re.escape(prefix) + r"(?!\d)", n)]
    if not names:
        raise Missing(f"a {prefix} kernel in Debian's archive")
    # The archive's index may name a file that has just been replaced; an older kernel serves as well.
    with locked(cache() / "lock"):
        for name in reversed(names[-_CANDIDATES:]):
            try:
                return find(name) or _download(name)
            except Missing as error:
                reason = error
        raise reason


def _download(name: str) -> Image:
    apt = _apt()
    packages = [f"linux-image-{name}"]
    split = [f"linux-binary-{name}", f"linux-modules-{name}"]  # since 6.19
    if not subprocess.run(["apt-cache", *apt, "show", split[0]], capture_output=True).returncode:
        packages = split
    part = cache() / "k" / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    (part / "boot").mkdir(parents=True)
    for package in packages:
        done = subprocess.run(
            ["apt-get", *apt, "download", "-q", package], cwd=part, capture_output=True, text=True
        )
        debs = list(part.glob("*.deb"))
        if done.returncode or not debs:
            raise Missing(f"{package}: {done.stderr.strip()}")
        for deb in debs:
            subprocess.run(["dpkg", "-x", deb, part], check=True)
            deb.unlink()
    image = part / "boot" / f"vmlinuz-{name}"
    if not image.exists():
        image.symlink_to(f"../usr/lib/modules/{name}/vmlinuz")
    if not (part / "lib" / "modules").is_dir():
        (part / "lib").symlink_to("usr/lib")
    part.rename(cache() / "k" / name)
    got = find(name)
    assert got is not None
    return got
