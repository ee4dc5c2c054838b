"""What runs inside an emulated kernel: every scenario, the tables, an object; a line of JSON for each.

    python -m tests.kernels.guest FOLDER [WORD...]

FOLDER holds what was built outside (probes.so, objects); words choose scenarios by part of their names.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skep.errors import KernelError, NotSupported
from skep.linux.kernel import LinuxKernel
from tests.linux.links.rig import Rig, Scenario, Skipped, scenarios

#: before every line of results, since the kernel may write to the same terminal
MARK = "@@"


def tell(kind: str, name: str, result: str, **more: Any) -> None:
    sys.stdout.write(f"{MARK}{json.dumps({'kind': kind, 'name': name, 'result': result, **more})}\n")
    sys.stdout.flush()


def play(one: Scenario, folder: str) -> None:
    """One scenario: "ok", "absent" (NotSupported on a kernel of before it), "skipped", or "failed"."""
    rig = Rig(folder)
    gc.collect()  # what the scenarios before left to the collector
    before = len(os.listdir("/proc/self/fd"))
    start = time.monotonic()
    old = rig.kernel.version < one.since
    too_early = rig.kernel.version < one.early
    since = ".".join(map(str, one.since))
    try:
        one.play(rig)
        result, detail = ("failed", f"works although it is said to need {since}") if too_early else ("ok", "")
    except Skipped as reason:
        result, detail = "skipped", str(reason)
    except NotSupported as error:
        said = error.since is not None and tuple(map(int, error.since.split("."))) <= one.since
        result, detail = ("absent" if old and said else "failed"), str(error)
    except KernelError as error:
        # a program type that the kernel does not know cannot even be loaded
        loading = old and error.cmd == "BPF_PROG_LOAD"
        result, detail = ("absent" if loading else "failed"), _told(error)
    except Exception as error:
        result, detail = "failed", _told(error)
    try:
        rig.close()
    except Exception as error:
        result, detail = "failed", f"closing: {_told(error)}"
    gc.collect()
    leaked = len(os.listdir("/proc/self/fd")) - before
    if leaked and result != "failed":
        result, detail = "failed", f"{leaked} descriptors leaked"
    tell("hook", one.name, result, since=since, detail=detail, seconds=round(time.monotonic() - start, 2))


def _told(error: Exception) -> str:
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    log = getattr(error, "log", "")
    return f"{type(error).__name__}: {error} [{' '.join(places[-4:])}]{log[-300:]}"


def tables() -> None:
    from tests.kernels.facts import contradictions

    total, found = contradictions(LinuxKernel())
    tell("tables", "facts", "failed" if found else "ok", total=total, detail=[list(one) for one in found])


def objects(folder: str) -> None:
    """Every object built outside: loaded, relocated by this kernel's BTF, attached, fired, read."""
    from tests.kernels import objects as steps

    for name, step in steps.STEPS.items():
        start = time.monotonic()
        try:
            step(f"{folder}/{name}.o")
            result, detail = "ok", ""
        except Exception as error:
            result, detail = "failed", _told(error)
        tell("object", name, result, detail=detail, seconds=round(time.monotonic() - start, 2))


def examples(folder: str, rig_folder: str) -> None:
    """The examples written in Python, built once outside and relocated here."""
    from tests.examples.plays import PLAYS, Load

    for name, play in PLAYS.items():
        start = time.monotonic()
        rig = Rig(rig_folder)
        try:
            play(rig, Load(folder))
            result, detail = "ok", ""
        except Skipped as reason:
            result, detail = "skipped", str(reason)
        except Exception as error:
            result, detail = "failed", _told(error)
        finally:
            rig.close()
        tell("example", name, result, detail=detail, seconds=round(time.monotonic() - start, 2))


def hooks(folder: str) -> None:
    """Programs in Python on the hooks that most machines' kernels refuse, each built once outside."""
    import skep
    from tests.lang.hooks import SINCE, SLOTS

    path = f"/dev/shm/seen-{os.getpid()}"
    Path(path).touch()
    inode = os.stat(path).st_ino
    version = tuple(map(int, os.uname().release.split(".")[:2]))
    for name, slot in SLOTS.items():
        since = SINCE.get(name, "5.10")
        if version < tuple(map(int, since.split("."))):
            tell("program", name, "absent", detail=f"needs {since}")
            continue
        try:
            with skep.load(f"{folder}/{name}.o", variables={"only_pid": os.getpid()}) as obj:
                obj.attach()
                os.close(os.open(path, os.O_RDONLY))
                row = obj.seen[slot]
            good = row.hits > 0 and row.inode in (0, inode)
            result, detail = ("ok" if good else "failed"), "" if good else f"{row}, inode {inode}"
            if name == "on_lsm" and not good and not row.hits and "bpf" not in _security_modules():
                result = "skipped"  # loads and attaches, but this kernel was not told to ask BPF
        except NotSupported as error:  # built without kprobes on functions, say
            result, detail = "absent", str(error)
        except Exception as error:
            result, detail = "failed", _told(error)
        tell("program", name, result, detail=detail)


def _security_modules() -> list[str]:
    try:
        return Path("/sys/kernel/security/lsm").read_text().split(",")
    except OSError:
        return []


def guarded(name: str, part: Callable[[], None]) -> None:
    try:
        part()
    except Exception as error:
        tell("part", name, "failed", detail=_told(error))


def main() -> None:
    folder, *words = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    warnings.simplefilter("error", ResourceWarning)
    tell("start", os.uname().release, "ok", python=sys.version.split()[0])
    if not words:
        guarded("tables", tables)
        guarded("objects", lambda: objects(folder))
    if not words or "examples" in words:
        guarded("examples", lambda: examples(f"{folder}/examples", folder))
        guarded("programs", lambda: hooks(f"{folder}/hooks"))
    for one in scenarios():
        if not words or any(word in one.name for word in words):
            play(one, folder)
    tell("end", os.uname().release, "ok", seconds=round(time.monotonic(), 2))


if __name__ == "__main__":
    main()
