"""Undefined symbols of an object: kernel addresses, typed kernel variables, kernel functions."""

from __future__ import annotations

from skep.errors import BtfError, KernelError, NotSupported, UnresolvedSymbol
from skep.kernel.protocol import Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf
    from skep.obj import CoreTarget, LinkedProgram
    from skep.obj.spec import Extern, ObjectSpec

_VAR: Final = 14
_FUNC: Final = 12
_PSEUDO_BTF_ID: Final = 3
#: plus the extern's number, as libbpf does
POISON_CALL: Final = 2002000000
_ENOENT: Final = 2
_KALLSYMS: Final = "/proc/kallsyms"


class ExternTable:
    """Finds what the externs of one object stand for, each once. Owns descriptors of modules' BTF."""

    def __init__(self, kernel: Kernel, spec: ObjectSpec, target: CoreTarget) -> None:
        self.kernel = kernel
        self.spec = spec
        self.target = target
        self._found: dict[str, tuple[int, int] | None] = {}
        self._symbols: bytes | None = None
        self._modules: list[tuple[str, int, Btf]] | None = None

    def fill(self, linked: LinkedProgram, kconfig_fd: int) -> tuple[int, ...]:
        """Fill in the references of one program; the descriptors that its ``fd_array`` needs.

        Raises UnresolvedSymbol for one that the kernel does not have, unless it is weak.
        """
        from skep.obj import MapRef

        modules: list[int] = []
        for ref in linked.extern_refs:
            extern = self.spec.externs[ref.name]
            if extern.kind == "kconfig":
                linked.set_map(MapRef(ref.pc, ".kconfig", extern.offset), kconfig_fd)
            elif extern.kind == "ksym":
                linked.set_value(ref.pc, self._address(extern))
            else:
                found = self._typed(extern)
                if found is None:
                    if ref.is_call:
                        self._poison(linked, ref.pc, list(self.spec.externs).index(ref.name))
                    else:
                        linked.set_value(ref.pc, 0)
                elif ref.is_call:
                    index = 0
                    if found[1] >= 0:
                        if found[1] not in modules:
                            modules.append(found[1])
                        index = modules.index(found[1]) + 1
                    linked.set_kfunc(ref.pc, found[0], index)
                else:
                    linked.set_value(ref.pc, found[0], pseudo=_PSEUDO_BTF_ID, high=max(0, found[1]))
        return (0, *modules) if modules else ()

    @staticmethod
    def _poison(linked: LinkedProgram, pc: int, number: int) -> None:
        """A call of a weak function that is not there: refused if it can be reached. The number names it."""
        import struct

        linked.set_kfunc(pc, POISON_CALL + number)
        linked.code[8 * pc + 1] = 0
        struct.pack_into("=h", linked.code, 8 * pc + 2, 0)

    # --- by name -------------------------------------------------------------------------------

    def _missing(self, extern: Extern, where: str) -> UnresolvedSymbol:
        return UnresolvedSymbol(f"{self.spec.path or self.spec.name}: {where} has no {extern.name!r}")

    def _address(self, extern: Extern) -> int:
        if self._symbols is None:
            try:
                with open(_KALLSYMS, "rb") as file:
                    self._symbols = b"\n" + file.read()
            except OSError:
                self._symbols = b""
        name = extern.name.encode()
        for end in (b"\n", b"\t"):
            at = self._symbols.find(b" " + name + end)
            if at >= 0:
                line = self._symbols[self._symbols.rfind(b"\n", 0, at) + 1 : at]
                return int(line.split()[0], 16)
        if extern.weak:
            return 0
        raise self._missing(extern, _KALLSYMS)

    def _typed(self, extern: Extern) -> tuple[int, int] | None:
        """(BTF id, descriptor of the module's BTF or -1) of a variable or function; None: weak and absent."""
        if extern.name in self._found:
            return self._found[extern.name]
        wanted = _VAR if extern.kind == "ksym_var" else _FUNC
        found: tuple[int, int] | None = None
        where: Btf | None = None
        # kfuncs have flavours, of which one whose prototype the kernel's agrees with is there
        name = extern.name.split("___")[0] if wanted == _FUNC else extern.name
        try:
            id = self.target.btf.find(name, wanted)
        except BtfError:
            if not extern.weak:
                raise
            id = None
        if id is not None:
            found, where = (id, -1), self.target.btf
        else:
            for _, fd, btf in self.modules():
                id = btf.find(name, wanted)
                if id is not None:
                    found, where = (id, fd), btf
                    break
        if found is not None and where is not None and not self._agrees(extern, where, found[0]):
            if wanted == _VAR or not extern.weak:
                what = "prototype" if wanted == _FUNC else "type"
                raise UnresolvedSymbol(
                    f"{self.spec.path or self.spec.name}: the kernel's {extern.name!r} has another {what} "
                    "than the object declares"
                )
            found = None
        if found is None and not extern.weak:
            since = self._too_old(name) if wanted == _FUNC else None
            error = self._missing(extern, "the kernel's BTF")
            if since is not None:
                module = (
                    f" (Linux {since} and later have it: as a module that is not loaded, or not configured)"
                )
                error = UnresolvedSymbol(f"{error}{module}")
            raise error
        self._found[extern.name] = found
        return found

    def _too_old(self, name: str) -> str | None:
        """The first Linux with a kernel function, None where that is not known.

        Raises NotSupported for one that came after this kernel.
        """
        from skep.uapi.kfuncs import CALLS_SINCE, first

        since, what = first(name), f"kernel function {name}"
        if since is None and self.kernel.version < (5, 13):
            since, what = CALLS_SINCE, f"calling kernel functions ({name})"
        if since is not None and self.kernel.version < tuple(map(int, since.split("."))):
            raise NotSupported(95, what, since=since)
        return since

    def _agrees(self, extern: Extern, btf: Btf, id: int) -> bool:
        """Whether the kernel's variable or function ``id`` is of the type that the object declares."""
        from skep.obj.core_match import types_agree

        local = self.spec.btf
        if local is None:
            return True
        mine, theirs = local.resolve(extern.type_id), btf.resolve(btf[id][2])
        # Weak ones ask whether the kernel has just this; for others a declared struct says enough.
        return types_agree(local, mine, btf, theirs, forward=not extern.weak)

    def modules(self) -> list[tuple[str, int, Btf]]:
        """(name, descriptor, types) of the loaded modules that have BTF."""
        if self._modules is None:
            self._modules = list(_modules(self.kernel, self.target.btf))
        return self._modules

    def close(self) -> None:
        modules, self._modules = self._modules, None
        for _, fd, _ in modules or ():
            self.kernel.close(fd)


def _modules(kernel: Kernel, base: Btf) -> list[tuple[str, int, Btf]]:
    from skep.btf import Btf
    from skep.kernel.open import text
    from skep.uapi.attr import INFO

    found: list[tuple[str, int, Btf]] = []
    if kernel.version < (5, 11):  # whose types have no names, nor modules any
        return found
    at = 0
    while (id := kernel.get_next_id("btf", at)) is not None:
        at = id
        try:
            fd = kernel.get_fd_by_id("btf", id)
        except KernelError as error:
            if error.errno != _ENOENT:
                raise
            continue  # another's, gone meanwhile
        name = bytearray(64)
        raw = kernel.obj_get_info_by_fd(fd, "btf", {"name": name, "name_len": len(name)})
        info = INFO["bpf_btf_info"].unpack(raw)
        module = text(bytes(name))
        keep = False
        if info.get("kernel_btf") and module != "vmlinux":
            try:
                found.append((module, fd, Btf.module(module, base=base)))
                keep = True
            except BtfError:
                pass
        if not keep:
            kernel.close(fd)
    return found
