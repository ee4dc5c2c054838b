"""Booting a kernel under QEMU's emulation and running one command in it, as root, in two to five seconds.

The guest sees this machine's files read-only at their own paths (virtiofs: cloud kernels have no 9p), with
proc, sys, dev, cgroup2, bpffs, tracefs and debugfs of its own and /run writable. What the command prints
comes back over a serial line.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.kernels import cpio
from tests.kernels.images import Image, Missing, cache

_HERE = Path(__file__).resolve().parent
_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd")
_ARGUMENTS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 nokaslr mitigations=off random.trust_cpu=on tsc=reliable "
    "no_timer_check rcupdate.rcu_expedited=1 8250.nr_uarts=4 lsm=bpf"
)
#: an emulated boot dies now and then before the command starts
_TRIES = 3


class Answer(NamedTuple):
    """The command's exit status (None: it never ended), what it printed, the kernel's console."""

    status: int | None
    output: str
    console: str


def _qemu() -> str:
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        raise Missing("qemu-system-x86_64")
    return found


def _init() -> Path:
    """init.c, compiled static; once for each version of its text."""
    source = _HERE / "init.c"
    out = cache() / "init" / hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    if not out.exists():
        compiler = next((c for c in ("cc", "gcc", "clang-19", "clang") if shutil.which(c)), None)
        if compiler is None:
            raise Missing("a C compiler")
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [compiler, "-O1", "-static", "-s", "-o", part, source], capture_output=True, text=True
        )
        if done.returncode:
            raise Missing(f"a static C library: {done.stderr.strip()}")
        part.rename(out)
    return out


def _initramfs(image: Image, folder: str, command: Sequence[str]) -> bytes:
    modules = image.module_files()
    members = [
        cpio.folder("dev"),
        cpio.entry("dev/console", mode=0o020600, device=(5, 1)),
        cpio.entry("init", _init().read_bytes(), 0o100755),
        cpio.folder("mods"),
        cpio.entry("mods/order", "".join(f"{name}\n" for name, _ in modules).encode()),
        *(cpio.entry(f"mods/{name}", data) for name, data in modules),
        cpio.entry("cmd", b"".join(word.encode() + b"\0" for word in (folder, *command))),
    ]
    return cpio.archive(*members)


@contextmanager
def _files(scratch: Path) -> Iterator[list[str]]:
    """QEMU's options for this machine's files, while whatever serves them runs."""
    server = next((path for path in _VIRTIOFSD if os.access(path, os.X_OK)), None)
    if server is None:
        raise Missing("virtiofsd (Debian: qemu-system-common, later a package of its own)")
    socket = scratch / "files"
    socket.unlink(missing_ok=True)
    # the server written in C takes -o, its successor in Rust long options
    ours = (
        ["-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot", "-o", "log_level=err"]
        if "qemu" in server
        else ["--shared-dir=/", "--cache=always", "--sandbox=chroot", "--log-level=error"]
    )
    with open(scratch / "files.log", "wb") as log:
        process = subprocess.Popen([server, f"--socket-path={socket}", *ours], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not socket.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        yield [
            "-chardev",
            f"socket,id=files,path={socket}",
            "-device",
            "vhost-user-fs-pci,chardev=files,tag=host,queue-size=1024",
        ]
    finally:
        process.terminate()
        process.wait()


def run(
    image: Image,
    command: Sequence[str],
    *,
    folder: str | None = None,
    memory: int = 768,
    timeout: float = 300,
    cpus: int = 1,
) -> Answer:
    """Boot ``image`` and run ``command`` in it, in ``folder`` (by default the current one).

    Raises:
        Missing: QEMU or what it needs is not installed.
    """
    qemu = _qemu()
    with tempfile.TemporaryDirectory(prefix="skep-kernel-") as name:
        scratch = Path(name)
        (scratch / "initrd").write_bytes(_initramfs(image, folder or os.getcwd(), command))
        answer = Answer(None, "", "")
        for _ in range(_TRIES):
            with _files(scratch) as files:
                answer = _boot(qemu, image, scratch, files, memory, timeout, cpus)
            if "skep-init: ready" in answer.console:
                break
        return answer


def _boot(
    qemu: str, image: Image, scratch: Path, files: list[str], memory: int, timeout: float, cpus: int
) -> Answer:
    console, output = scratch / "console", scratch / "output"
    console.write_bytes(b"")
    output.write_bytes(b"")
    words = [
        *(qemu, "-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-object", f"memory-backend-memfd,id=mem,size={memory}M,share=on"),
        *("-smp", str(cpus), "-m", str(memory), *files, "-nic", "none", "-device", "virtio-rng-pci"),
        *("-display", "none", "-monitor", "none", "-no-reboot", "-nodefaults"),
        *("-serial", f"file:{console}", "-serial", f"file:{output}"),
        *("-kernel", str(image.kernel), "-initrd", str(scratch / "initrd"), "-append", _ARGUMENTS),
    ]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
    log = console.read_text(errors="replace") + errors.decode(errors="replace")
    found = re.findall(r"skep-init: status (\d+)", log)
    return Answer(int(found[-1]) if found else None, output.read_text(errors="replace"), log)
