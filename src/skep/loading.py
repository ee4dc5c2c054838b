"""`skep.load`: an object file, or a spec, into a kernel."""

from __future__ import annotations

import os

from skep.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.kernel.object import Object
    from skep.kernel.protocol import Kernel
    from skep.obj.spec import ObjectSpec


def load(
    source: str | os.PathLike[str] | ObjectSpec, *, kernel: str | Kernel = "auto", **options: Any
) -> Object:
    """Load a BPF object: create its maps, load its programs, attach nothing yet.

        with skep.load("opensnoop.bpf.o", variables={"only_pid": 1}) as obj:
            obj.attach()
            for event in obj.reader("events", "event"):
                print(event.pid, event.comm)

    Args:
        source: the path of an object file, or what `skep.obj.read` gave (changed as you like).
        kernel: "auto" and "linux" are the running kernel; or any `Kernel`.
        options: those of `skep.kernel.loader.Loader`: programs, variables, max_entries, reuse, targets,
            pin_root, kconfig, types, log_level.

    Returns the object; closing it (or the end of a ``with`` block) detaches and closes everything.

    Raises:
        FormatError, LinkError: the object is damaged, or refers to what there is not.
        VerifierError: a program is refused; CoreReloError when because of a type that the kernel lacks.
        NotSupported: the kernel lacks a feature; `since` says which has it.
        PermissionDenied, MapIncompatible, KernelError: as they say. Nothing is left open or pinned.
    """
    from skep.kernel.loader import Loader

    if isinstance(kernel, str):
        kernel = open_kernel(kernel)
    if isinstance(source, (str, os.PathLike)):
        from skep.obj import read

        source = read(source)
    return Loader(kernel, source, **options).load()


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
        try:  # noqa: SIM105
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
        except (OSError, ValueError):
            pass  # the kernel will say if it is not enough
    return kernel
