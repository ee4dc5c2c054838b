"""Run every benchmark package beside this file: `python -m bench [NAME...]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    names = sys.argv[1:] or sorted(path.parent.name for path in HERE.glob("*/__main__.py"))
    status = 0
    for name in names:
        print(f"== bench.{name}", flush=True)
        status |= subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=HERE.parent).returncode
        print(flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
