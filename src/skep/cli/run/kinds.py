"""What a file that is no object is, in words."""

from __future__ import annotations

from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


_LATER = {
    ".c": "compile it first: clang -O2 -g -target bpf -c FILE.c -o FILE.o",
    ".s": "assemble it first, as an object with its own sections: llvm-mc -triple bpf -filetype obj",
    ".bt": "bpftrace scripts cannot be run yet",
}


def explain(path: str) -> None:
    """Raises SkepError for sources; other names are taken for objects."""
    for ending, advice in _LATER.items():
        if path.endswith(ending):
            _refuse(path, advice)


def _refuse(path: str, advice: str) -> NoReturn:
    raise SkepError(f"{path}: no object: {advice}")
