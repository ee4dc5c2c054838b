"""ELF relocations of x86-64 and aarch64 code, as far as LLVM's small position-independent code has them.

Sources: System V ABI, AMD64 supplement, table 4.9; ELF for the Arm 64-bit Architecture, section 5.7.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see skep.llvm.native
if TYPE_CHECKING:
    from typing import Final

EM_X86_64: Final = 62
EM_AARCH64: Final = 183

#: os.uname().machine -> e_machine
MACHINES: Final = {"x86_64": EM_X86_64, "aarch64": EM_AARCH64}

_MASK: Final = (1 << 64) - 1

# relocation type -> (width in bytes, relative to the place)
_X86: Final = {
    1: (8, False),  # R_X86_64_64
    2: (4, True),  # R_X86_64_PC32
    4: (4, True),  # R_X86_64_PLT32
    24: (8, True),  # R_X86_64_PC64
}
_ARM_DATA: Final = {
    257: (8, False),  # R_AARCH64_ABS64
    260: (8, True),  # R_AARCH64_PREL64
    261: (4, True),  # R_AARCH64_PREL32
}
# Low twelve bits of an address in an instruction, scaled by the access size: type -> shift
_ARM_LO12: Final = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}
_ARM_BRANCH: Final = frozenset((282, 283))  # JUMP26, CALL26
_ARM_PAGE: Final = frozenset((275, 276))  # ADR_PREL_PG_HI21(_NC)


def relocate(
    machine: int, kind: int, image: bytearray, place: int, room: int, offset: int, base: int, value: int
) -> str | None:
    """Patch one field of ``image``; None, or what is wrong with the relocation.

    The field is ``offset`` bytes into the section at ``place``, which is ``room`` bytes long; the image
    will run at address ``base``; ``value`` is symbol plus addend, an address.
    """
    table = _X86 if machine == EM_X86_64 else _ARM_DATA
    data = table.get(kind)
    width = data[0] if data else 4
    if offset > room or width > room - offset:
        return "a relocation is outside its section"
    at = place + offset
    here = base + at
    if data is not None:
        if data[1]:
            value -= here
        if width == 4:
            if not -(1 << 31) <= value < 1 << 31:
                return "a relocation does not reach its target"
            value &= 0xFFFFFFFF
        image[at : at + width] = (value & _MASK).to_bytes(width, "little")
        return None
    if machine == EM_AARCH64:
        return _arm(kind, image, at, here, value)
    return f"relocation type {kind} is not known"


def _arm(kind: int, image: bytearray, at: int, here: int, value: int) -> str | None:
    word = int.from_bytes(image[at : at + 4], "little")
    if kind in _ARM_BRANCH:
        delta = value - here
        if delta & 3 or not -(1 << 27) <= delta < 1 << 27:
            return "a branch does not reach its target"
        word = word & ~0x3FFFFFF | delta >> 2 & 0x3FFFFFF
    elif kind in _ARM_PAGE:
        pages = (value >> 12) - (here >> 12)
        if not -(1 << 20) <= pages < 1 << 20:
            return "a relocation does not reach its target"
        word = word & ~0x60FFFFE0 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    elif kind in _ARM_LO12:
        shift = _ARM_LO12[kind]
        if value & (1 << shift) - 1:
            return "a relocation's target is not aligned"
        word = word & ~(0xFFF << 10) | (value & 0xFFF) >> shift << 10
    else:
        return f"relocation type {kind} is not known"
    image[at : at + 4] = word.to_bytes(4, "little")
    return None


def stub(machine: int, address: int) -> bytes:
    """Sixteen bytes of code that jump to ``address``, wherever it is."""
    if machine == EM_X86_64:
        return b"\xff\x25\x00\x00\x00\x00" + address.to_bytes(8, "little") + b"\xcc\xcc"
    return b"\x50\x00\x00\x58\x00\x02\x1f\xd6" + address.to_bytes(8, "little")


#: Code that calls a function of five arguments from one: the argument is the address of six words, the
#: arguments and then the function's own address.
SPREAD: Final = {
    EM_X86_64: bytes.fromhex("488b4728 488b7708 488b5710 488b4f18 4c8b4720 488b3f ffe0"),
    EM_AARCH64: bytes.fromhex("091440f9 039041a9 018840a9 000040f9 20011fd6"),
}
