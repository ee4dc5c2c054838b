"""What arguments of calls want and what calls return: bases for the flags of `kinds`."""

from __future__ import annotations

from typing import Final

# what an argument wants
ARG_DONTCARE: Final = 0
ARG_CONST_MAP_PTR: Final = 1
ARG_PTR_TO_MAP_KEY: Final = 2
ARG_PTR_TO_MAP_VALUE: Final = 3
ARG_PTR_TO_MEM: Final = 4
ARG_PTR_TO_ARENA: Final = 5
ARG_CONST_SIZE: Final = 6
ARG_CONST_SIZE_OR_ZERO: Final = 7
ARG_PTR_TO_CTX: Final = 8
ARG_ANYTHING: Final = 9
ARG_SCALAR: Final = 10
ARG_PTR_TO_SPIN_LOCK: Final = 11
ARG_PTR_TO_SOCK_COMMON: Final = 12
ARG_PTR_TO_SOCKET: Final = 13
ARG_PTR_TO_BTF_ID: Final = 14
ARG_PTR_TO_RINGBUF_MEM: Final = 15
ARG_CONST_ALLOC_SIZE_OR_ZERO: Final = 16
ARG_PTR_TO_BTF_ID_SOCK_COMMON: Final = 17
ARG_PTR_TO_PERCPU_BTF_ID: Final = 18
ARG_PTR_TO_FUNC: Final = 19
ARG_PTR_TO_STACK: Final = 20
ARG_PTR_TO_CONST_STR: Final = 21
ARG_PTR_TO_TIMER: Final = 22
ARG_KPTR_XCHG_DEST: Final = 23
ARG_PTR_TO_DYNPTR: Final = 24

# what a call returns
RET_INTEGER: Final = 0
RET_VOID: Final = 1
RET_PTR_TO_MAP_VALUE: Final = 2
RET_PTR_TO_SOCKET: Final = 3
RET_PTR_TO_TCP_SOCK: Final = 4
RET_PTR_TO_SOCK_COMMON: Final = 5
RET_PTR_TO_MEM: Final = 6
RET_PTR_TO_MEM_OR_BTF_ID: Final = 7
RET_PTR_TO_BTF_ID: Final = 8
