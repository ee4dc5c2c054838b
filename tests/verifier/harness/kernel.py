"""The running kernel's answer to a question."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from sys import byteorder
from typing import Any

from skep.errors import KernelError
from skep.isa import Insn, encode
from skep.isa import opcodes as op
from skep.kernel import mapload
from skep.linux.kernel import LinuxKernel
from skep.uapi.enums import AttachType, MapType, ProgType
from tests.verifier.harness.question import Answer, Question, answer_of

STATS = 4
FUNC = 12
_PREFIX = {
    AttachType.TRACE_RAW_TP: ("btf_trace_", 8),
    AttachType.LSM_MAC: ("bpf_lsm_", FUNC),
    AttachType.LSM_CGROUP: ("bpf_lsm_", FUNC),
    AttachType.TRACE_ITER: ("bpf_iter_", FUNC),
}
_WITH_TARGET = (ProgType.TRACING, ProgType.LSM)


@functools.cache
def kernel() -> LinuxKernel:
    return LinuxKernel()


@functools.cache
def kernel_types() -> Any:
    """The running kernel's BTF."""
    from skep.obj import CoreTarget

    return CoreTarget.kernel().btf


@functools.cache
def kernel_id(name: str, kind: int = FUNC) -> int:
    """The id of a function (or a typedef, kind 8; a struct, 4) in the kernel's BTF; 0 where there is none."""
    return kernel_types().find(name, kind) or 0


class Lab:
    """A kernel with the maps of questions, kept while questions ask for the same ones."""

    def __init__(self) -> None:
        self.kernel = kernel()
        self._maps: dict[tuple[object, ...], int] = {}
        self._btf: dict[bytes, int] = {}

    def close(self) -> None:
        for fd in (*self._maps.values(), *self._btf.values()):
            os.close(fd)
        self._maps.clear()
        self._btf.clear()

    def _btf_fd(self, data: bytes) -> int:
        fd = self._btf.get(data)
        if fd is None:
            from skep.kernel import btfload

            fd = self._btf[data] = btfload.load(self.kernel, data)
        return fd

    def _map(self, question: Question, index: int) -> int:
        spec = question.maps[index]
        data = question.types.data if question.types is not None else b""
        key = _map_key(spec, data)
        fd = self._maps.get(key)
        if fd is None:
            btf = self._btf_fd(data) if data and _typed(spec) else -1
            fd = mapload.create(self.kernel, spec, btf)
            self._maps[key] = fd
            if spec.data is not None:
                self.kernel.map_update_elem(fd, bytes(4), bytes(spec.data))
                if spec.section.startswith(".rodata"):
                    self.kernel.map_freeze(fd)
            if spec.type in (MapType.SOCKMAP, MapType.SOCKHASH):
                return fd
        return fd

    def code(self, question: Question) -> bytes:
        """The instructions with this kernel's descriptors and ids."""
        out: list[Insn] = []
        kfuncs = dict(question.kfuncs)
        for pc, insn in enumerate(question.insns):
            if insn.opcode == op.LD_IMM64 and insn.src in (1, 2) and 0 <= insn.imm < len(question.maps):
                insn = insn._replace(imm=self._map(question, insn.imm))
            elif pc in kfuncs:
                insn = insn._replace(imm=kernel_id(kfuncs[pc]))
            out.append(insn)
        return encode(out, "little" if byteorder == "little" else "big")

    def ask(self, question: Question, *, log_level: int = STATS) -> Answer:
        """The verdict. ``log_level`` 2 adds states, 1 the path; statistics always come along."""
        attr: dict[str, Any] = {}
        if question.types is not None and question.functions:
            import struct

            rows = [n for start, name in question.functions for n in (start, question.types.functions[name])]
            attr |= {
                "prog_btf_fd": self._btf_fd(question.types.data),
                "func_info": struct.pack(f"={len(rows)}I", *rows),
                "func_info_rec_size": 8,
            }
        elif question.types is not None:
            attr["prog_btf_fd"] = self._btf_fd(question.types.data)
        if question.attach_to and question.prog_type in _WITH_TARGET:
            prefix, kind = _PREFIX.get(question.attach_type or AttachType.TRACE_FENTRY, ("", FUNC))
            attr["attach_btf_id"] = kernel_id(prefix + question.attach_to, kind)
        try:
            fd, log = self.kernel.prog_load(
                question.prog_type,
                self.code(question),
                question.license,
                expected_attach_type=int(question.attach_type or 0),
                prog_flags=question.flags,
                log_level=log_level | STATS,
                **attr,
            )
        except KernelError as error:
            if error.errno == errno.EPERM and not error.log:
                raise
            return answer_of(False, error.errno or 0, error.log)
        os.close(fd)
        return answer_of(True, 0, log)


def _typed(spec: Any) -> bool:
    return bool(spec.key_type_id or spec.value_type_id)


def _map_key(spec: Any, types: bytes) -> tuple[object, ...]:
    inner = _map_key(spec.inner, types) if spec.inner is not None else None
    return (
        spec.name, int(spec.type), spec.key_size, spec.value_size, spec.max_entries, spec.flags, spec.extra,
        spec.key_type_id, spec.value_type_id, inner, bytes(spec.data) if spec.data is not None else None,
        spec.section, types if _typed(spec) else b"",
    )  # fmt: skip


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A laboratory, closed at the end."""
    made = Lab()
    try:
        yield made
    finally:
        made.close()
