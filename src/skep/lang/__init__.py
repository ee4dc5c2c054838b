"""The Python subset to LLVM IR to a standard ``.bpf.o``.

    compile.compile_programs(programs)    programs, their maps and globals -> the bytes of an object
    compile.to_ir(programs)               the same as far as LLVM IR
    hostfn.to_host_ir(functions)          plain functions of numbers, for this machine's own processor

Imported only where the cache misses; what a module is written with is `skep.bpf`. `source` finds
functions in files, `namespace` resolves names and annotations, `layout` lays types out in memory; `walk` with
`stmts`, `exprs`, `tests`, `loops`, `calls` and `maps`, interprets a function over types and intervals and
emits IR as it goes (`values` says what a kind of value can do); `contexts*`, `core*`, `helpers*` and `kfuncs`
are the kernel's side; `debug` describes types and lines to the kernel, `unit` puts a module together, and
`skep.llvm.bpf` has LLVM make the object in a child process. docs/language.md is the reference.
"""
