"""The process that compiles one module for BPF: ``python -I -S bpf_child.py LLVMLITE_HOME``.

It loads LLVM, then reads a line ``cpu kind`` and IR text from standard input, and writes what ``kind``
names ("obj", "asm" or "ir" after optimisation) to standard output. One module per process: LLVM's CO-RE
passes keep state that a second module would find. It exits with status 3 and LLVM's words on standard error
when LLVM refuses the text. This file imports nothing of skep, so that it starts fast.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing itself costs the child several milliseconds
if TYPE_CHECKING:
    from typing import Any


def _compile(llvm: Any, cpu: str, kind: str, text: str) -> bytes:
    target = llvm.Target.from_triple("bpf")
    if "@llvm.bpf.passthrough" in text:
        # Offsets of contexts are relocated: one that LLVM chose between two would be no constant any more.
        llvm.set_option("skep", "-enable-load-pre=0")
    machine = target.create_target_machine(cpu=cpu, opt=2, reloc="default", codemodel="default")
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    # A loop that is a loop in the source stays one; vectors do not exist here.
    options.loop_vectorization = False
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    # LLVM aborts on the CO-RE intrinsics unless the target's passes have run.
    builder.getModulePassManager().run(module, builder)
    if kind == "ir":
        return str(module).encode()
    if kind == "asm":
        return str(machine.emit_assembly(module)).encode()
    code: bytes = machine.emit_object(module)
    return code


def _main(home: str) -> int:
    sys.path.append(home)
    import os
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not text:
        os._exit(0)  # the parent had an error to report instead
    order, _, ir = text.partition("\n")
    cpu, kind = order.split()
    try:
        made = _compile(llvm, cpu, kind, ir)
    except RuntimeError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 3
    view = memoryview(made)
    while view:
        view = view[os.write(1, view) :]
    os._exit(0)


if __name__ == "__main__":
    sys.path[:] = [entry for entry in sys.path if entry != sys.path[0]] if sys.path else []
    sys.exit(_main(sys.argv[1]))
