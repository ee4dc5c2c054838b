"""eBPF to native code: every instruction, with run-time bounds checks and an instruction budget.

    program = compile(insns)
    program.run(bytearray(64))

`lower` gives the LLVM IR alone, to embed a program in a larger module. docs/machine.md is the contract.
"""

from skep.jit.program import DEFAULT_BUDGET, NativeProgram, compile

__all__ = ["DEFAULT_BUDGET", "NativeProgram", "compile"]
