"""From a spec to handles: types, maps, programs, in that order, or nothing at all."""

from __future__ import annotations

import errno
from sys import byteorder

from skep.errors import KernelError, LinkError
from skep.kernel import mapload
from skep.kernel.handle import page_size
from skep.kernel.map import Map
from skep.kernel.object import Object
from skep.kernel.program import Program
from skep.kernel.protocol import Kernel
from skep.obj.linked import FUNC_INFO_BYTES, LINE_INFO_BYTES
from skep.obj.spec import PIN_BY_NAME
from skep.uapi.enums import AttachType, ProgType
from skep.uapi.enums import MapType as T

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

    from skep.kernel.codec import Codec
    from skep.kernel.device import Device
    from skep.kernel.externs import ExternTable
    from skep.kernel.typed import Codecs
    from skep.obj import CoreTarget, LinkedProgram
    from skep.obj.spec import MapSpec, ObjectSpec, ProgramSpec

BPFFS: Final = "/sys/fs/bpf"
_KCONFIG: Final = ".kconfig"
_SLEEPABLE: Final = 16
_XDP_HAS_FRAGS: Final = 32
_OF_MAPS: Final = (T.ARRAY_OF_MAPS, T.HASH_OF_MAPS)


class Loader:
    """Loads one object into one kernel.

    Args:
        programs: names of those to load; by default all but those whose section says ``SEC("?…")``.
        variables: first values of global variables, by name.
        max_entries: sizes of maps, by name, instead of those in the object.
        reuse: maps to take instead of making new ones, by name; they stay the caller's.
        targets: what a program attaches to, by its name: a kernel function, or for freplace a `Program`.
        pin_root: where maps that ask for it are pinned, and looked for, by name.
        kconfig: lines of a kernel configuration (``CONFIG_HZ=250``), instead of the running kernel's own.
        types: the kernel's types for CO-RE, when they are not the running kernel's own.
        log_level: 1 or 2 keeps the verifier's log of each program in `Program.log`.
        offload: the network interface whose card runs the programs and holds the maps (XDP and tc); attach
            with ``mode="offload"``.
        device: the network interface whose driver's metadata the XDP programs read (Linux 6.3); they attach
            there alone.
    """

    def __init__(
        self,
        kernel: Kernel,
        spec: ObjectSpec,
        *,
        programs: Iterable[str] | None = None,
        variables: Mapping[str, Any] | None = None,
        max_entries: Mapping[str, int] | None = None,
        reuse: Mapping[str, Map] | None = None,
        targets: Mapping[str, str | Program] | None = None,
        pin_root: str = BPFFS,
        kconfig: Iterable[str] | None = None,
        types: CoreTarget | None = None,
        log_level: int = 0,
        offload: str | int | None = None,
        device: str | int | None = None,
    ) -> None:
        self.kernel = kernel
        self.spec = spec
        self.wanted = None if programs is None else list(programs)
        self.reuse = dict(reuse or {})
        self.targets = dict(targets or {})
        self.pin_root = pin_root
        self.kconfig = kconfig
        self.log_level = log_level
        self.device: Device | None = None
        if offload is not None or device is not None:
            from skep.kernel.device import chosen

            self.device = chosen(offload, device)
        self._types = types
        self._externs: ExternTable | None = None
        self._btf_fd = -1
        self._entries = _Entries(spec)
        for name in (*(self.wanted or ()), *self.targets):
            if name not in spec.programs:
                raise self._no_such("program", name, spec.programs)
        for name in (*(max_entries or ()), *self.reuse):
            if name not in spec.maps:
                raise self._no_such("map", name, spec.maps)
        for name, count in (max_entries or {}).items():
            spec.maps[name].max_entries = count
        if variables:
            from skep.kernel.globals import set_variables

            set_variables(spec, dict(variables))

    def _no_such(self, what: str, name: str, known: Iterable[str]) -> LinkError:
        where = self.spec.path or self.spec.name or "object"
        return LinkError(f"{where}: no {what} {name!r}; there are: {', '.join(known) or 'none'}")

    @property
    def types(self) -> CoreTarget:
        if self._types is None:
            from skep.obj import CoreTarget

            self._types = CoreTarget.kernel()
        return self._types

    @property
    def externs(self) -> ExternTable:
        if self._externs is None:
            from skep.kernel.externs import ExternTable

            self._externs = ExternTable(self.kernel, self.spec, self.types)
        return self._externs

    # --- the whole -----------------------------------------------------------------------------

    def load(self) -> Object:
        """The object, loaded. On any error everything made so far is closed, pins made are removed."""
        if self.spec.byteorder != byteorder:
            # Its constants and data are of the other order, which turning the instructions does not mend.
            raise LinkError(
                f"{self.spec.path or self.spec.name or 'object'}: made for {self.spec.byteorder}-endian "
                f"machines, this one is {byteorder}-endian: compile it with --target=bpf"
            )
        made = Object(self.kernel, self.spec)
        pins: list[str] = []
        try:
            chosen = self._chosen()
            self._load_btf()
            self._make_maps(made, pins)
            self._load_programs(made, chosen)
            self._fill_maps(made)
        except BaseException:
            for path in reversed(pins):
                _unlink(path)
            made.close()
            raise
        finally:
            self._close()
        return made

    def _close(self) -> None:
        if self._externs is not None:
            self._externs.close()
        if self._btf_fd >= 0:
            self.kernel.close(self._btf_fd)
            self._btf_fd = -1

    def _chosen(self) -> list[ProgramSpec]:
        specs = self.spec.programs
        if self.wanted is not None:
            return [specs[name] for name in self.wanted]
        return [spec for spec in specs.values() if spec.autoload]

    # --- types ---------------------------------------------------------------------------------

    def _load_btf(self) -> None:
        if not self.spec.has_btf:
            return
        data = self.spec.take_kernel_btf()
        if data is None:
            from skep.obj.fixed_btf import kernel_btf

            data = kernel_btf(self.spec)
        from skep.kernel import btfload

        try:
            self._btf_fd = btfload.load(self.kernel, data)
        except KernelError as error:
            # Programs and maps do without, except those that cannot, and then the kernel says so.
            if error.errno in (errno.EPERM, errno.ENOSYS):
                raise

    # --- maps ----------------------------------------------------------------------------------

    def _make_maps(self, made: Object, pins: list[str]) -> None:
        if _KCONFIG in self.spec.maps and _KCONFIG not in self.reuse:
            from skep.obj import fill_kconfig

            fill_kconfig(self.spec, self.kconfig, has=_virtual_kconfig(self.kernel))
        for name, spec in self.spec.maps.items():
            if name in self.reuse:
                given = self.reuse[name]
                mapload.check_same(self.kernel, spec, given.fd, "the map given")
                made._add_map(name, self._handle(spec, self.kernel.dup(given.fd)))
                continue
            path = mapload.pin_path(self.pin_root, spec)
            fd = mapload.pinned(self.kernel, spec, path)
            if fd is not None:
                made._add_map(name, self._handle(spec, fd))
                continue
            handle = self._handle(spec, self._create(spec))
            made._add_map(name, handle)
            if spec.type == T.ARENA:
                self._first_arena(spec, handle)
            elif spec.data is not None and spec.type != T.STRUCT_OPS:
                self._first_data(spec, handle)
            if spec.pinning == PIN_BY_NAME:
                handle.pin(path)
                pins.append(path)

    def _create(self, spec: MapSpec) -> int:
        if spec.type != T.STRUCT_OPS:
            if self.device is None:
                return mapload.create(self.kernel, spec, self._btf_fd)
            try:
                return mapload.create(self.kernel, spec, self._btf_fd, ifindex=self.device.map(spec))
            except KernelError as error:
                raise self.device.refused(f"map {spec.name}", error) from error.__cause__
        from skep.kernel.struct_ops import StructOps

        ops = StructOps(self.spec, spec, self.types, self.externs.modules)
        size = spec.value_size
        spec.value_size = ops.size
        try:
            return mapload.create(
                self.kernel, spec, self._btf_fd, struct_type=ops.value_type, btf_obj=ops.btf_obj
            )
        finally:
            spec.value_size = size

    def _handle(self, spec: MapSpec, fd: int) -> Map:
        shape = mapload.Shape(self.kernel, spec)
        entries = self._entries  # and not the loader, which has files open
        try:
            return Map(
                self.kernel,
                fd,
                shape.type,
                shape.key_size,
                shape.value_size,
                shape.max_entries,
                shape.flags,
                extra=shape.extra,
                name=spec.name,
                codecs=lambda: entries.of(spec),
            )
        except BaseException:
            self.kernel.close(fd)
            raise

    def _first_data(self, spec: MapSpec, handle: Map) -> None:
        data = spec.data
        if data is not None and data.strip(b"\0"):
            handle.raw[bytes(4)] = bytes(data)
        if spec.section.startswith(".rodata") or spec.section == _KCONFIG:
            try:
                handle.freeze()
            except KernelError as error:
                # Before 5.2 nothing can be frozen; the programs still cannot write to it.
                if error.errno in (errno.EPERM, errno.ENOMEM):
                    raise

    def _first_arena(self, spec: MapSpec, handle: Map) -> None:
        """Map an arena, since no program loads before its address is known, and fill in its variables."""
        memory = handle.arena()
        if spec.data is None:
            return
        from skep.kernel.probes import far_offsets

        page = page_size()
        if far_offsets(self.kernel):
            # As libbpf does: the first pages stay free for what programs allocate.
            spec.data_offset = len(memory) - -(-len(spec.data) // page) * page
        memory[spec.data_offset : spec.data_offset + len(spec.data)] = spec.data

    def _fill_maps(self, made: Object) -> None:
        """Put what the object's declarations say into maps of maps and of programs, and into struct_ops."""
        for name, spec in self.spec.maps.items():
            handle = made.maps[name]
            if spec.type == T.STRUCT_OPS:
                from skep.kernel.struct_ops import StructOps

                handle_value = StructOps(self.spec, spec, self.types, self.externs.modules).value(
                    made.programs
                )
                made._struct_ops[name] = handle_value
                continue
            if name in self.reuse:
                continue
            for slot, target in spec.contents.items():
                if spec.type in _OF_MAPS:
                    handle[slot] = made.maps[target]
                elif target in made.programs:
                    handle[slot] = made.programs[target]

    # --- programs ------------------------------------------------------------------------------

    def _load_programs(self, made: Object, chosen: list[ProgramSpec]) -> None:
        for spec in chosen:
            made._add_program(spec.name, self._load_program(made, spec))

    def _load_program(self, made: Object, spec: ProgramSpec) -> Program:
        from skep.obj import link_program

        # The types are only looked at when a relocation asks for them; one target serves all programs.
        linked = link_program(self.spec, spec.name, target=self.types if self._needs_types() else None)
        for ref in linked.map_refs:
            if ref.offset is not None:
                ref = ref._replace(offset=ref.offset + self.spec.maps[ref.map].data_offset)
            linked.set_map(ref, made.maps[ref.map].fd)
        fd_array: tuple[int, ...] = ()
        if linked.extern_refs:
            kconfig = made.maps.get(_KCONFIG)
            fd_array = self.externs.fill(linked, kconfig.fd if kconfig is not None else -1)
        attr = self._attr(spec)
        attach_type = self._attach_type(spec)
        tables: list[int] = []
        try:
            if linked.jump_refs:
                mapload.jump_tables(self.kernel, linked, tables)
            fd, log = self._prog_load(spec, linked, attr, fd_array, attach_type)
        except KernelError as error:
            from skep.kernel.refusal import of_program

            if self.device is not None and "prog_ifindex" in attr and not error.log:
                raise self.device.refused(f"program {spec.name}", error) from error.__cause__
            raise of_program(self.kernel, linked, error) from error.__cause__
        finally:
            for table in tables:  # the program holds them
                self.kernel.close(table)
        for name, map in made.maps.items():
            if name.startswith(".rodata"):
                # Held by the program whether it reads it or not: its metadata lies there (Linux 5.10).
                try:  # noqa: SIM105 - contextlib is 5 ms of a start
                    self.kernel.prog_bind_map(fd, map.fd)
                except KernelError:
                    pass
        program = Program(self.kernel, fd, spec, log=log, attach_type=attach_type)
        function = self.spec.functions.get(spec.name)
        if function is not None and function.btf_id and self.spec.has_btf:
            program.function = (self.spec, function.btf_id)
        return program

    def _needs_types(self) -> bool:
        return self._types is not None or any(f.core_relos for f in self.spec.functions.values())

    def _attr(self, spec: ProgramSpec) -> dict[str, Any]:
        attr: dict[str, Any] = {}
        if spec.type == ProgType.KPROBE and self.kernel.version < (5, 0):
            from skep.obj.kconfig import running_version

            attr["kern_version"] = self.spec.version or running_version()
        from skep.kernel.targets import attach_attr, needs_target

        if needs_target(spec):
            attr |= attach_attr(spec, self.externs, self.targets.get(spec.name))
        elif spec.type == ProgType.STRUCT_OPS:
            from skep.kernel.struct_ops import member_of

            attr |= member_of(self.spec, spec, self.types, self.externs.modules)
        if self.device is not None:
            more, flags = self.device.program(spec)
            attr |= more
            if flags:
                attr["prog_flags"] = flags
        return attr

    def _attach_type(self, spec: ProgramSpec) -> int:
        if spec.hook.removesuffix(".s") == "usdt" and spec.attach_type is None:
            from skep.kernel.probes import uprobe_multi

            # One link for all sites, where the kernel has it and tells processes apart (6.10).
            if self.kernel.version >= (6, 6) and uprobe_multi(self.kernel):
                return int(AttachType.TRACE_UPROBE_MULTI)
        return int(spec.attach_type) if spec.attach_type is not None else 0

    def _prog_load(
        self,
        spec: ProgramSpec,
        linked: LinkedProgram,
        attr: dict[str, Any],
        fd_array: tuple[int, ...],
        attach_type: int,
    ) -> tuple[int, str]:
        flags = spec.flags | attr.pop("prog_flags", 0)
        if spec.sleepable:
            flags |= _SLEEPABLE
        info: dict[str, Any] = {}
        if self._btf_fd >= 0 and linked.func_infos:
            info = {
                "prog_btf_fd": self._btf_fd,
                "func_info": linked.func_info(),
                "func_info_rec_size": FUNC_INFO_BYTES,
                "line_info": linked.line_info(),
                "line_info_rec_size": LINE_INFO_BYTES,
            }

        def load(expected: int, more: dict[str, Any]) -> tuple[int, str]:
            return self.kernel.prog_load(
                spec.type,
                bytes(linked.code),
                self.spec.license,
                name=spec.name,
                log_level=self.log_level,
                fd_array=fd_array,
                prog_flags=flags,
                **{"expected_attach_type": expected, **attr, **more},
            )

        try:
            return load(attach_type, info)
        except KernelError as error:
            if error.errno not in (errno.EINVAL, errno.E2BIG) or _verified(error.log):
                raise
            first = error
        # Refused before a single instruction was looked at: leave out what older kernels do not know.
        if attach_type and self._optional(spec):
            try:
                return load(0, info)
            except KernelError:
                pass
        if info and not _needs_info(linked):
            try:
                return load(attach_type, {})
            except KernelError:
                pass
        raise first

    @staticmethod
    def _optional(spec: ProgramSpec) -> bool:
        from skep.obj.sections import lookup

        meaning = lookup(spec.section)
        return meaning is not None and "optional" in meaning.flags


class _Entries:
    """What the maps of one object hold, by its types, which are not decoded before somebody asks."""

    __slots__ = ("_codecs", "_spec")

    def __init__(self, spec: ObjectSpec) -> None:
        self._spec = spec
        self._codecs: Codecs | None = None

    def of(self, map: MapSpec) -> tuple[Codec | None, Codec | None, Codec | None, Codec | None]:
        """The codecs of keys and values, and of those of the maps inside. Raises BtfError for wrong types."""
        inner = map.inner
        return (
            self._codec(map.key_type_id),
            self._codec(map.value_type_id) if map.data is None else None,
            self._codec(inner.key_type_id) if inner is not None else None,
            self._codec(inner.value_type_id) if inner is not None else None,
        )

    def _codec(self, type_id: int) -> Codec | None:
        if not type_id or self._spec.btf is None:
            return None
        if self._codecs is None:
            from skep.kernel.typed import Codecs

            self._codecs = Codecs(self._spec.btf)
        return self._codecs.of(type_id)


def _verified(log: str) -> bool:
    return "processed " in log and "processed 0 insns" not in log


def _needs_info(linked: LinkedProgram) -> bool:
    """Callbacks and global functions are known by their types only."""
    return len(linked.subprogs) > 1


def _virtual_kconfig(kernel: Kernel) -> list[str]:
    has: list[str] = []
    if kernel.version >= (5, 15):
        has.append("LINUX_HAS_BPF_COOKIE")
    try:
        with open("/proc/kallsyms", "rb") as file:
            text = file.read()
    except OSError:
        return has
    if b"_sys_bpf\n" in text and any(b" __" + arch + b"_sys_bpf\n" in text for arch in _WRAPPED):
        has.append("LINUX_HAS_SYSCALL_WRAPPER")
    return has


_WRAPPED: Final = (b"x64", b"arm64", b"s390x", b"riscv", b"powerpc")


def _unlink(path: str) -> None:
    import os

    try:  # noqa: SIM105 - contextlib is 5 ms of a start
        os.unlink(path)
    except OSError:
        pass
