"""Write src/skep/uapi/{syscall,event}_table.py: what a kernel's BTF does not say about tracepoints.

    python tools/gen_tracepoints.py --formats FILE... --headers FOLDER...

FILE is ``for f in events/*/*/format; do echo "== $f"; cat $f; done`` of a kernel's tracefs, the last one
that of the running kernel, whose BTF is read too. FOLDER is a tree of kernel headers (Debian's
linux-headers-*-common). Two facts are kept: the names and types of system calls' arguments, and the class
of every event that has not its own (``trace_event_raw_CLASS`` is the struct that BTF has).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

from skep.btf import Btf, types

UAPI = Path(__file__).resolve().parents[1] / "src" / "skep" / "uapi"
FIELD = re.compile(r"field:(.*?)(\w+)(\[\d*\])?;\toffset:(\d+);\tsize:(\d+);\tsigned:(\d);")
QUALIFIERS = re.compile(r"\b(const|volatile|struct|union|enum|__user)\b")


def events(path: Path) -> dict[str, list[tuple[str, str, int, int]]]:
    """``system/event`` -> (C type, name, offset, size) of its own fields."""
    found: dict[str, list[tuple[str, str, int, int]]] = {}
    fields: list[tuple[str, str, int, int]] = []
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("== "):
            system, name = (
                line[3:].split("/")[-3:-1] if line.endswith("/format") else line[3:].split("/")[-2:]
            )
            fields = found[f"{system}/{name}"] = []
        elif match := FIELD.search(line):
            kind, name, array, offset, size, _ = match.groups()
            if int(offset) >= 8:
                fields.append((kind.strip() + (array or ""), name, int(offset), int(size)))
    return found


def argument(kind: str, btf: Btf) -> str:
    """A C type as the table writes it: ``s32``, ``*char``, ``*void``, ``*sockaddr``, ``**char``."""
    bare = " ".join(QUALIFIERS.sub(" ", kind).replace("*", " ").split())
    stars = kind.count("*")
    ids = {
        "int": "s32", "unsigned": "u32", "unsigned int": "u32", "long": "s64", "unsigned long": "u64",
        "char": "char", "unsigned char": "u8", "void": "void", "size_t": "u64", "long long": "s64",
    }  # fmt: skip
    if bare in ids:
        word = ids[bare]
    else:
        id = btf.find(bare, types.TYPEDEF)
        value = btf[btf.resolve(id)] if id is not None else None
        if isinstance(value, types.Int):
            word = f"{'s' if value.signed else 'u'}{8 * value.size}"
        elif isinstance(value, types.Ptr):
            stars += 1
            word = "void"
        else:
            word = bare if stars and re.fullmatch(r"\w+", bare) else "u64"
    return "*" * min(stars, 2) + word


def system_calls(files: list[Path], btf: Btf) -> list[str]:
    found: dict[str, list[str]] = {}
    for path in files:
        for event, fields in events(path).items():
            name = event.split("/")[1]
            if name.startswith("sys_enter_") and fields:
                found[name.removeprefix("sys_enter_")] = [
                    f"{field}={argument(kind, btf)}" for kind, field, _, _ in fields[1:]
                ]
    return [" ".join([name, *arguments]) for name, arguments in sorted(found.items())]


def declared(folders: list[Path]) -> dict[str, set[str]]:
    """event -> the classes it had in some version, from DEFINE_EVENT(class, event, ...)."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.h")):
            if "trace" in str(path):
                text = path.read_text(errors="replace")
                for match in re.finditer(r"DEFINE_EVENT(?:_\w+)?\s*\(\s*(\w+)\s*,\s*(\w+)", text):
                    found.setdefault(match[2], set()).add(match[1])
    return found


def layouts(btf: Btf) -> dict[str, tuple[tuple[str, int], ...]]:
    """class -> (field, offset) of every ``trace_event_raw_CLASS``."""
    found = {}
    for value in btf:
        if isinstance(value, types.Struct) and value.name.startswith("trace_event_raw_"):
            members = tuple((m.name.removeprefix("__data_loc_"), m.offset // 8) for m in value.members)
            found[value.name.removeprefix("trace_event_raw_")] = members[1:-1]
    return found


def shared(a: str, b: str) -> int:
    """How many characters two names begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def classes(latest: Path, folders: list[Path], btf: Btf) -> list[str]:
    known = layouts(btf)
    by_layout: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for name, fields in known.items():
        by_layout.setdefault(fields, []).append(name)
    found = declared(folders)
    unknown: Counter[str] = Counter()
    for event, fields in events(latest).items():
        system, name = event.split("/")
        if system in {"syscalls", "ftrace"} or name in known or found.get(name, set()) & known.keys():
            continue
        layout = tuple((field, offset) for _, field, offset, _ in fields)
        matching = by_layout.get(layout, [])
        if matching:
            best = max(matching, key=lambda other: (shared(other, name), other))
            found.setdefault(name, set()).add(best)
        else:
            unknown[system] += 1
    if unknown:
        print(f"gen_tracepoints: no class found for {dict(unknown)}", file=sys.stderr)
    return [
        " ".join([event, *sorted(names - {event})])
        for event, names in sorted(found.items())
        if names - {event}
    ]


def module(about: str, name: str, rows: list[str], width: int = 0) -> str:
    """A module that holds ``rows``: a row a line, or as many as fit into ``width``, joined by ``;``."""
    lines: list[str] = []
    for row in rows:
        if lines and len(lines[-1]) + 1 + len(row) <= width:
            lines[-1] += f";{row}"
        else:
            lines.append(row)
    head = f'"""{about}\n\nGenerated by tools/gen_tracepoints.py; do not edit.\n"""\n\n'
    head += "# ruff: noqa: E501 (rows of a table stay whole)\n\n"
    return head + f'{name} = """\n' + "\n".join(lines) + '\n"""\n'


def write(calls: list[str], rows: list[str]) -> None:
    """Both modules."""
    (UAPI / "syscall_table.py").write_text(
        module("System calls that have tracepoints: name, name=type of each argument.", "SYSCALLS", calls)
    )
    (UAPI / "event_table.py").write_text(
        module("Events whose record is another class's: event, classes.", "CLASSES", rows, 150)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", type=Path, nargs="+", required=True)
    parser.add_argument("--headers", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    btf = Btf.kernel()
    write(system_calls(args.formats, btf), classes(args.formats[-1], args.headers, btf))


if __name__ == "__main__":
    main()
