"""The seam: one method for each command of bpf(2), and for the few system calls beside it.

`skep.linux.LinuxKernel` makes the system calls; `skep.user.UserKernel` answers them itself. Everything
above the seam (handles, the loader, commands, tools) is written once against this protocol.

Conventions: descriptors are integers that the caller owns and gives back to `close`; keys, values and
packets are bytes in host byte order as the kernel lays them out; buffers that are filled are writable
(bytearray, memoryview). Every method raises `KernelError` with the command's name and the kernel's
errno, `NotSupported` where the kernel lacks the command or feature, `PermissionDenied` where a
capability or lockdown stands in the way. Commands keep their names of <linux/bpf.h>, in lower case.
"""

from __future__ import annotations

from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from skep.kernel.link import Link
    from skep.kernel.program import Program
else:
    Protocol = object

Buffer = bytes | bytearray | memoryview


class TestRun(NamedTuple):
    """What BPF_PROG_TEST_RUN answers: the return value, mean nanoseconds a run, data and context after it."""

    retval: int
    duration: int
    data: bytes
    #: bytes, or a value of the struct that `Program.run` was given one of
    ctx: Any


class Kernel(Protocol):
    """A kernel that BPF objects can be loaded into."""

    #: "linux" or "user"
    name: str
    #: (major, minor) of the Linux whose behaviour it has
    version: tuple[int, int]
    #: possible CPUs: how many values a per-CPU map's entry has
    cpus: int

    # --- maps ---------------------------------------------------------------------------------

    def map_create(
        self,
        map_type: int,
        key_size: int,
        value_size: int,
        max_entries: int,
        map_flags: int = 0,
        *,
        name: str = "",
        **attr: int,
    ) -> int:
        """A new map's descriptor. ``attr``: further fields of the command by their C names
        (inner_map_fd, numa_node, btf_fd, btf_key_type_id, btf_value_type_id, map_extra, map_ifindex,
        btf_vmlinux_value_type_id, value_type_btf_obj_fd, map_token_fd).
        """

    def map_lookup_elem(self, fd: int, key: Buffer, value: bytearray, flags: int = 0) -> None:
        """Fill ``value`` (the map's value size; times `cpus`, each rounded up to 8, for per-CPU maps)."""

    def map_update_elem(self, fd: int, key: Buffer, value: Buffer, flags: int = 0) -> None: ...

    def map_delete_elem(self, fd: int, key: Buffer, flags: int = 0) -> None: ...

    def map_get_next_key(self, fd: int, key: Buffer | None, next_key: bytearray) -> None:
        """Fill ``next_key`` with the key after ``key`` (None: the first); ENOENT at the end."""

    def map_lookup_and_delete_elem(self, fd: int, key: Buffer, value: bytearray, flags: int = 0) -> None: ...

    def map_freeze(self, fd: int) -> None: ...

    def map_lookup_batch(
        self,
        fd: int,
        in_batch: Buffer | None,
        out_batch: bytearray,
        keys: bytearray,
        values: bytearray,
        count: int,
        *,
        delete: bool = False,
        elem_flags: int = 0,
    ) -> tuple[int, bool]:
        """Fill up to ``count`` keys and values from the position ``in_batch`` (None: the start), and
        ``out_batch`` with the position reached. Returns how many, and whether that was the end.
        """

    def map_update_batch(
        self, fd: int, keys: Buffer, values: Buffer, count: int, *, elem_flags: int = 0
    ) -> int:
        """Update ``count`` elements; returns how many were done (all, or an error carries ``count``)."""

    def map_delete_batch(self, fd: int, keys: Buffer, count: int, *, elem_flags: int = 0) -> int: ...

    # --- programs -----------------------------------------------------------------------------

    def prog_load(
        self,
        prog_type: int,
        insns: bytes,
        license: str,
        *,
        name: str = "",
        expected_attach_type: int = 0,
        prog_flags: int = 0,
        log_level: int = 0,
        func_info: bytes = b"",
        func_info_rec_size: int = 0,
        line_info: bytes = b"",
        line_info_rec_size: int = 0,
        core_relos: bytes = b"",
        core_relo_rec_size: int = 0,
        fd_array: tuple[int, ...] = (),
        **attr: int,
    ) -> tuple[int, str]:
        """A verified program's descriptor, and the verifier's log ("" with log_level 0).

        A refused program raises with the log (asked for at level 1 when ``log_level`` is 0) as ``log``.
        ``attr``: attach_btf_id, attach_prog_fd, attach_btf_obj_fd, prog_btf_fd, prog_ifindex,
        kern_version, prog_token_fd.
        """

    def prog_test_run(
        self,
        fd: int,
        data: Buffer = b"",
        *,
        ctx: Buffer = b"",
        repeat: int = 1,
        data_out: int = 0,
        flags: int = 0,
        cpu: int = 0,
        batch_size: int = 0,
    ) -> TestRun:
        """Run a program ``repeat`` times on a packet or a context; what syscall programs write to their
        context is in the answer's ``ctx``."""

    def prog_attach(
        self, target: int, prog_fd: int, attach_type: int, flags: int = 0, **attr: int
    ) -> None: ...

    def prog_detach(
        self, target: int, prog_fd: int, attach_type: int, flags: int = 0, **attr: int
    ) -> None: ...

    def prog_query(self, target: int, attach_type: int, flags: int = 0) -> dict[str, Any]:
        """``prog_ids``, ``link_ids``, ``prog_attach_flags`` (lists), ``attach_flags``, ``revision``."""

    def prog_bind_map(self, prog_fd: int, map_fd: int) -> None: ...

    def prog_stream_read_by_fd(self, fd: int, stream: int, size: int) -> bytes: ...

    def prog_assoc_struct_ops(self, map_fd: int, prog_fd: int, flags: int = 0) -> None: ...

    def raw_tracepoint_open(self, prog_fd: int, name: str | None = None, cookie: int = 0) -> int: ...

    # --- BTF ----------------------------------------------------------------------------------

    def btf_load(self, btf: Buffer, *, log_level: int = 0, **attr: int) -> int: ...

    # --- links --------------------------------------------------------------------------------

    def link_create(
        self, prog_fd: int, target: int, attach_type: int, flags: int = 0, **attr: int | bytes
    ) -> int:
        """A link's descriptor. ``target`` is a descriptor or an interface index as the type wants;
        ``attr``: the type's own fields by their dotted names in `skep.uapi.attr`, with "__" for the
        dot (``tracing__target_btf_id``); bytes are passed by pointer.
        """

    def link_update(self, link_fd: int, new_fd: int, flags: int = 0, old_fd: int | None = None) -> None:
        """Replace the program (of a struct_ops link: the map) atomically."""

    def link_detach(self, link_fd: int) -> None: ...

    def iter_create(self, link_fd: int) -> int: ...

    # --- objects by id, and pins --------------------------------------------------------------

    def obj_pin(self, fd: int, path: str, flags: int = 0) -> None: ...

    def obj_get(self, path: str, flags: int = 0) -> int: ...

    def get_next_id(self, kind: str, start: int) -> int | None:
        """The next id after ``start`` of ``kind`` "prog", "map", "btf" or "link"; None at the end."""

    def get_fd_by_id(self, kind: str, id: int, flags: int = 0) -> int: ...

    def obj_get_info_by_fd(self, fd: int, kind: str, request: dict[str, int | Buffer] | None = None) -> bytes:
        """The info struct of ``kind`` ("prog", "map", "btf", "link"), as long as the kernel fills it.

        ``request`` presets fields: counts as numbers, and buffers to fill by address as bytearrays.
        """

    def task_fd_query(self, pid: int, fd: int) -> dict[str, Any]: ...

    def enable_stats(self, kind: int = 0) -> int: ...

    def token_create(self, bpffs_fd: int, flags: int = 0) -> int: ...

    # --- attaching ----------------------------------------------------------------------------

    def attach(self, program: Program, *target: Any, **options: Any) -> Link:
        """Attach by the program's type and section; one module for each hook knows how."""

    # --- beside bpf(2) ------------------------------------------------------------------------

    def perf_event_open(
        self, attr: bytes, pid: int = -1, cpu: int = -1, group_fd: int = -1, flags: int = 0
    ) -> int: ...

    def perf_event_ioctl(self, fd: int, request: int, argument: int | bytes = 0) -> None: ...

    def mmap(
        self, fd: int, length: int, *, writable: bool = False, offset: int = 0, address: int = 0
    ) -> memoryview:
        """Map a map's memory (array, ring buffer, arena) or a perf buffer; released by `munmap`.

        ``address``: there and nowhere else (EEXIST when something is there).
        """

    def munmap(self, view: memoryview) -> None: ...

    def poll(self, fds: dict[int, int], timeout_ms: int) -> list[tuple[int, int]]:
        """Wait as poll(2) does; (descriptor, events) of those ready."""

    def read(self, fd: int, size: int) -> bytes:
        """Read from an iterator or a perf event."""

    def setsockopt(self, sock_fd: int, level: int, option: int, value: int | bytes) -> None:
        """Attach to a socket (SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_FILTER)."""

    def dup(self, fd: int) -> int: ...

    def close(self, fd: int) -> None: ...
