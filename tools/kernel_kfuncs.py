"""Extract the flags of kernel functions for BPF from a kernel's sources into tools/data/kfuncs.txt.

    python tools/kernel_kfuncs.py 6.12=linux-6.12 7.2=linux-7.2

A row is `NAME VERSION:FLAG,FLAG…`, with a version for each source that has the function; which programs may
call it is found by asking kernels (tools/probe_kernel.py kfuncs).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DATA = Path(__file__).parent / "data"


def flags(root: Path) -> dict[str, str]:
    out: dict[str, str] = {}
    for folder in ("kernel", "net", "fs", "drivers", "security"):
        for path in sorted(root.glob(f"{folder}/**/*.c")):
            text = path.read_text(errors="replace")
            if "BTF_KFUNCS_START" not in text and "BTF_ID_FLAGS" not in text:
                continue
            for name, more in re.findall(r"BTF_ID_FLAGS\(func,\s*(\w+)\s*((?:,[^)]*)?)\)", text):
                words = re.findall(r"KF_(\w+)", more)
                if name == "name":  # the parameter of a macro
                    continue
                out[name] = (
                    ",".join(sorted({*words, *filter(None, out.get(name, "-").split(","))} - {"-"})) or "-"
                )
    return out


def main(args: list[str]) -> None:
    rows: dict[str, list[str]] = {}
    for arg in args:
        version, _, root = arg.partition("=")
        for name, found in flags(Path(root)).items():
            rows.setdefault(name, []).append(f"{version}:{found}")
    lines = [f"{name} {' '.join(cells)}" for name, cells in sorted(rows.items())]
    (DATA / "kfuncs.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
