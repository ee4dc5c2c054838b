"""The Python subset to LLVM IR to a standard ``.bpf.o``.

    compile_module(module)    a module's programs, maps and globals -> the bytes of an object

Imported only where the cache misses; what a module is written with is `skep.bpf`. The stages, in the order
of their files: `source` finds functions in files, `namespace` resolves names and annotations, `layout` lays
types out in memory, `walk`/`stmts`/`exprs` interpret a function over types and intervals and emit IR as they
go, `debug` describes types and lines to the kernel, `unit` puts a module together, and `skep.llvm.bpf` has
LLVM make the object in a child process. docs/language.md is the reference of the language.
"""
