"""Write src/skep/capture/linktype_{names,numbers}.py from libpcap's own sources.

    python tools/gen_linktypes.py LIBPCAP-TREE [LIBPCAP-TREE ...]

Each tree is an unpacked release or a checkout. The first one decides names and descriptions (give the
release that the tests compare with), later ones add numbers the first does not have yet. Values are
those of Linux.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DEFINE = re.compile(r"\s*#\s*define\s+(\w+)\s+(\w+)")
DIRECTIVE = re.compile(r"\s*#\s*(ifdef|ifndef|if|elif|else|endif)\b(.*)")
CHOICE = re.compile(r'DLT_CHOICE\((\w+),\s*"([^"]*)"\)')
MAPPING = re.compile(r"\{\s*(DLT_\w+)\s*,\s*(LINKTYPE_\w+)\s*\}")
LIMIT = re.compile(r"case (DLT_\w+):\s*return ([0-9*]+);")


def condition(text: str, known: dict[str, int]) -> bool:
    """A preprocessor condition made of defined(), ! && || only: enough for libpcap's headers."""
    text = re.sub(r"/\*.*?\*/", "", text)
    text = re.sub(r"defined\s*\(?\s*(\w+)\s*\)?", lambda m: str(m[1] in known), text)
    text = text.replace("&&", " and ").replace("||", " or ").replace("!", " not ")
    if not re.fullmatch(r"[\sA-Za-z()]*", text):
        return False
    return bool(eval(text.strip(), {"__builtins__": {}}))


def defines(path: Path, known: dict[str, int]) -> dict[str, int]:
    """Every ``#define NAME number-or-earlier-name`` that Linux sees, added to ``known``."""
    live = [True]
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if directive := DIRECTIVE.match(line):
            word, rest = directive[1], directive[2].strip()
            if word == "ifdef":
                live.append(live[-1] and rest.split()[0] in known)
            elif word == "ifndef":
                live.append(live[-1] and rest.split()[0] not in known)
            elif word == "if":
                live.append(live[-1] and condition(rest, known))
            elif word == "else":
                live[-1] = live[-2] and not live[-1]
            elif word == "endif":
                live.pop()
            else:
                raise SystemExit(f"{path}: #{word} is not understood")
        elif live[-1] and (define := DEFINE.match(line)):
            name, value = define[1], define[2]
            if value in known:
                known[name] = known[value]
            elif re.fullmatch(r"\d+", value):
                known[name] = int(value)
    return known


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main(trees: list[Path]) -> None:
    if not trees:
        raise SystemExit(__doc__)
    names: dict[int, tuple[str, str]] = {}
    aliases: dict[str, int] = {}
    linktypes: dict[int, int] = {}
    limits: dict[int, int] = {}
    for tree in trees:
        known = defines(tree / "pcap-common.c", defines(tree / "pcap" / "dlt.h", {}))
        choices = CHOICE.findall((tree / "pcap.c").read_text(encoding="utf-8"))
        for name, description in choices:
            value = known[f"DLT_{name}"]
            if value in names and names[value][0] != name:
                aliases[name] = value
            if value not in names or (names[value] == (name, "")):
                names[value] = (name, description)
        common = (tree / "pcap-common.c").read_text(encoding="utf-8")
        for dlt, linktype in MAPPING.findall(common):
            if dlt in known and known[dlt] != known[linktype]:
                linktypes[known[dlt]] = known[linktype]
        for dlt, product in LIMIT.findall(common):
            size = 1
            for factor in product.split("*"):
                size *= int(factor)
            limits[known[dlt]] = size
        for macro, value in known.items():
            if macro.startswith("DLT_") and not re.search(r"_(MIN|MAX)$|DLT_CLASS|RAWAF", macro):
                name = macro.removeprefix("DLT_")
                if value in names:
                    if names[value][0] != name:
                        aliases.setdefault(name, value)
                else:
                    names[value] = (name, "")
    listed = {name for name, _ in names.values()}
    versions = " and ".join((tree / "VERSION").read_text().strip() for tree in trees)

    lines = ["#: DLT number -> (name, description); an empty description is one libpcap does not list."]
    lines.append("NAMES: dict[int, tuple[str, str]] = {")
    for value, (name, description) in sorted(names.items()):
        line = f"    {value}: ({quoted(name)}, {quoted(description)}),"
        if len(line) > 110:
            line = f"    {value}: (\n        {quoted(name)},\n        {quoted(description)},\n    ),"
        lines.append(line)
    lines += ["}", "", "#: other names of the same numbers", "ALIASES: dict[str, int] = {"]
    lines += [
        f"    {quoted(name)}: {value}," for name, value in sorted(aliases.items()) if name not in listed
    ]
    write("linktype_names.py", "Names of link types", versions, [*lines, "}"])

    lines = ["#: DLT number -> the LINKTYPE number files hold, where they differ"]
    lines.append("FILE_NUMBERS: dict[int, int] = {")
    lines += [f"    {value}: {linktype}," for value, linktype in sorted(linktypes.items())]
    lines += ["}", "", "#: DLT number -> the longest record in bytes, where it is not the usual 262,144"]
    lines.append("RECORD_LIMITS: dict[int, int] = {")
    lines += [f"    {value}: {limit}," for value, limit in sorted(limits.items())]
    write("linktype_numbers.py", "Numbers of link types", versions, [*lines, "}"])


def write(name: str, title: str, versions: str, lines: list[str]) -> None:
    head = f'"""{title}.\n\nGenerated by tools/gen_linktypes.py from libpcap {versions}; do not edit.\n"""'
    path = Path(__file__).resolve().parents[1] / "src" / "skep" / "capture" / name
    path.write_text("\n".join([head, "", "from __future__ import annotations", "", *lines, ""]))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
