"""The one door to LLVM, and what needs no LLVM: the cache of native code and its loader.

    compile_native(ir)       LLVM IR text -> a relocatable object for this processor
    cache.lookup / store     finished objects on disk, by content
    native.load(object)      an object -> executable pages, without LLVM

llvmlite is optional (``skep[llvm]``) and is imported only inside a child process, or in this one
after `warm`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself is not imported, see skep.llvm.native
if TYPE_CHECKING:
    from skep.llvm.compile import LEVELS as LEVELS
    from skep.llvm.compile import available as available
    from skep.llvm.compile import compile_native as compile_native
    from skep.llvm.compile import warm as warm

__all__ = ["LEVELS", "available", "compile_native", "warm"]


def __getattr__(name: str) -> object:
    # The warm path needs the cache and the loader only.
    if name not in __all__:
        raise AttributeError(f"module 'skep.llvm' has no attribute {name!r}")
    from skep.llvm import compile

    return getattr(compile, name)
