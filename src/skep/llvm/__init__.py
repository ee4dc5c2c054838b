"""The one door to LLVM, and what needs no LLVM: the cache of native code and its loader.

    compile_native(ir)       LLVM IR text -> a relocatable object for this processor
    cache.lookup / store     finished objects on disk, by content
    native.load(object)      an object -> executable pages, without LLVM

llvmlite is optional (``skep[llvm]``) and is imported only inside a child process, or in this one
after `warm`.
"""

from skep.llvm.compile import LEVELS, available, compile_native, warm

__all__ = ["LEVELS", "available", "compile_native", "warm"]
