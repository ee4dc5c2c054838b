"""Interpreters: programs run, and stepped, without a kernel. docs/machine.md is the contract."""

from skep.vm.machine import DEFAULT_BUDGET, Frame, Helper, Machine, Step, run

__all__ = ["DEFAULT_BUDGET", "Frame", "Helper", "Machine", "Step", "run"]
