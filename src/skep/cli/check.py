"""`skep check`: the verifier without a kernel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from skep.errors import LinkError, SkepError, VerifierError

if TYPE_CHECKING:
    from skep.obj import CoreTarget
    from skep.obj.spec import ObjectSpec
    from skep.verifier import Verdict

_EPILOG: Final = """\
Programs are judged as Linux 6.18 judges those of a privileged user, unless told otherwise. --kernel all
looks for the oldest release that takes each program. Types for CO-RE come from the running kernel, or from
--btf FILE (the /sys/kernel/btf/vmlinux of another one).
Exit status: 0 all accepted, 1 some refused or unreadable, 2 wrong usage.
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="skep check",
        description="Verify the programs of object files without a kernel, and explain what is wrong.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="an object file (.o), or a Python program (.py)"
    )
    parser.add_argument(
        "-p", "--program", action="append", metavar="NAME", help="only this program (repeatable)"
    )
    parser.add_argument(
        "--kernel", default="6.18", metavar="VERSION", help="for this release (6.18); or `all`"
    )
    parser.add_argument("--unprivileged", action="store_true", help="as for a user without any capability")
    parser.add_argument(
        "--capabilities", metavar="LIST", help="as for a user with just these of bpf, perfmon, net_admin"
    )
    parser.add_argument("--strict", action="store_true", help="ask for all that the userspace kernel needs")
    parser.add_argument("--btf", metavar="FILE", help="kernel types to relocate against")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="the log too (-vv: every state)")
    parser.add_argument("-j", "--json", action="store_true", help="everything, as JSON")
    options = parser.parse_intermixed_args(argv)
    versions = _versions(parser, options.kernel)
    options.capabilities = _capabilities(parser, options)
    from skep.obj import CoreTarget

    target = CoreTarget.open(options.btf) if options.btf else CoreTarget.kernel()
    rows: list[dict[str, Any]] = []
    failed = False
    for path in options.files:
        if not options.json and len(options.files) > 1:
            print(f"{path}:")
        try:
            spec = _open(path)
            names = _chosen(spec, path, options.program)
        except SkepError as error:
            if len(options.files) == 1 and not options.json:
                raise
            failed = True
            print(f"skep check: {error}", file=sys.stderr)
            rows.append({"file": path, "error": str(error)})
            continue
        width = max((len(name) for name in names), default=0)
        for name in names:
            check = _Check(spec, name, target, options)
            row = check.every(versions) if options.kernel == "all" else check.one(options.kernel)
            row = {"file": path, "program": name, **row}
            failed = failed or not row["accepted"]
            rows.append(row)
            if not options.json:
                check.show(row, width)
    if options.json:
        import json

        print(json.dumps(rows, indent=2, ensure_ascii=False, default=str))
    return 1 if failed else 0


def _versions(parser: argparse.ArgumentParser, text: str) -> list[str]:
    from skep.verifier.facts.limits import VERSIONS

    known = [f"{major}.{minor}" for major, minor in VERSIONS]
    if text == "all":
        return known
    major, dot, minor = text.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        parser.error(f"--kernel {text}: expected a release as 6.18, or all")
    if (int(major), int(minor)) < VERSIONS[0]:
        parser.error(f"--kernel {text}: releases before {known[0]} are not known")
    return [text]


def _capabilities(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str] | None:
    text: str | None = options.capabilities
    if text is None:
        return None
    if options.unprivileged:
        parser.error("--capabilities and --unprivileged exclude each other")
    from skep.verifier.rights import Rights

    names = [word.strip() for word in text.split(",") if word.strip()]
    try:
        Rights.of(names)
    except VerifierError as error:
        parser.error(f"--capabilities {text}: {error.reason}; {error.hint}")
    return names


def _open(path: str) -> ObjectSpec:
    if path.endswith(".py"):
        from skep.cli.python import compiled

        return compiled(path)
    from skep.cli.run.kinds import explain
    from skep.obj import read

    explain(path)
    return read(path)


def _chosen(spec: ObjectSpec, path: str, wanted: list[str] | None) -> list[str]:
    names = list(spec.programs)
    for name in wanted or ():
        if name not in spec.programs:
            raise LinkError(f"{path}: no program {name!r}; there are: {', '.join(names) or 'none'}")
    if not names:
        raise LinkError(f"{path}: there is no program in it")
    return wanted or names


class _Check:
    """One program, checked for one release or for all."""

    def __init__(self, spec: ObjectSpec, name: str, target: CoreTarget, options: argparse.Namespace) -> None:
        self.spec = spec
        self.name = name
        self.target = target
        self.options = options
        self.error: SkepError | None = None
        self.verdict: Verdict | None = None

    def one(self, version: str) -> dict[str, Any]:
        """The verdict for a release, as a row for JSON."""
        self.error = self.verdict = None
        try:
            self.verdict = self._verdict(version)
        except SkepError as error:
            self.error = error
            return {"kernel": version, "accepted": False, **_told(error)}
        verdict = self.verdict
        return {
            "kernel": version,
            "accepted": True,
            "processed": verdict.processed,
            "states": verdict.states,
            "peak_states": verdict.peak_states,
            "log": verdict.log or None,
        }

    def _verdict(self, version: str) -> Verdict:
        from skep.verifier import Subject, check

        subject = Subject.from_object(self.spec, self.name, types=self.target, kernel=version)
        return check(
            subject,
            kernel=version,
            privileged=not self.options.unprivileged,
            capabilities=self.options.capabilities,
            strict=self.options.strict,
            log_level=min(2, self.options.verbose),
        )

    def every(self, versions: list[str]) -> dict[str, Any]:
        """From the newest release down to the first that refuses; the oldest that accepts."""
        oldest: dict[str, Any] | None = None
        for version in reversed(versions):
            row = self.one(version)
            if not row["accepted"]:
                if oldest is None:
                    return row
                oldest["before"] = {key: row[key] for key in ("kernel", "reason", "since") if key in row}
                break
            oldest = {**row, "oldest": version}
        self.error = None
        return oldest if oldest is not None else {"accepted": False}

    def show(self, row: dict[str, Any], width: int) -> None:
        name = f"{self.name:<{width}}"
        error = self.error
        if error is None:
            if "oldest" in row:
                line = f"{name}  loads on Linux {row['oldest']} and later"
                if before := row.get("before"):
                    line += f"; {before['kernel']} refuses it: {before['reason']}"
                print(line)
            else:
                print(f"{name}  ok  {row['processed']} insns processed, {row['peak_states']} states at most")
            if self.options.verbose and row.get("log"):
                print(row["log"], end="")
            return
        explanation = error.explanation if isinstance(error, VerifierError) else None
        shown = error if explanation is None else getattr(error, "reason", "")
        who = "the strict rules" if self.options.strict else f"Linux {row['kernel']}"
        print(f"{name}  refused by {who}: {shown}")
        if isinstance(error, VerifierError) and self.options.verbose and error.log:
            print(error.log, end="")
        if explanation is not None:
            print(explanation.on_terminal(sys.stdout))


def _told(error: SkepError) -> dict[str, Any]:
    row: dict[str, Any] = {"error": str(error), "reason": getattr(error, "reason", str(error))}
    since = getattr(error, "since", None)
    if since:
        row["since"] = since
    if isinstance(error, VerifierError):
        row |= {"insn": error.insn, "source": error.source, "hint": error.hint, "log": error.log or None}
        if error.explanation is not None:
            row["explanation"] = error.explanation.as_json()
    return row
