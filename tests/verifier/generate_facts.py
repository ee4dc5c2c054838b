"""What generated programs are made of: program types, maps, kinds of registers, numbers."""

from __future__ import annotations

from typing import NamedTuple

from skep.isa import opcodes as op
from skep.obj import MapSpec
from skep.uapi.enums import AttachType, MapType, ProgType

X = op.BPF_X
MOV64 = op.BPF_ALU64 | op.BPF_MOV
SIZES = {1: op.BPF_B, 2: op.BPF_H, 4: op.BPF_W, 8: op.BPF_DW}
EDGES = (
    0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 48, 63, 64, 127, 255, 256, -1, -2, -8, -16, 0x7FFF, 0xFFFF,
    0x7FFFFFFF, -0x80000000, 0x10000,
)  # fmt: skip
ALU = (
    op.BPF_ADD, op.BPF_SUB, op.BPF_MUL, op.BPF_DIV, op.BPF_OR, op.BPF_AND, op.BPF_LSH, op.BPF_RSH,
    op.BPF_MOD, op.BPF_XOR, op.BPF_MOV, op.BPF_ARSH,
)  # fmt: skip
COMPARE = (
    op.BPF_JEQ, op.BPF_JGT, op.BPF_JGE, op.BPF_JSET, op.BPF_JNE, op.BPF_JSGT, op.BPF_JSGE,
    op.BPF_JLT, op.BPF_JLE, op.BPF_JSLT, op.BPF_JSLE,
)  # fmt: skip

ARRAY, HASH, PERCPU, RODATA, RING, EVENTS, QUEUE, PROGS, SMALL = range(9)
_RO = bytes(range(1, 17))
MAPS = (
    MapSpec("array", MapType.ARRAY, 4, 48, 2),
    MapSpec("hash", MapType.HASH, 8, 16, 4),
    MapSpec("percpu", MapType.PERCPU_ARRAY, 4, 24, 2),
    MapSpec("ro", MapType.ARRAY, 4, 16, 1, 1 << 7, data=bytearray(_RO), section=".rodata"),
    MapSpec("ring", MapType.RINGBUF, 0, 0, 4096),
    MapSpec("events", MapType.PERF_EVENT_ARRAY, 4, 4, 4),
    MapSpec("queue", MapType.QUEUE, 0, 8, 4),
    MapSpec("progs", MapType.PROG_ARRAY, 4, 4, 4),
    MapSpec("small", MapType.ARRAY, 4, 8, 1),
)


class Setting(NamedTuple):
    """A program type: context fields that are numbers, (data, data_end), whether packets are written."""

    prog_type: ProgType
    attach_type: AttachType | None
    fields: tuple[tuple[int, int], ...]
    writable: tuple[tuple[int, int], ...]
    packet: tuple[int, int] | None
    packet_write: bool
    returns: tuple[int, int] | None
    tracing: bool


_SKB = ((0, 4), (4, 4), (8, 4), (16, 4), (32, 4), (40, 4))
SETTINGS = (
    Setting(ProgType.SOCKET_FILTER, None, _SKB, ((48, 4), (56, 8)), None, False, None, False),
    Setting(ProgType.SCHED_CLS, None, _SKB, ((8, 4), (32, 4), (48, 8), (64, 4)), (76, 80), True, None, False),
    Setting(ProgType.XDP, None, ((12, 4), (16, 4)), (), (0, 4), True, None, False),
    Setting(
        ProgType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS, _SKB, ((8, 4), (48, 8)), (76, 80), False, (0, 1),
        False,
    ),
    Setting(ProgType.KPROBE, None, ((0, 8), (112, 8), (96, 8)), (), None, False, None, True),
    Setting(ProgType.RAW_TRACEPOINT, None, ((0, 8), (8, 8), (16, 4)), (), None, False, None, True),
)  # fmt: skip


class Kind(NamedTuple):
    """What a register holds. ``a`` and ``b``: bounds of a number, the map and offset of a value, offset and
    tested bytes of a packet pointer, an offset of the stack, the size of a record."""

    name: str
    a: int = 0
    b: int = 0


NOTHING = Kind("nothing")
NUMBER = Kind("number", -(1 << 63), (1 << 63) - 1)
CTX = Kind("ctx")
FP = Kind("fp")


def number(low: int, high: int) -> Kind:
    return Kind("number", low, high)


def meet(a: Kind, b: Kind) -> Kind:
    if a == b:
        return a
    if a.name == b.name == "number":
        return number(min(a.a, b.a), max(a.b, b.b))
    if a.name == b.name == "packet" and a.a == b.a:
        return Kind("packet", a.a, min(a.b, b.b))
    return NOTHING
