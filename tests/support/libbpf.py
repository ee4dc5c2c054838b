"""bpftool (and libbpf in it) loading an object, in a mount namespace of its own: no pin is left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import oracles

_LOAD = """
mount -t bpf bpf "$1" || exit 77
mkdir "$1/pins" && "$2" prog loadall "$3" "$1/pins" || exit 1
for pin in "$1"/pins/*; do "$2" prog show pinned "$pin" | head -n 1; done
"""


def loadall(path: Path, folder: Path) -> dict[str, str]:
    """Load every program of an object: name -> type. A bpffs is mounted over ``folder`` meanwhile."""
    oracles.bpf()
    bpftool = oracles.tool("bpftool")
    command = ["unshare", "-m", "sh", "-c", _LOAD, "sh", str(folder), bpftool, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        oracles.absent(f"the right to mount bpffs in a mount namespace ({done.stderr.strip()})")
    assert done.returncode == 0, done.stderr
    # 7: socket_filter  name drop  tag …
    words_of = [line.split() for line in done.stdout.splitlines()]
    return {word[3]: word[1] for word in words_of if word[2] == "name"}
