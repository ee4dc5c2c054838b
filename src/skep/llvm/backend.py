"""LLVM itself: IR text in, an object out. Imported only where llvmlite may be loaded.

Also the child process: ``python -I -S backend.py LLVMLITE_HOME LEVEL`` reads IR from standard input
and writes the object to standard output; it exits with status 3 and one line on standard error when
LLVM refuses the text. This file imports nothing of skep, so that the child starts fast.
"""

from __future__ import annotations

import functools
import sys
from typing import Any


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

    def compile(self, ir: str, level: str) -> bytes:
        """The object of the module ``ir`` (PIC, small code model), optimised at ``level``."""
        llvm = self._llvm
        machine = self._target.create_target_machine(
            cpu=self._cpu,
            features=self._features,
            opt={"quick": 1, "straight": 1, "O1": 2, "O2": 2}[level],
            reloc="pic",
            codemodel="small",
        )
        try:
            module = llvm.parse_assembly(ir)
            module.verify()
        except RuntimeError as error:
            raise Refused(" ".join(str(error).split())) from None
        module.triple = self._triple
        module.data_layout = str(machine.target_data)
        options = llvm.create_pipeline_tuning_options(speed_level=2 if level == "O2" else 1)
        options.loop_vectorization = True
        options.slp_vectorization = level == "O2"
        builder = llvm.create_pass_builder(machine, options)
        if level in ("O1", "O2"):
            manager = builder.getModulePassManager()
        else:
            manager = llvm.create_new_module_pass_manager()
            if level == "quick":
                manager.add_sroa_pass()
                manager.add_instruction_combine_pass()
                manager.add_simplify_cfg_pass()
            else:
                # Code without loops or calls: what O1 has for loops and call graphs finds nothing there.
                manager.add_sroa_pass()
                manager.add_simplify_cfg_pass()
                manager.add_instruction_combine_pass()
                manager.add_new_gvn_pass()
                manager.add_dead_store_elimination_pass()
                manager.add_simplify_cfg_pass()
        manager.run(module, builder)
        code: bytes = machine.emit_object(module)
        return code


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
