"""`skep.load`: an object file, a spec, or programs written in Python, into a kernel."""

from __future__ import annotations

import gc
import os

from skep.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    from skep.bpf.programs import Program
    from skep.kernel.object import Object
    from skep.kernel.protocol import Kernel
    from skep.obj.spec import ObjectSpec


def load(
    source: str | os.PathLike[str] | ObjectSpec | Program | ModuleType | Iterable[Program],
    *,
    kernel: str | Kernel = "auto",
    cpu: str = "v3",
    license: str | None = None,
    **options: Any,
) -> Object:
    """Load a BPF object: create its maps, load its programs, attach nothing yet.

        with skep.load("opensnoop.bpf.o", variables={"only_pid": 1}) as obj:
            obj.attach()
            for event in obj.reader("events", "event"):
                print(event.pid, event.comm)

    Args:
        source: the path of an object file, or what `skep.obj.read` gave (changed as you like); or a
            program written in Python, several of them, or the module that holds them.
        kernel: "auto" and "linux" are the running kernel; or any `Kernel`.
        cpu: for programs in Python, the instruction set: "v1" to "v4" (docs/language.md).
        license: for programs in Python, instead of the module's ``license`` (else "GPL").
        options: those of `skep.kernel.loader.Loader`: programs, variables, max_entries, reuse, targets,
            pin_root, kconfig, types, log_level, offload, device.

    Returns the object; closing it (or the end of a ``with`` block) detaches and closes everything.

    Raises:
        CompileError: a program in Python is outside the language.
        FormatError, LinkError: the object is damaged, or refers to what there is not.
        VerifierError: a program is refused; CoreReloError when because of a type that the kernel lacks.
        NotSupported: the kernel lacks a feature; `since` says which has it.
        PermissionDenied, MapIncompatible, KernelError: as they say. Nothing is left open or pinned.
    """
    # Nothing that comes up while loading is garbage, and looking for some would take a tenth of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        from skep.kernel.loader import Loader
        from skep.obj.spec import ObjectSpec

        if isinstance(source, ObjectSpec):
            spec = source
        elif isinstance(source, (str, os.PathLike)):
            from skep.obj.reader import read

            spec = read(source)
        else:
            spec = spec_of(programs_of(source), cpu=cpu, license=license)
        if isinstance(kernel, str):
            kernel = open_kernel(kernel)
        return Loader(kernel, spec, **options).load()
    finally:
        if collecting:
            gc.enable()


def programs_of(source: Any) -> list[Program]:
    """The programs of a module, or of what `load` takes for several. Raises CompileError for none."""
    from skep.bpf.programs import Program

    if isinstance(source, Program):
        return [source]
    if isinstance(source, type(os)):
        found = {id(obj): obj for obj in vars(source).values() if isinstance(obj, Program)}
        if found:
            return list(found.values())
    elif isinstance(source, (list, tuple, set, frozenset)):
        items = list(source)
        if items and all(isinstance(one, Program) for one in items):
            return items
    from skep.errors import CompileError

    what = getattr(source, "__name__", None) or repr(source)
    raise CompileError(f"{what} holds no BPF program", hint="decorate a function: @bpf.xdp")


def spec_of(
    programs: list[Program], *, cpu: str = "v3", license: str | None = None, name: str | None = None
) -> ObjectSpec:
    """The object of programs, read: like `build`, but the cache keeps it as read (`skep.obj.prepared`).

    ``name`` is the object's, by default that of the first program's file.

    Raises:
        CompileError, MissingDependency: as `build` does.
    """
    name = name or os.path.basename(programs[0].fn.__code__.co_filename).split(".", 1)[0]
    parts = _parts(programs, cpu, license)
    more: list[bytes] = []
    if parts:
        from skep.bpf.key import of_readers
        from skep.llvm import cache as store
        from skep.obj.prepared import thaw

        more = [of_readers(), os.fsencode(name)]
        kept = store.lookup("bpf-prepared", *parts, *more)
        spec = thaw(kept) if kept is not None else None
        if spec is not None:
            return spec
    made = _object(programs, parts, cpu, license)
    from skep.obj.reader import read

    spec = read(made, name=name)
    if parts:
        from skep.obj.prepared import freeze

        store.store("bpf-prepared", freeze(spec), *parts, *more)
    return spec


def build(
    source: Program | ModuleType | Iterable[Program],
    *,
    cpu: str = "v3",
    license: str | None = None,
    cache: bool = True,
    btf: str | None = None,
) -> bytes:
    """The object of programs written in Python: compiled once, then taken from the cache.

    The object is a standard one, for libbpf and bpftool as well. ``cache=False`` compiles in any case, and so
    does ``btf``: a file with the types of another kernel, for what the running one does not have.

    Raises:
        CompileError: something is outside the language; the error points at it.
        MissingDependency: it has to be compiled, and llvmlite is not installed.
    """
    programs = programs_of(source)
    if not cache or btf is not None:
        return _compiled(programs, cpu, license, btf)
    return _object(programs, _parts(programs, cpu, license), cpu, license)


def _parts(programs: list[Program], cpu: str, license: str | None) -> list[bytes]:
    """The parts of the key in the cache; none where nothing is cached."""
    from skep.llvm import cache as store

    if store.directory() is None:
        return []
    from skep.bpf.key import of_programs

    return of_programs(programs, cpu, license or "")


def _object(programs: list[Program], parts: list[bytes], cpu: str, license: str | None) -> bytes:
    """The object under the parts of its key, if any; else compiled, and kept there."""
    from skep.llvm import cache as store

    made = store.lookup("bpf-object", *parts) if parts else None
    if made is None:
        made = _compiled(programs, cpu, license, None)
        if parts:
            store.store("bpf-object", made, *parts)
    return made


def _compiled(programs: list[Program], cpu: str, license: str | None, btf: str | None) -> bytes:
    collecting = gc.isenabled()
    gc.enable()  # unlike a load, this makes garbage
    try:
        from skep.llvm.bpf import BpfCompiler

        with BpfCompiler() as compiler:  # LLVM loads while the compiler's own modules do
            from skep.lang.compile import compile_with

            return compile_with(compiler, programs, cpu=cpu, license=license, btf=btf)
    finally:
        if not collecting:
            gc.disable()


def open_kernel(name: str = "auto") -> Kernel:
    """The kernel of that name. Before Linux 5.11 this lifts the limit on locked memory where it may."""
    if name not in ("auto", "linux"):
        import errno

        raise NotSupported(errno.EOPNOTSUPP, f"kernel {name!r} (there are 'auto' and 'linux')")
    from skep.linux.kernel import LinuxKernel

    kernel = LinuxKernel()
    if kernel.version < (5, 11):
        import resource

        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        try:  # noqa: SIM105 - contextlib is 5 ms of a start
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
        except (OSError, ValueError):
            pass  # the kernel will say if it is not enough
    return kernel
