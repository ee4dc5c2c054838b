"""Classic BPF: opcodes, the 8-byte instruction, and Linux's ancillary loads.

Source: McCanne and Jacobson 1993; <linux/filter.h>, Documentation/networking/filter.rst.
"""

from __future__ import annotations

import struct

from skep.errors import DecodeError
from skep.isa.ebpf import ByteOrder
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final


# Classes.
BPF_LD: Final = 0x00
BPF_LDX: Final = 0x01
BPF_ST: Final = 0x02
BPF_STX: Final = 0x03
BPF_ALU: Final = 0x04
BPF_JMP: Final = 0x05
BPF_RET: Final = 0x06
BPF_MISC: Final = 0x07

# Load sizes and modes.
BPF_W: Final = 0x00
BPF_H: Final = 0x08
BPF_B: Final = 0x10
BPF_IMM: Final = 0x00
BPF_ABS: Final = 0x20
BPF_IND: Final = 0x40
BPF_MEM: Final = 0x60
BPF_LEN: Final = 0x80
BPF_MSH: Final = 0xA0

# Arithmetic and jumps.
BPF_ADD: Final = 0x00
BPF_SUB: Final = 0x10
BPF_MUL: Final = 0x20
BPF_DIV: Final = 0x30
BPF_OR: Final = 0x40
BPF_AND: Final = 0x50
BPF_LSH: Final = 0x60
BPF_RSH: Final = 0x70
BPF_NEG: Final = 0x80
BPF_MOD: Final = 0x90
BPF_XOR: Final = 0xA0
BPF_JA: Final = 0x00
BPF_JEQ: Final = 0x10
BPF_JGT: Final = 0x20
BPF_JGE: Final = 0x30
BPF_JSET: Final = 0x40
BPF_K: Final = 0x00
BPF_X: Final = 0x08
BPF_A: Final = 0x10

BPF_TAX: Final = 0x00
BPF_TXA: Final = 0x80

BPF_MEMWORDS: Final = 16
BPF_MAXINSNS: Final = 4096

# Linux: an absolute load at SKF_AD_OFF + n reads a property of the packet, not the packet.
SKF_AD_OFF: Final = -0x1000
SKF_AD_PROTOCOL: Final = 0
SKF_AD_PKTTYPE: Final = 4
SKF_AD_IFINDEX: Final = 8
SKF_AD_NLATTR: Final = 12
SKF_AD_NLATTR_NEST: Final = 16
SKF_AD_MARK: Final = 20
SKF_AD_QUEUE: Final = 24
SKF_AD_HATYPE: Final = 28
SKF_AD_RXHASH: Final = 32
SKF_AD_CPU: Final = 36
SKF_AD_ALU_XOR_X: Final = 40
SKF_AD_VLAN_TAG: Final = 44
SKF_AD_VLAN_TAG_PRESENT: Final = 48
SKF_AD_PAY_OFFSET: Final = 52
SKF_AD_RANDOM: Final = 56
SKF_AD_VLAN_TPID: Final = 60
SKF_AD_MAX: Final = 64
SKF_NET_OFF: Final = -0x100000
SKF_LL_OFF: Final = -0x200000

_LITTLE = struct.Struct("<HBBI")
_BIG = struct.Struct(">HBBI")


class ClassicInsn(NamedTuple):
    """struct sock_filter: 16-bit code, 8-bit forward jumps when true and false, unsigned 32-bit k."""

    code: int
    jt: int = 0
    jf: int = 0
    k: int = 0


def decode(code: bytes | bytearray | memoryview, byteorder: ByteOrder = "little") -> list[ClassicInsn]:
    """Instructions of ``code``.

    Raises:
        DecodeError: the length is not a multiple of eight.
    """
    if len(code) % 8:
        raise DecodeError(
            f"a classic program is a multiple of 8 bytes long, this one has {len(code)}",
            offset=len(code) - len(code) % 8,
        )
    form = _LITTLE if byteorder == "little" else _BIG
    return [ClassicInsn(*fields) for fields in form.iter_unpack(code)]


def encode(insns: Iterable[ClassicInsn], byteorder: ByteOrder = "little") -> bytes:
    """Bytes of the instructions (an array of struct sock_filter).

    Raises:
        DecodeError: a field does not fit its bits.
    """
    form = _LITTLE if byteorder == "little" else _BIG
    out = bytearray()
    try:
        for insn in insns:
            out += form.pack(*insn)
    except struct.error as error:
        raise DecodeError(f"a field does not fit its bits: {error}", offset=len(out)) from None
    return bytes(out)
