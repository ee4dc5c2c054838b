"""Types as a program's module names them: integers, arrays, strings, bit fields.

They record what was written and wrap numbers; sizes and layouts are the compiler's (`skep.lang.layout`).
Nothing here may import more than the standard library's core: a cached program starts through it.
"""

from __future__ import annotations

from skep.errors import SkepError

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm start 5 ms
if TYPE_CHECKING:
    from typing import Any


class BpfType:
    """Base of the type records. ``T | None`` is an optional."""

    __slots__ = ()

    def __or__(self, other: object) -> Optional:
        if other is None or other is type(None):
            return Optional(self)
        return NotImplemented

    __ror__ = __or__


class Optional(BpfType):
    """``T | None``."""

    __slots__ = ("of",)

    def __init__(self, of: object) -> None:
        self.of = of

    def __repr__(self) -> str:
        return f"{self.of!r} | None"


class IntType(BpfType):
    """An integer as it lies in memory: ``bits`` wide, signed or not, in network order when ``big``.

    Calling it wraps a number to its width, in Python as in a program: ``u8(300) == 44``. Numbers of the
    network-order types are host numbers wherever they are read.
    """

    __slots__ = ("big", "bits", "name", "signed")

    def __init__(self, name: str, bits: int, signed: bool, big: bool = False) -> None:
        self.name = name
        self.bits = bits
        self.signed = signed
        self.big = big

    def __call__(self, value: int = 0) -> int:
        value = int(value) & ((1 << self.bits) - 1)
        return value - (1 << self.bits) if self.signed and value >> (self.bits - 1) else value

    def __repr__(self) -> str:
        return self.name


u8 = IntType("u8", 8, False)
u16 = IntType("u16", 16, False)
u32 = IntType("u32", 32, False)
u64 = IntType("u64", 64, False)
s8 = IntType("s8", 8, True)
s16 = IntType("s16", 16, True)
s32 = IntType("s32", 32, True)
s64 = IntType("s64", 64, True)
be16 = IntType("be16", 16, False, True)
be32 = IntType("be32", 32, False, True)
be64 = IntType("be64", 64, False, True)


class CharType(BpfType):
    """``size`` bytes of text, padded with zero bytes."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = _count(size, "char")

    def __repr__(self) -> str:
        return f"char({self.size})"


class BytesType(BpfType):
    """Exactly ``size`` bytes (a MAC or IPv6 address)."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = _count(size, "raw")

    def __repr__(self) -> str:
        return f"raw({self.size})"


class ArrayType(BpfType):
    """``count`` elements of one type."""

    __slots__ = ("count", "of")

    def __init__(self, of: object, count: int) -> None:
        self.of = of
        self.count = _count(count, "array")

    def __repr__(self) -> str:
        return f"array({self.of!r}, {self.count})"


class BitsType(BpfType):
    """A bit field: ``width`` bits of an integer type."""

    __slots__ = ("of", "width")

    def __init__(self, of: IntType, width: int) -> None:
        self.of = of
        self.width = _count(width, "bits")
        if not isinstance(of, IntType) or width > of.bits:
            raise SkepError(f"bits({of!r}, {width}): give an integer type of at least that many bits")

    def __repr__(self) -> str:
        return f"bits({self.of!r}, {self.width})"


class LpmType(BpfType):
    """The key of an LPM trie: a prefix length in bits and the data it is a prefix of."""

    __slots__ = ("of",)

    def __init__(self, of: object) -> None:
        self.of = of

    def __repr__(self) -> str:
        return f"lpm({self.of!r})"


class PointerType(BpfType):
    """The address of a value of another type, as a field or parameter; ``user`` when in user space."""

    __slots__ = ("of", "user")

    def __init__(self, of: object, user: bool = False) -> None:
        self.of = of
        self.user = user

    def __repr__(self) -> str:
        return f"ptr({self.of!r})"


class Kptr(BpfType):
    """A field of a map's value that owns an object of the kernel's: ``task: bpf.Kptr[bpf.task_struct]``."""

    __slots__ = ("of",)

    def __init__(self, of: object) -> None:
        self.of = of

    def __class_getitem__(cls, of: object) -> Kptr:
        return cls(of)

    def __repr__(self) -> str:
        return f"Kptr[{self.of!r}]"


class PerCpuKptr(Kptr):
    """A field of a map's value that owns a per-CPU object: ``counts: bpf.PerCpuKptr[Counts]``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"PerCpuKptr[{getattr(self.of, '__name__', self.of)}]"


class ArenaPtr(BpfType):
    """A pointer into the arena, or None: ``next: bpf.ArenaPtr["Node"]``. ``of`` is a type or its name."""

    __slots__ = ("of",)

    def __init__(self, of: object) -> None:
        self.of = of

    def __class_getitem__(cls, of: object) -> ArenaPtr:
        return cls(of)

    def __repr__(self) -> str:
        return f"ArenaPtr[{self.of!r}]"


class ListHead(BpfType):
    """The head of a list of structs that the program allocates, linked by their field ``node``.

    ``items: bpf.ListHead[Item]`` where Item has one field ``bpf.ListNode``, else it is named:
    ``= bpf.ListHead(Item, "node")``.
    """

    __slots__ = ("node", "of")
    name = "bpf_list_head"

    def __init__(self, of: object, node: str = "") -> None:
        self.of = of
        self.node = node

    def __class_getitem__(cls, of: object) -> ListHead:
        return cls(of)

    def __repr__(self) -> str:
        return f"{type(self).__name__}[{getattr(self.of, '__name__', self.of)}]"


class RbRoot(ListHead):
    """The root of a red-black tree of structs that the program allocates, with a field ``bpf.RbNode``."""

    __slots__ = ()
    name = "bpf_rb_root"


class KernelStruct(BpfType):
    """An object of the kernel that lives in a map value: ``bpf_spin_lock``, ``bpf_timer``, …"""

    __slots__ = ("align", "name", "size")

    def __init__(self, name: str, size: int, align: int) -> None:
        self.name = name
        self.size = size
        self.align = align

    def __repr__(self) -> str:
        return self.name


class Named(BpfType):
    """A name that the compiler resolves: ``bpf.task_struct``, ``bpf.pid``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *given: Any, **_: Any) -> Any:
        if len(given) == 1 and hasattr(given[0], "__code__"):
            from skep.bpf.programs import like

            raise SkepError(f"no hook is called bpf.{self.name}{like(self.name)}")
        raise SkepError(f"bpf.{self.name}() runs inside a BPF program only")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"bpf.{self.name}"


SpinLock = KernelStruct("bpf_spin_lock", 4, 4)
ResSpinLock = KernelStruct("bpf_res_spin_lock", 4, 4)
Timer = KernelStruct("bpf_timer", 16, 8)
Wq = KernelStruct("bpf_wq", 16, 8)
TaskWork = KernelStruct("bpf_task_work", 8, 8)
Dynptr = KernelStruct("bpf_dynptr", 16, 8)
ListNode = KernelStruct("bpf_list_node", 24, 8)
RbNode = KernelStruct("bpf_rb_node", 32, 8)
Refcount = KernelStruct("bpf_refcount", 4, 4)


def _count(count: int, what: str) -> int:
    if not isinstance(count, int) or count < 1:
        raise SkepError(f"bpf.{what}(): {count!r} is no positive number")
    return count


def char(size: int) -> Any:
    """A field of ``size`` bytes that holds text: ``comm: bytes = bpf.char(16)``."""
    return CharType(size)


def raw(size: int) -> Any:
    """A field of exactly ``size`` bytes: ``mac: bytes = bpf.raw(6)``."""
    return BytesType(size)


def array(of: object, count: int) -> Any:
    """A field of ``count`` elements: ``slots: list[u64] = bpf.array(u64, 64)``."""
    return ArrayType(of, count)


def bits(of: Any, width: int) -> Any:
    """A bit field, packed with its neighbours as C packs them: ``version: u8 = bpf.bits(u8, 4)``."""
    return BitsType(of, width)


def lpm(of: object) -> Any:
    """The key type of an `LpmTrie` over ``of``."""
    return LpmType(of)


def ptr(of: object) -> Any:
    """A pointer to ``of``."""
    return PointerType(of)
