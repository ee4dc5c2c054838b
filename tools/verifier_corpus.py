"""Objects in a folder: every program to the live kernel and to our verifier, and how far they agree.

    python -m tools.verifier_corpus ours FOLDER OURS.json [--only PATTERN] [--seconds N] [--among KERNEL.json]
    python -m tools.verifier_corpus kernel FOLDER KERNEL.json [--only PATTERN] [--skip OURS.json] [--denied F]
    python -m tools.verifier_corpus table KERNEL.json OURS.json [--causes N]

``ours`` without a kernel's file only asks our verifier and writes the answers down. ``kernel`` loads every
program by itself, its object's maps made for it, and writes down verdict, reason and counts; ``--skip`` takes
our answers and leaves out what we found too complex, since Linux 6.18 may crash where 8,192 branches wait.
``--denied`` asks only for those that file F (another kernel's) says were not permitted: run it in a kernel
that allows fentry and LSM, and give ``ours`` that kernel's types with ``--btf``.
``table`` compares two files. Each object is looked at in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from skep.errors import KernelError, SkepError, VerifierError
from skep.obj import CoreTarget, ObjectSpec, read
from skep.uapi.enums import MapType, ProgType

_STATS = re.compile(
    r"^processed (\d+) insns \(limit \d+\) max_states_per_insn (\d+) total_states (\d+) peak_states (\d+)",
    re.M,
)


def _row(verdict: str, log: str = "", reason: str = "") -> dict[str, Any]:
    found = _STATS.search(log)
    return {
        "verdict": verdict,
        "reason": reason,
        "processed": int(found[1]) if found else 0,
        "states": int(found[3]) if found else 0,
        "peak": int(found[4]) if found else 0,
    }


_WITHOUT_ENTRIES = (
    MapType.SK_STORAGE,
    MapType.TASK_STORAGE,
    MapType.INODE_STORAGE,
    MapType.CGRP_STORAGE,
    MapType.CGROUP_STORAGE,
    MapType.PERCPU_CGROUP_STORAGE,
    MapType.STRUCT_OPS,
    MapType.RINGBUF,
    MapType.USER_RINGBUF,
    MapType.ARENA,
)


def opened(path: str) -> ObjectSpec:
    """The object; programs whose section says no type are for TC (Cilium's sections are numbers) or XDP."""
    spec = read(path)
    for program in spec.programs.values():
        if program.type is None or not int(program.type):
            tc = "cilium" in path and "xdp" not in path
            program.type = ProgType.SCHED_CLS if tc else ProgType.XDP
    for row in spec.maps.values():  # what is left to the program that loads it
        if not row.max_entries and row.type not in _WITHOUT_ENTRIES:
            row.max_entries = os.cpu_count() or 1 if row.type == MapType.PERF_EVENT_ARRAY else 1024
        if row.type == MapType.STACK_TRACE:
            row.value_size = row.value_size or 127 * 8
    return spec


def kernel_verdict(path: str, program: str) -> dict[str, Any]:
    """What the running kernel says of one program."""
    from tests.verifier.harness.question import reason_of

    from skep.kernel.loader import Loader
    from skep.linux.kernel import LinuxKernel

    try:
        spec = opened(path)
        loader = Loader(LinuxKernel(), spec, programs=[program], log_level=4, pin_root="/nonexistent")
        for one in spec.maps.values():
            one.pinning = 0
        with loader.load() as loaded:
            return _row("accept", loaded.programs[program].log)
    except (VerifierError, KernelError) as error:
        if getattr(error, "log", "") and "processed" in error.log:
            return _row("reject", error.log, reason_of(error.log))
        return _row("none", reason=f"{type(error).__name__}: {error}"[:300])
    except SkepError as error:
        return _row("none", reason=f"{type(error).__name__}: {error}"[:300])


def our_verdict(path: str, program: str, seconds: int) -> dict[str, Any]:
    """What our verifier says of one program."""
    from skep.verifier import Subject, check

    def late(*_: object) -> None:
        raise TimeoutError

    start = time.process_time()
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        spec = opened(path)
        verdict = check(Subject.from_object(spec, program, types=_target()))
        row = {"verdict": "accept", "reason": "", "processed": verdict.processed, "states": verdict.states}
    except VerifierError as error:
        row = {"verdict": "reject", "reason": error.reason, "processed": 0}
    except SkepError as error:
        row = {"verdict": "none", "reason": f"{type(error).__name__}: {error}"[:300], "processed": 0}
    except TimeoutError:
        row = {"verdict": "broken", "reason": "took too long", "processed": 0}
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        row = {
            "verdict": "broken",
            "reason": f"{type(error).__name__} {where}: {error}"[:300],
            "processed": 0,
        }
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    row["seconds"] = round(time.process_time() - start, 3)
    row["peak_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return row


_cache: list[CoreTarget] = []


def _target() -> CoreTarget:
    if not _cache:
        btf = os.environ.get("SKEP_CORPUS_BTF")
        _cache.append(CoreTarget.open(btf) if btf else CoreTarget.kernel())
    return _cache[0]


def apart(work: Any) -> dict[str, Any]:
    """``work()`` in a child; what it gives, or how it died."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            with os.fdopen(writing, "w") as file:
                json.dump(work(), file)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(text) if text else {"": {"verdict": "broken", "reason": f"died: {status}"}}


def objects(folder: str, only: str) -> list[Path]:
    return [path for path in sorted(Path(folder).rglob("*.o")) if re.search(only, path.name)]


def ask_all(options: argparse.Namespace, ask: Any, leave: set[str], among: set[str] | None = None) -> None:
    """Every program of the folder (or of ``among``) to ``ask(path, name)``; the answers go to a file."""
    _target()
    out: dict[str, Any] = {}
    for path in objects(options.folder, options.only):
        relative = str(path.relative_to(options.folder))
        if among is not None and not any(key.startswith(f"{relative}:") for key in among):
            continue

        def work(path: Path = path, relative: str = relative) -> dict[str, Any]:
            try:
                names = list(read(str(path)).programs)
            except SkepError as error:
                return {f"{relative}:": _row("none", reason=f"{type(error).__name__}: {error}"[:300])}
            return {
                f"{relative}:{name}": ask(str(path), name)
                for name in names
                if f"{relative}:{name}" not in leave and (among is None or f"{relative}:{name}" in among)
            }

        found = apart(work)
        if "" in found:
            print(f"{relative}: {found['']}", file=sys.stderr)
            continue
        out |= found
    Path(options.out).write_text(json.dumps(out, indent=0))
    kinds = ("accept", "reject", "none", "broken")
    print(
        f"{len(out)} programs: { {kind: sum(r['verdict'] == kind for r in out.values()) for kind in kinds} }"
    )


_TOO_MUCH = re.compile("jumps is too complex|took too long|Traceback|died")


def ask_kernel(options: argparse.Namespace) -> None:
    leave = set()
    if options.skip:
        ours = json.loads(Path(options.skip).read_text())
        leave = {key for key, row in ours.items() if _TOO_MUCH.search(row["reason"])}
    among = None
    if options.denied:
        rows = json.loads(Path(options.denied).read_text())
        among = {key for key, row in rows.items() if row["reason"].startswith("PermissionDenied")}
    ask_all(options, kernel_verdict, leave, among)


def ask_ours(options: argparse.Namespace) -> None:
    among = None
    if options.among:
        kernel = json.loads(Path(options.among).read_text())
        among = {key for key, row in kernel.items() if row["verdict"] in ("accept", "reject")}
    if options.btf:
        os.environ["SKEP_CORPUS_BTF"] = options.btf
    ask_all(options, lambda path, name: our_verdict(path, name, options.seconds), set(), among)


def table(options: argparse.Namespace) -> None:
    from tests.verifier.harness import differ
    from tests.verifier.harness.question import Answer

    kernel = json.loads(Path(options.kernel).read_text())
    ours = json.loads(Path(options.ours).read_text())
    tally = differ.Tally()
    for key, theirs in kernel.items():
        mine = ours.get(key)
        if theirs["verdict"] in ("accept", "reject") and mine is not None:
            tally.add(_compared(theirs, mine, differ, Answer), key)
    print(tally.table(options.causes))
    unasked: dict[str, int] = {}
    for row in kernel.values():
        if row["verdict"] == "none":
            unasked[row["reason"].partition(":")[0]] = unasked.get(row["reason"].partition(":")[0], 0) + 1
    print(f"not asked (the object cannot be loaded at all): {unasked}")


def _compared(theirs: dict[str, Any], mine: dict[str, Any], differ: Any, answer: Any) -> Any:
    kernel = answer(theirs["verdict"] == "accept", theirs["reason"], 0, theirs["processed"])
    our = answer(mine["verdict"] == "accept", mine["reason"], 0, mine.get("processed", 0))
    if mine["verdict"] in ("broken", "none"):
        return differ.Compared(differ.BROKEN, kernel, our, mine["reason"])
    return differ.judged(kernel, our)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    actions = parser.add_subparsers(required=True)
    first = actions.add_parser("ours")
    first.add_argument("folder")
    first.add_argument("out")
    first.add_argument("--only", default="")
    first.add_argument("--among", default="")
    first.add_argument("--btf", default="", help="another kernel's types")
    first.add_argument("--seconds", type=int, default=60)
    first.set_defaults(action=ask_ours)
    second = actions.add_parser("kernel")
    second.add_argument("folder")
    second.add_argument("out")
    second.add_argument("--skip", default="")
    second.add_argument("--only", default="")
    second.add_argument("--denied", default="")
    second.set_defaults(action=ask_kernel)
    third = actions.add_parser("table")
    third.add_argument("kernel")
    third.add_argument("ours")
    third.add_argument("--causes", type=int, default=40)
    third.set_defaults(action=table)
    options = parser.parse_args()
    options.action(options)


if __name__ == "__main__":
    main()
