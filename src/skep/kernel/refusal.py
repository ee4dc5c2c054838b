"""Why a kernel refused: what it lacks, or what its verifier found."""

from __future__ import annotations

import errno
import re

from skep.errors import KernelError, NotSupported, SkepError, UnresolvedSymbol, VerifierError
from skep.kernel import probes
from skep.kernel.externs import POISON_CALL
from skep.kernel.protocol import Kernel
from skep.uapi.enums import SINCE, MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.obj import LinkedProgram
    from skep.obj.spec import MapSpec

#: types whose max_entries are 0, or filled in
_UNSIZED: Final = frozenset(
    (
        MapType.CGROUP_STORAGE,
        MapType.PERCPU_CGROUP_STORAGE,
        MapType.CGRP_STORAGE,
        MapType.SK_STORAGE,
        MapType.INODE_STORAGE,
        MapType.TASK_STORAGE,
        MapType.PERF_EVENT_ARRAY,
        MapType.CPUMAP,
        MapType.STRUCT_OPS,
    )
)
_ARRAYS: Final = frozenset(
    (MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.PROG_ARRAY, MapType.ARRAY_OF_MAPS, MapType.CGROUP_ARRAY)
)
_HASHES: Final = frozenset(
    (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH, MapType.LPM_TRIE)
)
_POISON: Final = "195896080"
_LAST_INSN: Final = re.compile(r"^(?:from \d+ to )?(\d+): \([0-9a-f]{2}\)", re.M)
#: what older verifiers say of instructions that they do not know
_UNKNOWN: Final = (
    "unknown opcode",
    "uses reserved fields",
    "unrecognized bpf_ld_imm64 insn",
    "number of funcs in func_info doesn't match",
    "uses invalid atomic o",  # operand, opcode
)
_LD_IMM64: Final = 0x18
_PSEUDO_FUNC: Final = 4
_HELPER: Final = re.compile(r"(?:unknown func|invalid func|cannot use helper) ([a-z0-9_]+)#(\d+)")


def of_map(kernel: Kernel, spec: MapSpec, error: KernelError) -> SkepError:
    """The error for a map that could not be created."""
    kind = spec.type
    early = error.errno in (errno.EINVAL, errno.EOPNOTSUPP, 524)
    if (
        isinstance(kind, MapType)
        and early
        and not probes.known_since(kernel, kind.c_name)
        and not probes.map_type(kernel, kind)
    ):
        return NotSupported(
            error.errno or 0, f"map {spec.name}: {kind.c_name}", since=SINCE.get(kind.c_name), cmd=error.cmd
        )
    name = kind.name.lower() if isinstance(kind, MapType) else f"type {kind}"
    shape = f"{name}, key {spec.key_size}, value {spec.value_size}, max_entries {spec.max_entries}"
    if spec.flags:
        shape += f", flags {spec.flags:#x}"
    error.reason = f"map {spec.name} ({shape}): {error.reason}"
    if error.errno == errno.EINVAL and not spec.max_entries and kind not in _UNSIZED:
        error.reason += f": its size is left to the loader: max_entries={{{spec.name!r}: …}}"
    elif error.errno == errno.EINVAL and kind in _ARRAYS and spec.key_size != 4:
        error.reason += ": its keys are indexes of 4 bytes"
    elif error.errno == errno.EINVAL and kind in _ARRAYS | _HASHES and not spec.value_size:
        error.reason += ": its values have no bytes"
    if error.errno == errno.E2BIG:
        error.reason += ": larger than this kernel allows such a map to be"
    return error


def of_program(kernel: Kernel, linked: LinkedProgram, error: KernelError) -> SkepError:
    """The error for a program that could not be loaded."""
    spec, log = linked.spec, error.log
    kind = spec.type
    early = not log or "processed 0 insns" in log
    if early and error.errno in (errno.EINVAL, errno.EOPNOTSUPP) and not probes.prog_type(kernel, kind):
        names = [kind.c_name, *([spec.attach_type.c_name] if spec.attach_type is not None else [])]
        for name in names:
            if not probes.known_since(kernel, name):
                return NotSupported(
                    error.errno or 0, f"program {spec.name}: {name}", since=SINCE.get(name), cmd=error.cmd
                )
        what = f"program {spec.name}: {kind.c_name}, which this kernel was built without,"
        return NotSupported(error.errno or 0, what, cmd=error.cmd)
    if _POISON in log and linked.failed_relos:
        where = spec.name
        pcs = [int(found) for found in _LAST_INSN.findall(log)]
        last = pcs[-1] if pcs else -1
        failed = next((f for f in linked.failed_relos if f.pc == last), linked.failed_relos[0])
        made: SkepError = failed.error(where)
        made.__cause__ = error
        return made
    found = _HELPER.search(log)
    if found and int(found[2]) >= POISON_CALL:
        names = list(linked.object.externs)
        number = int(found[2]) - POISON_CALL
        if number < len(names):
            lacking = _weak(kernel, spec.name, names[number])
            lacking.__cause__ = error
            return lacking
    if found:
        since, name = _helper(int(found[2]), found[1])
        if since is not None and not _has(kernel, since):
            return NotSupported(error.errno or 0, f"program {spec.name}: {name}", since=since, cmd=error.cmd)
    if any(words in log for words in _UNKNOWN) and (lacks := _instruction(kernel, linked)) is not None:
        what, since = lacks
        return NotSupported(error.errno or 0, f"program {spec.name}: {what}", since=since, cmd=error.cmd)
    if error.errno in (errno.EPERM, errno.ENOSYS, errno.ENOMEM) or not log.strip():
        error.reason = f"program {spec.name}: {error.reason}"
        return error
    return _verifier(spec.name, error)


def _weak(kernel: Kernel, program: str, name: str) -> SkepError:
    """The error for a reachable call of a weak kernel function that is not there."""
    from skep.uapi.kfuncs import first

    since = first(name.split("___")[0])
    if since is not None and not _has(kernel, since):
        return NotSupported(errno.EINVAL, f"program {program}: kernel function {name}", since=since)
    return UnresolvedSymbol(f"program {program} calls {name!r}, a function that this kernel lacks")


def _instruction(kernel: Kernel, linked: LinkedProgram) -> tuple[str, str] | None:
    """The first instruction that this kernel is too old for, in words, and the first Linux with it."""
    from skep.asm.linux import text
    from skep.isa import facts
    from skep.isa.ebpf import decode

    insns = list(decode(bytes(linked.code)))
    rest = iter(range(len(insns)))
    for pc in rest:
        insn = insns[pc]
        since = facts.since(insn)
        if since is not None and kernel.version < since:
            if insn.opcode == _LD_IMM64 and insn.src == _PSEUDO_FUNC:
                what = "functions as callbacks"
            else:
                mnemonic = text(insns, pc).partition(") ")[2]
                version = facts.version(insn)
                what = f"the instruction `{mnemonic}`{f' of -mcpu=v{version}' if version > 3 else ''}"
            return what, f"{since[0]}.{since[1]}"
        if insn.opcode == _LD_IMM64:
            next(rest, None)
    return None


def _helper(number: int, name: str) -> tuple[str | None, str]:
    """The first Linux with a helper, and the helper's name, which older kernels do not know."""
    from skep.uapi.helpers import helpers

    known = helpers().get(number)
    if known is None:
        return None, name if name != "unknown" else f"helper {number}"
    return known.since, f"bpf_{known.name}"


def _has(kernel: Kernel, since: str) -> bool:
    major, _, minor = since.partition(".")
    return kernel.version >= (int(major), int(minor or 0))


def _verifier(name: str, error: KernelError) -> VerifierError:
    from skep.explain import explain

    told = error.reason.partition(": ")[2] or error.reason
    found = explain(error.log)
    place = found.location if found is not None else None
    made = VerifierError(
        f"program {name}: {told}",
        insn=found.pc if found is not None else None,
        source=place.text if place is not None else None,
        log=error.log,
        hint=found.summary() if found is not None else None,
        explanation=found,
    )
    made.__cause__ = error
    return made
