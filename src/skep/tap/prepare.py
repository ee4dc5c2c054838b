"""From an expression and a file's header to native code, through the cache.

A warm run finds everything under one key (the header's 24 bytes, the expression and what else decides
about the code) and imports neither compiler nor LLVM nor `skep.capture`.
"""

from __future__ import annotations

import os
import sys

from skep.tap.plain import Plain

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skep.capture.pcap import Layout
    from skep.isa import ClassicInsn
    from skep.llvm.early import Early
    from skep.tap.native import ScanCode

#: Part of every key: must change whenever what `skep.filter`, `skep.tap.x86` or `skep.tap.scanir` makes does,
#: or the layout of an entry.
REVISION = b"12"

#: Files that expressions take names from; a change of one makes all entries misses.
NAME_FILES = ("/etc/hosts", "/etc/services", "/etc/protocols", "/etc/networks", "/etc/ethers")

#: Up to so many classic instructions the filter is compiled at level "basic". Beyond, "least" costs a
#: tenth to a half as much and its code scans a capture only a quarter slower.
_BASIC_TO = 1_000

#: More are not compiled: LLVM would take half a minute and a quarter of a gigabyte.
_NATIVE_TO = 50_000


class Recipe:
    """What the user asked for: the expression and the compiler's options."""

    __slots__ = ("expression", "ipv6_transport", "linktype", "netmask", "optimise", "scoped_tunnels")

    def __init__(
        self,
        expression: str,
        *,
        optimise: bool = True,
        linktype: int | None = None,
        netmask: int | None = None,
        scoped_tunnels: bool = False,
        ipv6_transport: bool = False,
    ) -> None:
        self.expression = expression
        self.optimise = optimise
        #: DLT to compile for instead of the input's own
        self.linktype = linktype
        self.netmask = netmask
        self.scoped_tunnels = scoped_tunnels
        self.ipv6_transport = ipv6_transport

    def compile(
        self,
        linktype: int,
        snaplen: int,
        *,
        live: bool = False,
        savefile: bool = False,
        swapped: bool = False,
    ) -> tuple[ClassicInsn, ...]:
        """Classic code for packets of ``linktype`` (DLT); the flags are those of `skep.filter.compile`.

        Raises `FilterSyntaxError`.
        """
        from skep import filter

        program = filter.compile(
            self.expression,
            linktype=linktype if self.linktype is None else self.linktype,
            snaplen=snaplen,
            optimise=self.optimise,
            live=live,
            savefile=savefile,
            swapped=swapped,
            netmask=self.netmask,
            scoped_tunnels=self.scoped_tunnels,
            ipv6_transport=self.ipv6_transport,
        )
        return tuple(program.insns)

    def key(self) -> bytes | None:
        """Bytes that decide about the code; None when a file outside the key does (``host in FILE``)."""
        if " in " in f" {self.expression} ":
            return None
        flags = (self.optimise, self.linktype, self.netmask, self.scoped_tunnels, self.ipv6_transport)
        stamps = []
        for name in NAME_FILES:
            try:
                info = os.stat(name)
            except OSError:
                continue
            stamps.append((name, info.st_mtime_ns, info.st_size, info.st_ino))
        return repr((self.expression, flags, stamps)).encode("utf-8", "surrogatepass")


class Prepared:
    """A filter ready for one kind of input.

    ``insns`` is classic code packed as struct sock_filter, ``code`` the native loop or None: then
    ``missing`` says in a line why, and the interpreter does the work.
    """

    __slots__ = ("code", "insns", "missing", "plain", "title")

    def __init__(
        self, plain: Plain, title: str, insns: bytes, code: ScanCode | None, missing: str = ""
    ) -> None:
        self.plain = plain
        #: "EN10MB (Ethernet)"
        self.title = title
        self.insns = insns
        self.code = code
        self.missing = missing

    def classic(self) -> list[ClassicInsn]:
        """The classic program."""
        from skep.isa import classic

        return classic.decode(self.insns)


def asks_the_kernel(insns: Iterable[ClassicInsn]) -> bool:
    """Whether a program reads metadata that only the kernel has of a packet: ancillary loads."""
    from skep.isa.classic import BPF_ABS, BPF_LD, SKF_AD_OFF

    first = 0x1_0000_0000 + SKF_AD_OFF
    return any(insn.k >= first and insn.code & 0xE7 == BPF_LD | BPF_ABS for insn in insns)


def recall(recipe: Recipe, header: bytes) -> Prepared | None:
    """What an earlier run with the same file header and recipe left in the cache."""
    from skep.llvm import cache

    key = recipe.key()
    if key is None:
        return None
    entry = cache.lookup("tap-recipe", REVISION, header, key)
    if entry is None:
        return None
    size = Plain.packed_size()
    title_size = int.from_bytes(entry[size : size + 4], "little")
    insns_size = int.from_bytes(entry[size + 4 : size + 8], "little")
    title_at = size + 8
    insns_at = title_at + title_size
    object_at = insns_at + insns_size
    code = _load(entry[object_at:])
    if code is None:
        return None
    title = entry[title_at:insns_at].decode()
    return Prepared(Plain.unpack(entry), title, entry[insns_at:object_at], code)


def prepare(
    recipe: Recipe, layout: Layout, header: bytes | None = None, early: Ahead | None = None
) -> Prepared:
    """Compile for a plain file's layout; ``header`` (24 bytes) files the result for `recall`.

    Raises:
        FilterSyntaxError: the expression is refused.
    """
    from skep.capture import linktypes

    plain = Plain(
        big_endian=layout.byteorder == "big",
        units=layout.units,
        snaplen=layout.snaplen,
        record_limit=layout.record_limit,
        linktype=layout.linktype,
        link=linktypes.to_file(layout.linktype),
        fcs=layout.fcs,
    )
    return prepare_plain(recipe, plain, header, early)


def prepare_plain(
    recipe: Recipe,
    plain: Plain,
    header: bytes | None = None,
    early: Ahead | None = None,
    *,
    swapped: bool | None = None,
) -> Prepared:
    """As `prepare`, for records described by ``plain``.

    ``swapped``: whether the file they come from is in the other byte order, where that is not ``plain``'s.
    """
    from skep.isa import classic

    foreign = plain.swapped if swapped is None else swapped
    insns = recipe.compile(plain.linktype, plain.snaplen, savefile=True, swapped=foreign)
    code, stored, missing = native(insns, swapped=plain.swapped, early=early)
    packed = classic.encode(insns)
    name = title(plain.linktype)
    key = recipe.key()
    if stored and header is not None and key is not None:
        from skep.llvm import cache

        entry = plain.pack()
        entry += len(name.encode()).to_bytes(4, "little") + len(packed).to_bytes(4, "little")
        cache.store("tap-recipe", entry + name.encode() + packed + stored, REVISION, header, key)
    return Prepared(plain, name, packed, code, missing)


def title(linktype: int) -> str:
    """What tcpdump calls a link type: "EN10MB (Ethernet)"."""
    from skep.capture import linktypes

    description = linktypes.description(linktype)
    name = linktypes.name(linktype)
    return f"{name} ({description})" if description else name


def native(
    insns: Sequence[ClassicInsn], *, swapped: bool = False, early: Ahead | None = None
) -> tuple[ScanCode | None, bytes, str]:
    """(loaded code, its stored form, "") for a classic program; (None, b"", why) where it cannot be had.

    ``early`` is a compiler process that may have been started already.
    """
    from skep.errors import CompileError, DecodeError, MissingDependency, VerifierError
    from skep.isa import classic
    from skep.llvm import cache

    packed = classic.encode(insns)
    order = b"swapped" if swapped else b"host"
    # Writing machine code here takes no longer than finding it in the cache and checking it.
    found = None if own_code() else cache.lookup("tap-program", REVISION, order, packed)
    if found is not None and (code := _load(found)) is not None:
        return code, found, ""
    try:
        stored = _own(insns, swapped) if own_code() else _compiled(insns, swapped, early)
    except MissingDependency as error:
        return None, b"", str(error)
    except (CompileError, DecodeError, VerifierError) as error:
        return None, b"", f"no native code for this filter: {error}"
    code = _load(stored)
    if code is None:
        return None, b"", f"no native code for this processor ({os.uname().machine})"
    if not own_code():
        cache.store("tap-program", stored, REVISION, order, packed)
    return code, stored, ""


def own_code() -> bool:
    """Whether `skep.tap.x86` writes this machine's code; elsewhere LLVM does."""
    return os.uname().machine == "x86_64"


def _own(insns: Sequence[ClassicInsn], swapped: bool) -> bytes:
    """Code of `skep.tap.x86` behind the offsets of its functions."""
    from skep.tap.x86 import FUNCTIONS, assemble

    code, places = assemble(insns, swapped=swapped)
    return b"".join([places[name].to_bytes(4, "little") for name in FUNCTIONS]) + code


def _compiled(insns: Sequence[ClassicInsn], swapped: bool, early: Ahead | None) -> bytes:
    """An object file of LLVM's."""
    from skep.errors import CompileError

    if len(insns) > _NATIVE_TO:
        raise CompileError(f"{len(insns)} instructions are too many to compile (at most {_NATIVE_TO})")
    text = module_text(insns, swapped=swapped)
    level = "basic" if len(insns) <= _BASIC_TO else "least"
    if early is not None and early.child is not None:
        return early.child.compile(text, level=level)
    from skep.llvm import compile_native

    return compile_native(text, level=level)


def module_text(insns: Sequence[ClassicInsn], *, swapped: bool = False) -> str:
    """LLVM IR of the scan loop with the filter in it."""
    from skep.filter.ebpf import translate
    from skep.jit.lower import lower
    from skep.tap import scanir

    lowered = lower(translate(insns, form="skb"), name="filter", attributes="internal alwaysinline")
    return scanir.module(lowered.text, swapped=swapped, inline=len(insns) <= _BASIC_TO)


class Ahead:
    """Loads LLVM in a child process while the expression is being compiled here. A context manager.

    ``child`` is None where LLVM is not needed or not there.
    """

    __slots__ = ("child",)

    def __init__(self) -> None:
        self.child: Early | None = None
        if own_code() or "llvmlite.binding" in sys.modules:
            return
        from skep.errors import SkepError
        from skep.llvm.early import Early

        try:
            self.child = Early()
        except SkepError:
            return  # `native` will say why

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child is not None:
            self.child.close()


def _load(stored: bytes) -> ScanCode | None:
    if sys.byteorder != "little":
        return None
    from skep.errors import SkepError
    from skep.llvm import native as loader
    from skep.tap.native import ScanCode

    try:
        if not own_code():
            return ScanCode(loader.load(stored))
        from skep.tap.x86 import FUNCTIONS

        places = {
            name: int.from_bytes(stored[4 * number : 4 * number + 4], "little")
            for number, name in enumerate(FUNCTIONS)
        }
        return ScanCode(loader.place(stored[4 * len(FUNCTIONS) :], places))
    except SkepError:
        return None
