"""The kernel's own verifier tests, held against our verifier: verdicts and messages by their annotations.

    python -m tools.verifier_selftests ours FOLDER OURS.json [--kernel 7.2] [--btf FILE] [--only PATTERN]
    python -m tools.verifier_selftests kernel FOLDER KERNEL.json [--only PATTERN]
    python -m tools.verifier_selftests table OURS.json [KERNEL.json] [--causes N]

FOLDER has objects built from tools/testing/selftests/bpf/progs of the kernel's sources. Their tests say in
BTF tags what is expected (``__success``, ``__failure``, ``__msg``, the same ``_unpriv``, flags, log level,
capabilities; bpf_misc.h explains each); programs without tags are asked as well, with nothing expected.
``kernel`` asks the running kernel, with every capability: run it in an emulated one. ``table`` puts
verdicts and messages side by side. What only bpf_testmod has cannot be asked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.verifier.harness.ours import TookTooLong, at_most
from tests.verifier.harness.question import reason_of

from skep.btf import types as t
from skep.errors import KernelError, SkepError, VerifierError
from skep.obj import ObjectSpec

FLAGS = {
    "BPF_F_STRICT_ALIGNMENT": 1,
    "BPF_F_ANY_ALIGNMENT": 2,
    "BPF_F_TEST_RND_HI32": 4,
    "BPF_F_TEST_STATE_FREQ": 8,
    "BPF_F_SLEEPABLE": 16,
    "BPF_F_XDP_HAS_FRAGS": 32,
    "BPF_F_TEST_REG_INVARIANTS": 128,
}
_CAPABILITIES = {12: "net_admin", 38: "perfmon", 39: "bpf"}
_EVERYTHING = ("bpf", "perfmon", "net_admin")


class Wanted(NamedTuple):
    """What one mode of one test expects. ``messages``: (pattern of the kernel's form, must be absent)."""

    accepted: bool | None
    messages: tuple[tuple[str, bool], ...]
    capabilities: tuple[str, ...]


class Test(NamedTuple):
    """A program and what its tags say; ``modes`` is empty where it is for other machines."""

    name: str
    flags: int
    cleared: int
    level: int
    modes: dict[str, Wanted]


def _tags(spec: ObjectSpec) -> dict[str, list[str]]:
    """Tags of functions, in the order of the source."""
    btf = spec.btf
    found: dict[str, list[tuple[int, str]]] = {}
    for id in range(1, len(btf) if btf is not None else 0):
        row: Any = btf[id]  # type: ignore[index]
        if row[0] != t.DECL_TAG or row[3] != -1:
            continue
        match = re.match(r"comment:(\d+):(.*)", row[1], re.S)
        function: Any = btf[row[2]]  # type: ignore[index]
        if match and function[0] == t.FUNC:
            found.setdefault(function[1], []).append((int(match[1]), match[2]))
    return {name: [text for _, text in sorted(rows)] for name, rows in found.items()}


def _capabilities(text: str) -> tuple[str, ...]:
    return tuple(_CAPABILITIES[int(n)] for n in re.findall(r"\d+", text) if int(n) in _CAPABILITIES)


def _test(name: str, tags: list[str]) -> Test:
    accepted: dict[str, bool | None] = {}
    messages: dict[str, list[tuple[str, bool]]] = {"": [], "_unpriv": []}
    modes: set[str] = set()
    flags = cleared = level = 0
    machines: set[str] = set()
    caps: tuple[str, ...] = ()
    for text in tags:
        key, _, value = text.partition("=")
        mode = "_unpriv" if key.endswith("_unpriv") else ""
        base = key.removesuffix("_unpriv")
        if base in ("test_expect_failure", "test_expect_success"):
            accepted[mode] = base.endswith("success")
            modes.add(mode)
        elif base in ("test_expect_msg", "test_expect_not_msg"):
            messages[mode].append((value, base.endswith("not_msg")))
            modes.add(mode)
        elif base in ("test_auxiliary", "test_retval", "test_expect_xlated"):
            modes.add(mode)
        elif base == "test_caps":
            caps = _capabilities(value)
            modes.add("_unpriv")
        elif key == "test_log_level":
            level = int(value, 0)
        elif text == "load_mode=no_jited":
            machines.add("one that interprets")
        elif key == "test_arch":
            machines.add(value)
        elif key == "test_prog_flags":
            bit = FLAGS.get(value.lstrip("!")) or int(value.lstrip("!"), 0)
            if value.startswith("!"):
                cleared |= bit
            else:
                flags |= bit
    wanted: dict[str, Wanted] = {}
    if (not machines or "X86_64" in machines) and tags:
        # without a verdict test_loader expects success, and one mode without its own takes the other's
        first = accepted.get("", True)
        for mode in sorted(modes or {""}):
            if mode:
                texts = messages["_unpriv"] or messages[""]
                wanted["unpriv"] = Wanted(accepted.get("_unpriv", first), tuple(texts), caps)
            else:
                wanted["priv"] = Wanted(first, tuple(messages[""]), _EVERYTHING)
    return Test(name, flags, cleared, level, wanted)


def tests(spec: ObjectSpec) -> list[Test]:
    tags = _tags(spec)
    found = [_test(name, tags.get(name, [])) for name in spec.programs]
    return [one for one in found if one.modes or not tags.get(one.name)]


def pattern(message: str) -> re.Pattern[str]:
    """A message as test_loader takes it: plain text, with regular expressions in {{ }}."""
    parts = re.split(r"\{\{(.*?)\}\}", message)
    text = "".join(part if n % 2 else re.escape(part) for n, part in enumerate(parts))
    text = text.replace("[[:space:]]", r"\s").replace("[[:digit:]]", r"\d")
    return re.compile(text, re.M)


def missing(log: str, messages: tuple[tuple[str, bool], ...]) -> str:
    """The first message that the log lacks (or must not have), in the test's order; "" if all is right."""
    at = 0
    absent: list[str] = []
    for text, negative in messages:
        if negative:
            absent.append(text)
            continue
        found = pattern(text).search(log, at)
        if found is None:
            return text
        for one in absent:
            if pattern(one).search(log, at, found.start()):
                return f"not: {one}"
        absent, at = [], found.end()
    for one in absent:
        if pattern(one).search(log, at):
            return f"not: {one}"
    return ""


def _prepared(path: str) -> ObjectSpec:
    from tools.verifier_corpus import opened

    return opened(path)


def ours(path: str, test: Test, mode: str, options: argparse.Namespace) -> dict[str, Any]:
    from tools.verifier_corpus import _target

    from skep.verifier import Subject, check

    wanted = test.modes.get(mode, Wanted(None, (), _EVERYTHING))
    row: dict[str, Any] = {"wanted": wanted.accepted, "messages": [m for m, no in wanted.messages if not no]}
    try:
        spec = _prepared(path)
        program = spec.programs[test.name]
        program.flags = (program.flags | test.flags) & ~test.cleared
        with at_most(options.seconds):
            subject = Subject.from_object(spec, test.name, types=_target(), kernel=options.kernel)
            level = test.level & 3 or (1 if wanted.messages or not wanted.accepted else 0)
            verdict = check(subject, kernel=options.kernel, capabilities=wanted.capabilities, log_level=level)
        log = verdict.log
        row |= {"verdict": "accept", "reason": "", "processed": verdict.processed}
    except VerifierError as error:
        log = error.log or error.reason
        row |= {"verdict": "reject", "reason": error.reason}
    except TookTooLong as error:
        return row | {"verdict": "broken", "reason": str(error)}
    except SkepError as error:
        return row | {"verdict": "none", "reason": f"{type(error).__name__}: {error}"[:300]}
    except Exception as error:
        return row | {"verdict": "broken", "reason": f"{type(error).__name__}: {error}"[:300]}
    return row | {"lacks": missing(log, wanted.messages)}


def theirs(path: str, test: Test) -> dict[str, Any]:
    """The running kernel's answer."""
    from skep.kernel.loader import Loader
    from skep.linux.kernel import LinuxKernel

    wanted = test.modes.get("priv", Wanted(None, (), _EVERYTHING))
    row: dict[str, Any] = {"wanted": wanted.accepted}
    try:
        spec = _prepared(path)
        program = spec.programs[test.name]
        program.flags = (program.flags | test.flags) & ~test.cleared
        for one in spec.maps.values():
            one.pinning = 0
        level = test.level or (1 if wanted.messages else 4)
        loader = Loader(LinuxKernel(), spec, programs=[test.name], log_level=level, pin_root="/nonexistent")
        with loader.load() as loaded:
            log = loaded.programs[test.name].log
        row |= {"verdict": "accept", "reason": ""}
    except (VerifierError, KernelError) as error:
        log = getattr(error, "log", "") or ""
        if not log:
            return row | {"verdict": "none", "reason": f"{type(error).__name__}: {error}"[:300]}
        row |= {"verdict": "reject", "reason": reason_of(log)[:600]}
    except (SkepError, OSError) as error:
        return row | {"verdict": "none", "reason": f"{type(error).__name__}: {error}"[:300]}
    return row | {"lacks": missing(log, wanted.messages)}


def _each(options: argparse.Namespace) -> dict[str, Any]:
    from tools.verifier_corpus import apart, objects

    out: dict[str, Any] = {}
    for path in objects(options.folder, options.only):

        def work(path: Path = path) -> dict[str, Any]:
            rows: dict[str, Any] = {}
            try:
                found = tests(_prepared(str(path)))
            except SkepError as error:
                return {f"{path.name}:": {"verdict": "none", "wanted": None, "reason": str(error)[:200]}}
            for test in found:
                if options.live:
                    if "priv" in test.modes or not test.modes:
                        rows[f"{path.name}:{test.name}:priv"] = theirs(str(path), test)
                    continue
                for mode in test.modes or ("priv",):
                    rows[f"{path.name}:{test.name}:{mode}"] = ours(str(path), test, mode, options)
            return rows

        found = apart(work)
        if "" in found:
            print(f"{path.name}: {found['']}", file=sys.stderr)
            continue
        if options.lines:
            for key, row in found.items():
                sys.stdout.write(f"@@{json.dumps([key, row])}\n")
            sys.stdout.flush()
        out |= found
    return out


def ask(options: argparse.Namespace) -> None:
    if getattr(options, "btf", ""):
        os.environ["SKEP_CORPUS_BTF"] = options.btf
    rows = _each(options)
    if options.out != "-":
        Path(options.out).write_text(json.dumps(rows, indent=0))
    print(len(rows), "answers:", dict(Counter(str(row["verdict"]) for row in rows.values())))


def _load(path: str) -> dict[str, Any]:
    text = Path(path).read_text()
    if "@@" in text.partition("\n")[0] or not text.startswith("{"):
        rows = (json.loads(line.partition("@@")[2]) for line in text.splitlines() if "@@" in line)
        return dict(rows)
    found: dict[str, Any] = json.loads(text)
    return found


def table(options: argparse.Namespace) -> None:
    mine = _load(options.ours)
    kernel = _load(options.kernel) if options.kernel else {}
    for mode in ("priv", "unpriv"):
        counts: Counter[str] = Counter()
        lists: dict[str, list[str]] = {}
        for key, row in mine.items():
            if not key.endswith(":" + mode):
                continue
            real = kernel.get(key, {})
            truth = row["wanted"]
            if real.get("verdict") in ("accept", "reject"):
                truth = real["verdict"] == "accept"
            if truth is None or row["verdict"] == "none":
                counts["not asked"] += 1
                if row["verdict"] == "none":
                    lists.setdefault("not asked", []).append(f"{key}: {row['reason']}")
                continue
            said = row["verdict"] == "accept"
            if row["verdict"] == "broken":
                kind = "broken"
            elif said and not truth:
                kind = "UNSAFE"
            elif truth and not said:
                kind = "strict"
            elif row.get("lacks") and not (real and real.get("lacks")):
                kind = "words" if not truth else "log"
            else:
                kind = "same"
            counts[kind] += 1
            if kind != "same":
                theirs = f" | kernel: {real['reason'][:160]!r}" if real.get("reason") else ""
                lacks = f" | lacks: {row['lacks'][:160]!r}" if row.get("lacks") else ""
                lists.setdefault(kind, []).append(f"{key}: ours: {row['reason'][:160]!r}{lacks}{theirs}")
        asked = sum(counts.values()) - counts["not asked"]
        agreed = counts["same"] + counts["words"] + counts["log"]
        share = 100 * agreed / max(asked, 1)
        print(f"{mode}: {asked} asked, same verdict {agreed} ({share:.2f} %): {dict(counts)}")
        for kind in ("broken", "UNSAFE", "strict", "words", "log", "not asked"):
            for line in lists.get(kind, [])[: options.causes]:
                print(f"  {kind:7} {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    actions = parser.add_subparsers(required=True)
    for name, live in (("ours", False), ("kernel", True)):
        one = actions.add_parser(name)
        one.add_argument("folder")
        one.add_argument("out", help="a file, or - for lines on standard output alone")
        one.add_argument("--only", default="")
        if not live:
            one.add_argument("--kernel", default="7.2")
            one.add_argument("--btf", default="", help="that kernel's types")
            one.add_argument("--seconds", type=int, default=60)
        one.add_argument("--lines", action="store_true", help="print every answer as a line, too")
        one.set_defaults(action=ask, live=live)
    last = actions.add_parser("table")
    last.add_argument("ours")
    last.add_argument("kernel", nargs="?", default="")
    last.add_argument("--causes", type=int, default=1000)
    last.set_defaults(action=table)
    options = parser.parse_args()
    options.action(options)


if __name__ == "__main__":
    main()
