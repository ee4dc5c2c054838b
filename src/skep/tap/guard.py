"""Reading a file through a mapping although somebody may truncate it meanwhile.

A page that the file has lost raises SIGBUS on its next touch. The handler here puts a page of zeros in
its place and lets the access go on; readers compare the file's size after each window and then read
what is left in the ordinary way. The handler is 60 bytes of machine code, because nothing else may run in a
signal handler that interrupts native code: it makes one system call.

Only for the process of a command, which owns its signals; a library reads with pread instead.
"""

from __future__ import annotations

import mmap
import os

from skep import foreign

_SIGBUS = 7
_SA_SIGINFO = 4

#: mmap(si_addr & -4096, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) when si_code is
#: BUS_ADRERR and the call answers that address; else an illegal instruction.
_X86_64 = bytes.fromhex(
    "837e0802"  # cmp dword [rsi+8], 2
    "7530"  # jne die
    "488b7e10"  # mov rdi, [rsi+16]
    "4881e700f0ffff"  # and rdi, -4096
    "be00100000"  # mov esi, 4096
    "ba01000000"  # mov edx, PROT_READ
    "41ba32000000"  # mov r10d, flags
    "49c7c0ffffffff"  # mov r8, -1
    "4531c9"  # xor r9d, r9d
    "b809000000"  # mov eax, SYS_mmap
    "0f05"  # syscall
    "4839f8"  # cmp rax, rdi
    "7501"  # jne die
    "c3"  # ret
    "0f0b"  # die: ud2
)


class _Action(foreign.Structure):
    """struct sigaction of the C libraries of 64-bit Linux."""

    _fields_ = (
        ("handler", foreign.Address),
        ("mask", foreign.Byte * 128),
        ("flags", foreign.Int),
        ("restorer", foreign.Address),
    )


class Guard:
    """The handler, installed while the object is open. ``active`` is False where there is none."""

    def __init__(self) -> None:
        self._code: mmap.mmap | None = None
        self._before = _Action()
        self.active = False
        if os.uname().machine != "x86_64" or mmap.PAGESIZE != 4096 or foreign.sizeof(foreign.Address) != 8:
            return
        try:
            fd = os.memfd_create("skep-guard", os.MFD_CLOEXEC)
            try:
                os.write(fd, _X86_64)
                os.ftruncate(fd, 4096)
                # Mapped through libc: Python's mmap gives no address of pages that cannot be written.
                number = foreign.Int
                map_ = foreign.library(
                    "mmap",
                    foreign.Address,
                    foreign.Address,
                    foreign.Size,
                    number,
                    number,
                    number,
                    foreign.Long,
                )
                address = map_(None, 4096, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, fd, 0)
            finally:
                os.close(fd)
        except OSError:
            return
        if address in (None, foreign.Address(-1).value):
            return
        self._address = address
        action = _Action(handler=address, flags=_SA_SIGINFO)
        self._act = foreign.library("sigaction", number, number, foreign.Address, foreign.Address)
        self._unmap = foreign.library("munmap", number, foreign.Address, foreign.Size)
        if self._act(_SIGBUS, foreign.byref(action), foreign.byref(self._before)):
            self._unmap(address, 4096)
            return
        self.active = True

    def close(self) -> None:
        """Put the former handler back."""
        if self.active:
            self.active = False
            self._act(_SIGBUS, foreign.byref(self._before), None)
            self._unmap(self._address, 4096)
