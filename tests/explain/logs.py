"""The logs that kernels printed about the programs of ``c/refused.bpf.c``, by kernel and program."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNELS = ("5.10", "6.1", "6.18", "7.3")

#: the family of each program; what a kernel words otherwise stands behind its version
FAMILIES: dict[str, dict[str, str]] = {
    "no_bounds": {"": "packet-bounds"},
    "short_bounds": {"": "packet-bounds"},
    "stale_packet": {"": "lost-pointer"},
    "lost_pointer": {"": "pointer-arithmetic"},
    "no_null_check": {"": "unchecked-null"},
    "unbounded_index": {"": "unbounded-index"},
    "bound_off_by_one": {"": "unbounded-index"},
    "variable_size": {"": "variable-length"},
    "uninitialised_register": {"": "uninitialised-register"},
    "wrong_argument": {"": "argument-type"},
    "past_stack": {"": "stack-bounds"},
    "context_write": {"": "context-access"},
    "context_beyond": {"": "context-access"},
    "helper_not_allowed": {"": "helper-not-allowed"},
    "endless": {"": "too-complex"},
    "too_complex": {"": "too-complex"},
    "leaked_socket": {"": "unreleased-reference"},
    "leaked_record": {"": "unreleased-reference"},
    "used_after_submit": {"": "lost-pointer"},
    "lock_held": {"": "lock-held"},
    "misaligned_stack": {"": "misaligned"},
    "oversized_value": {"": "unbounded-index"},
    "return_range": {"": "return-value"},
    "deep_stack": {"": "stack-depth"},
    # before 6.x the path on which the pointer is the stack's was refused for reading what nobody wrote
    "mixed_pointers": {"": "mixed-pointers", "5.10": "uninitialised-stack"},
    "pointer_arithmetic": {"": "pointer-arithmetic"},
    "unreachable": {"": "structure"},
    "write_rodata": {"": "read-only"},
    "raw_kernel_pointer": {"": "lost-pointer"},
}


def family(kernel: str, program: str) -> str:
    rows = FAMILIES[program]
    return rows.get(kernel, rows[""])


def read(kernel: str) -> dict[str, str]:
    """Program -> log."""
    found: dict[str, str] = {}
    text = (HERE / "logs" / f"linux-{kernel}.txt").read_text()
    for part in text.split("=== ")[1:]:
        name, _, log = part.partition("\n")
        found[name] = log
    return found
