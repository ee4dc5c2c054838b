"""LLVM itself: IR text in, an object out. Imported only where llvmlite may be loaded.

Also the child process: ``python -I -S backend.py LLVMLITE_HOME LEVEL`` reads IR from standard input
and writes the object to standard output; it exits with status 3 and one line on standard error when
LLVM refuses the text. This file imports nothing of skep, so that the child starts fast.
"""

from __future__ import annotations

import contextlib
import functools
import sys

TYPE_CHECKING = False  # typing itself costs the child several milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_START = ("always_inliner", "sroa", "simplify_cfg")

#: The levels that are not LLVM's own, as passes. O1's loop and call-graph passes cost three times as
#: much as all of "basic", and find little in code without vectorisable loops and calls; the combiner's
#: cost grows faster than a block, so "large" does without it. Only passes that LLVM's own pipelines use:
#: new_gvn, for one, fails an assertion on some loops with several entries, and ends the process.
PASSES = {
    "least": _START,
    "quick": (*_START, "instruction_combine", "simplify_cfg"),
    "large": _START,
    "flat": ("always_inliner", "sroa", "instruction_combine", "simplify_cfg"),
    "basic": ("always_inliner", "sroa", "instruction_combine", "loop_rotate", "simplify_cfg"),
}
#: Passes that have nothing to do in a module without such a word.
_NEEDS = {"always_inliner": "alwaysinline", "sroa": " alloca "}
#: Optimisation level of the code generator: 0 keeps registers in memory, but is linear.
CODEGEN = {"least": 0, "quick": 1, "large": 2, "flat": 2, "basic": 2, "O1": 2, "O2": 2}


class Refused(Exception):
    """LLVM does not accept the module; the text is LLVM's own."""


class Backend:
    """A target machine for this processor, and the pass pipelines of the levels.

    llvmlite serialises calls into LLVM with one lock, so a Backend may be shared by threads.
    """

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self._llvm: Any = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._triple: str = llvm.get_default_triple()
        self._target = llvm.Target.from_triple(self._triple)
        self._cpu: str = llvm.get_host_cpu_name()
        self._features: str = llvm.get_host_cpu_features().flatten()
        self._machines: dict[int, Any] = {}

    def compile(self, ir: str, level: str) -> bytes:
        """The object of the module ``ir`` (PIC, small code model), optimised at ``level``."""
        llvm = self._llvm
        try:
            module = llvm.parse_assembly(ir)
            module.verify()
        except RuntimeError as error:
            raise Refused(" ".join(str(error).split())) from None
        machine = self._machine(CODEGEN[level])
        module.triple = self._triple
        module.data_layout = str(machine.target_data)
        options = llvm.create_pipeline_tuning_options(speed_level=2 if level == "O2" else 1)
        options.loop_vectorization = True
        options.slp_vectorization = level == "O2"
        # Whoever made the bytecode has unrolled what is worth it; the vectoriser's remainders are not.
        options.loop_unrolling = level == "O2"
        builder = llvm.create_pass_builder(machine, options)
        passes = PASSES.get(level)
        if passes is None:
            manager = builder.getModulePassManager()
        else:
            manager = llvm.create_new_module_pass_manager()
            for name in passes:
                if _NEEDS.get(name, "") in ir:
                    getattr(manager, f"add_{name}_pass")()
        manager.run(module, builder)
        with self._tuned() if level != "O2" else contextlib.nullcontext():
            code: bytes = machine.emit_object(module)
        return code

    @contextlib.contextmanager
    def _tuned(self) -> Iterator[None]:
        """Without the pass that reduces the strength of loops: a quarter of the time, and nothing is won.

        The option is LLVM's for the whole process, so it is set back, and nobody else may use LLVM meanwhile.
        (Most options cannot be set back: having been given at all counts, whatever the value.)
        """
        lock = getattr(self._llvm.ffi.lib, "_lock", None)
        if lock is None:
            yield
            return
        with lock:
            self._llvm.set_option("skep", "-disable-lsr=true")
            try:
                yield
            finally:
                self._llvm.set_option("skep", "-disable-lsr=false")

    def _machine(self, codegen: int) -> Any:
        """The target machine for an optimisation level of the code generator, made once."""
        machine = self._machines.get(codegen)
        if machine is None:
            machine = self._machines[codegen] = self._target.create_target_machine(
                cpu=self._cpu, features=self._features, opt=codegen, reloc="pic", codemodel="small"
            )
        return machine


@functools.cache
def shared() -> Backend:
    """This process's Backend, made on first use."""
    return Backend()


def _child(home: str, level: str) -> int:
    sys.path.append(home)
    import os
    import resource

    # A crash of LLVM is reported by our parent; it must not also leave a core file behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Loading LLVM comes first: an early child (skep.llvm.early) does it while the text is being made.
    backend = Backend()
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not text:
        os._exit(0)
    first = text.partition("\n")[0]
    if first.startswith("; level "):
        level = first[8:]  # an early child learns its level with the text
    try:
        code = backend.compile(text, level)
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return 3
    view = memoryview(code)
    while view:
        view = view[os.write(1, view) :]
    sys.stdout.flush()
    # Skip the interpreter's tear-down of LLVM's objects.
    os._exit(0)


if __name__ == "__main__":
    # The standard library needs no site; only llvmlite's home is added to the path.
    sys.path[:] = [entry for entry in sys.path if entry != sys.path[0]] if sys.path else []
    sys.exit(_child(sys.argv[1], sys.argv[2]))
