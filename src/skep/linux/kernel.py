"""The live kernel: `Kernel` by system calls. The one place that packs `union bpf_attr`."""

from __future__ import annotations

import errno
import mmap as _mmap
import os
import select
import struct

from skep.errors import KernelError
from skep.kernel.protocol import Buffer, TestRun
from skep.linux.calls import Pinned, bpf, map_at, numbers, syscall, unmap
from skep.linux.reasons import refused
from skep.uapi.attr import ATTR, INFO
from skep.uapi.enums import Cmd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.kernel.link import Link
    from skep.kernel.program import Program

_LOG_BYTES: Final = 1 << 16
#: the largest the kernel takes (UINT_MAX >> 2)
_LOG_BYTES_MAX: Final = 0x3FFFFFFF
_PROG_IDS: Final = 64
_INFO_BYTES: Final = 512
_NEXT_ID: Final = {
    "prog": Cmd.PROG_GET_NEXT_ID,
    "map": Cmd.MAP_GET_NEXT_ID,
    "btf": Cmd.BTF_GET_NEXT_ID,
    "link": Cmd.LINK_GET_NEXT_ID,
}
_FD_BY_ID: Final = {
    "prog": Cmd.PROG_GET_FD_BY_ID,
    "map": Cmd.MAP_GET_FD_BY_ID,
    "btf": Cmd.BTF_GET_FD_BY_ID,
    "link": Cmd.LINK_GET_FD_BY_ID,
}
#: map_fd, key, value or next_key, flags
_ELEM = struct.Struct("=I4xQQQ")
#: start_id, next_id, open_flags
_ID = struct.Struct("=III4x")
#: bpf_fd, info_len, info
_INFO = struct.Struct("=IIQ")


class LinuxKernel:
    """bpf(2) of the running kernel. Descriptors are the process's own."""

    name = "linux"

    def __init__(self) -> None:
        release = os.uname().release.split("-")[0].split(".")
        self.version = (int(release[0]), int(release[1]))
        self.cpus = _possible_cpus()
        self._mapped: dict[int, _mmap.mmap] = {}

    # --- the call -----------------------------------------------------------------------------

    def _bpf(self, cmd: Cmd, attr: bytearray | bytes, pinned: Pinned, *, what: str = "") -> int:
        answer, code = bpf(cmd, pinned(attr), len(attr))
        if code:
            raise refused(code, cmd.c_name, what)
        return answer

    def _elem(self, cmd: Cmd, fd: int, key: Buffer | None, value: Buffer | None, flags: int) -> None:
        pinned = Pinned()
        attr = bytearray(
            _ELEM.pack(
                fd,
                pinned(key) if key is not None else 0,
                pinned(value) if value is not None else 0,
                flags,
            )
        )
        self._bpf(cmd, attr, pinned)

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
        values: dict[str, int | bytes] = {
            "map_type": map_type,
            "key_size": key_size,
            "value_size": value_size,
            "max_entries": max_entries,
            "map_flags": map_flags,
            "map_name": object_name(name),
            **attr,
        }
        return self._bpf(Cmd.MAP_CREATE, ATTR["map_create"].pack(values), Pinned())

    def map_lookup_elem(self, fd: int, key: Buffer, value: bytearray, flags: int = 0) -> None:
        self._elem(Cmd.MAP_LOOKUP_ELEM, fd, key, value, flags)

    def map_update_elem(self, fd: int, key: Buffer, value: Buffer, flags: int = 0) -> None:
        self._elem(Cmd.MAP_UPDATE_ELEM, fd, key, value, flags)

    def map_delete_elem(self, fd: int, key: Buffer, flags: int = 0) -> None:
        self._elem(Cmd.MAP_DELETE_ELEM, fd, key, None, flags)

    def map_get_next_key(self, fd: int, key: Buffer | None, next_key: bytearray) -> None:
        self._elem(Cmd.MAP_GET_NEXT_KEY, fd, key, next_key, 0)

    def map_lookup_and_delete_elem(self, fd: int, key: Buffer, value: bytearray, flags: int = 0) -> None:
        self._elem(Cmd.MAP_LOOKUP_AND_DELETE_ELEM, fd, key, value, flags)

    def map_freeze(self, fd: int) -> None:
        self._elem(Cmd.MAP_FREEZE, fd, None, None, 0)

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
        cmd = Cmd.MAP_LOOKUP_AND_DELETE_BATCH if delete else Cmd.MAP_LOOKUP_BATCH
        try:
            return self._batch(cmd, fd, keys, values, count, elem_flags, in_batch, out_batch), False
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            return error.count, True

    def map_update_batch(
        self, fd: int, keys: Buffer, values: Buffer, count: int, *, elem_flags: int = 0
    ) -> int:
        return self._batch(Cmd.MAP_UPDATE_BATCH, fd, keys, values, count, elem_flags)

    def map_delete_batch(self, fd: int, keys: Buffer, count: int, *, elem_flags: int = 0) -> int:
        return self._batch(Cmd.MAP_DELETE_BATCH, fd, keys, None, count, elem_flags)

    def _batch(
        self,
        cmd: Cmd,
        fd: int,
        keys: Buffer,
        values: Buffer | None,
        count: int,
        elem_flags: int,
        in_batch: Buffer | None = None,
        out_batch: bytearray | None = None,
    ) -> int:
        layout = ATTR["batch"]
        pinned = Pinned()
        attr = layout.pack(
            {
                "in_batch": pinned(in_batch) if in_batch is not None else 0,
                "out_batch": pinned(out_batch) if out_batch is not None else 0,
                "keys": pinned(keys),
                "values": pinned(values) if values is not None else 0,
                "count": count,
                "map_fd": fd,
                "elem_flags": elem_flags,
            }
        )
        try:
            self._bpf(cmd, attr, pinned)
        except KernelError as error:
            # The kernel says how far it came; a refusal up front leaves the count alone.
            error.count = _number(layout.unpack(attr)["count"]) if error.errno != errno.EFAULT else 0
            raise
        return _number(layout.unpack(attr)["count"])

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
        values: dict[str, int | bytes] = {
            "prog_type": prog_type,
            "insn_cnt": len(insns) // 8,
            "expected_attach_type": expected_attach_type,
            "prog_flags": prog_flags,
            "prog_name": object_name(name),
            **attr,
        }
        pinned = Pinned()
        values["insns"] = pinned(insns)
        values["license"] = pinned(license.encode() + b"\0")
        if fd_array:
            values["fd_array"] = pinned(struct.pack(f"={len(fd_array)}i", *fd_array))
        for field, data, record in (
            ("func_info", func_info, func_info_rec_size),
            ("line_info", line_info, line_info_rec_size),
            ("core_relos", core_relos, core_relo_rec_size),
        ):
            if data and record:
                stem = field.removesuffix("s")
                values |= {
                    field: pinned(data),
                    f"{stem}_rec_size": record,
                    f"{stem}_cnt": len(data) // record,
                }
        level, size = log_level, _LOG_BYTES
        while True:
            log = bytearray(size if level else 0)
            extra = {"log_level": level, "log_size": len(log), "log_buf": pinned(log)} if level else {}
            try:
                fd = self._bpf(Cmd.PROG_LOAD, ATTR["prog_load"].pack(values | extra), pinned)
                return fd, _text(log)
            except KernelError as error:
                if error.errno == errno.ENOSPC and level and size < _LOG_BYTES_MAX:
                    size = min(size * 16, _LOG_BYTES_MAX)
                elif not level and error.errno not in (errno.EPERM, errno.ENOSYS):
                    level = 1
                else:
                    raise with_log(error, _text(log)) from None

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
        layout = ATTR["test"]
        pinned = Pinned()
        out, ctx_in, ctx_out = bytearray(data_out), bytearray(ctx), bytearray(len(ctx))
        values: dict[str, int | bytes] = {
            "prog_fd": fd,
            "data_size_in": len(data),
            "data_size_out": data_out,
            "data_in": pinned(data),
            "data_out": pinned(out),
            # one run: 0 means the same, and types that cannot repeat insist on it
            "repeat": repeat if repeat > 1 else 0,
            "ctx_size_in": len(ctx),
            "ctx_size_out": len(ctx_out),
            "ctx_in": pinned(ctx_in),
            "ctx_out": pinned(ctx_out),
            "flags": flags,
            "cpu": cpu,
            "batch_size": batch_size,
        }
        attr = layout.pack(values)
        try:
            self._bpf(Cmd.PROG_TEST_RUN, attr, pinned)
        except KernelError as error:
            if error.errno != errno.EINVAL or not ctx or data or data_out:
                raise
            # Types whose context is only read, or changed in place (syscall), take no second buffer.
            attr = layout.pack(values | {"ctx_out": 0, "ctx_size_out": 0})
            self._bpf(Cmd.PROG_TEST_RUN, attr, pinned)
            done = layout.unpack(attr)
            return TestRun(_number(done["retval"]), _number(done["duration"]), b"", bytes(ctx_in))
        done = layout.unpack(attr)
        return TestRun(
            _number(done["retval"]),
            _number(done["duration"]),
            bytes(out[: _number(done["data_size_out"])]),
            bytes(ctx_out[: _number(done["ctx_size_out"])]),
        )

    def prog_attach(self, target: int, prog_fd: int, attach_type: int, flags: int = 0, **attr: int) -> None:
        self._attach(Cmd.PROG_ATTACH, target, prog_fd, attach_type, flags, attr)

    def prog_detach(self, target: int, prog_fd: int, attach_type: int, flags: int = 0, **attr: int) -> None:
        self._attach(Cmd.PROG_DETACH, target, prog_fd, attach_type, flags, attr)

    def _attach(
        self, cmd: Cmd, target: int, prog_fd: int, attach_type: int, flags: int, attr: dict[str, int]
    ) -> None:
        values: dict[str, int | bytes] = {
            "target_fd": target,
            "attach_bpf_fd": prog_fd,
            "attach_type": attach_type,
            "attach_flags": flags,
            **attr,
        }
        self._bpf(cmd, ATTR["prog_attach"].pack(values), Pinned())

    def prog_query(self, target: int, attach_type: int, flags: int = 0) -> dict[str, Any]:
        layout = ATTR["query"]
        count = _PROG_IDS
        while True:
            pinned = Pinned()
            lists = {
                n: bytearray(4 * count)
                for n in ("prog_ids", "prog_attach_flags", "link_ids", "link_attach_flags")
            }
            # cgroup hooks refuse the fields that only tcx and netkit fill.
            multi = attach_type in _MPROG_TYPES
            attr = layout.pack(
                {
                    "target_fd": target,
                    "attach_type": attach_type,
                    "query_flags": flags,
                    "prog_cnt": count,
                    "prog_ids": pinned(lists["prog_ids"]),
                    **(
                        {n: pinned(lists[n]) for n in ("prog_attach_flags", "link_ids", "link_attach_flags")}
                        if multi
                        else {}
                    ),
                }
            )
            try:
                self._bpf(Cmd.PROG_QUERY, attr, pinned)
            except KernelError as error:
                if error.errno != errno.ENOSPC or count >= 1 << 16:
                    raise
                count *= 8
                continue
            done = layout.unpack(attr)
            found = _number(done["prog_cnt"])
            return {
                "attach_flags": done["attach_flags"],
                "revision": done.get("revision", 0),
                **{n: list(struct.unpack_from(f"={found}I", data)) for n, data in lists.items()},
            }

    def prog_bind_map(self, prog_fd: int, map_fd: int) -> None:
        attr = ATTR["prog_bind_map"].pack({"prog_fd": prog_fd, "map_fd": map_fd})
        self._bpf(Cmd.PROG_BIND_MAP, attr, Pinned())

    def prog_stream_read_by_fd(self, fd: int, stream: int, size: int) -> bytes:
        pinned = Pinned()
        out = bytearray(size)
        attr = ATTR["prog_stream_read"].pack(
            {"stream_buf": pinned(out), "stream_buf_len": size, "stream_id": stream, "prog_fd": fd}
        )
        return bytes(out[: self._bpf(Cmd.PROG_STREAM_READ_BY_FD, attr, pinned)])

    def prog_assoc_struct_ops(self, map_fd: int, prog_fd: int, flags: int = 0) -> None:
        attr = ATTR["prog_assoc_struct_ops"].pack({"map_fd": map_fd, "prog_fd": prog_fd, "flags": flags})
        self._bpf(Cmd.PROG_ASSOC_STRUCT_OPS, attr, Pinned())

    def raw_tracepoint_open(self, prog_fd: int, name: str | None = None, cookie: int = 0) -> int:
        pinned = Pinned()
        values: dict[str, int | bytes] = {"prog_fd": prog_fd, "cookie": cookie}
        if name is not None:
            values["name"] = pinned(name.encode() + b"\0")
        attr = ATTR["raw_tracepoint"].pack(values)
        return self._bpf(Cmd.RAW_TRACEPOINT_OPEN, attr, pinned)

    # --- BTF ----------------------------------------------------------------------------------

    def btf_load(self, btf: Buffer, *, log_level: int = 0, **attr: int) -> int:
        pinned = Pinned()
        values: dict[str, int | bytes] = {"btf": pinned(btf), "btf_size": len(btf), **attr}
        level, size = log_level, _LOG_BYTES
        while True:
            log = bytearray(size if level else 0)
            names = {"btf_log_level": level, "btf_log_size": len(log), "btf_log_buf": pinned(log)}
            try:
                return self._bpf(
                    Cmd.BTF_LOAD, ATTR["btf_load"].pack(values | (names if level else {})), pinned
                )
            except KernelError as error:
                if error.errno == errno.ENOSPC and level and size < _LOG_BYTES_MAX:
                    size = min(size * 16, _LOG_BYTES_MAX)
                elif not level and error.errno not in (errno.EPERM, errno.ENOSYS):
                    level = 1
                else:
                    raise with_log(error, _text(log)) from None

    # --- links --------------------------------------------------------------------------------

    def link_create(
        self, prog_fd: int, target: int, attach_type: int, flags: int = 0, **attr: int | bytes
    ) -> int:
        pinned = Pinned()
        values: dict[str, int | bytes] = {
            "prog_fd": prog_fd,
            "target_fd": target,
            "attach_type": attach_type,
            "flags": flags,
        }
        for name, value in attr.items():
            values[name.replace("__", ".")] = value if isinstance(value, int) else pinned(value)
        return self._bpf(Cmd.LINK_CREATE, ATTR["link_create"].pack(values), pinned)

    def link_update(self, link_fd: int, new_fd: int, flags: int = 0, old_fd: int | None = None) -> None:
        values: dict[str, int | bytes] = {"link_fd": link_fd, "new_prog_fd": new_fd, "flags": flags}
        if old_fd is not None:
            values["old_prog_fd"] = old_fd
        self._bpf(Cmd.LINK_UPDATE, ATTR["link_update"].pack(values), Pinned())

    def link_detach(self, link_fd: int) -> None:
        self._bpf(Cmd.LINK_DETACH, ATTR["link_detach"].pack({"link_fd": link_fd}), Pinned())

    def iter_create(self, link_fd: int) -> int:
        return self._bpf(Cmd.ITER_CREATE, ATTR["iter_create"].pack({"link_fd": link_fd}), Pinned())

    # --- objects by id, and pins --------------------------------------------------------------

    def obj_pin(self, fd: int, path: str, flags: int = 0) -> None:
        self._obj(Cmd.OBJ_PIN, {"bpf_fd": fd}, path, flags)

    def obj_get(self, path: str, flags: int = 0) -> int:
        return self._obj(Cmd.OBJ_GET, {}, path, flags)

    def _obj(self, cmd: Cmd, values: dict[str, int | bytes], path: str, flags: int) -> int:
        pinned = Pinned()
        if "\0" in path:
            raise KernelError(errno.EINVAL, f"{path!r}: a zero byte in a path", cmd=cmd.c_name)
        values = {**values, "pathname": pinned(os.fsencode(path) + b"\0"), "file_flags": flags}
        return self._bpf(cmd, ATTR["obj"].pack(values), pinned, what=path)

    def get_next_id(self, kind: str, start: int) -> int | None:
        attr = bytearray(_ID.pack(start, 0, 0))
        try:
            self._bpf(_NEXT_ID[kind], attr, Pinned())
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        found: int = _ID.unpack(attr)[1]
        return found

    def get_fd_by_id(self, kind: str, id: int, flags: int = 0) -> int:
        if not 0 <= id < 1 << 32:
            raise KernelError(errno.ENOENT, f"no {kind} has id {id}", cmd=_FD_BY_ID[kind].c_name)
        return self._bpf(_FD_BY_ID[kind], _ID.pack(id, 0, flags), Pinned(), what=f"{kind} {id}")

    def obj_get_info_by_fd(self, fd: int, kind: str, request: dict[str, int | Buffer] | None = None) -> bytes:
        layout = INFO[f"bpf_{kind}_info"]
        pinned = Pinned()
        fields = {n: v if isinstance(v, int) else pinned(v) for n, v in (request or {}).items()}
        # Room beyond the layout: a newer kernel that knows more fields must find zeros, not an error.
        info = layout.pack(fields)
        info += bytes(max(0, _INFO_BYTES - layout.size))
        attr = bytearray(_INFO.pack(fd, len(info), pinned(info)))
        try:
            self._bpf(Cmd.OBJ_GET_INFO_BY_FD, attr, pinned)
        except KernelError as error:
            if error.errno == errno.E2BIG and kind == "btf" and request and "name" in request:
                # Before Linux 5.11 BTF has no name, and asking for one is refused.
                rest = {name: value for name, value in request.items() if not name.startswith("name")}
                return self.obj_get_info_by_fd(fd, kind, rest)
            raise
        return bytes(info[: _INFO.unpack(attr)[1]])

    def task_fd_query(self, pid: int, fd: int) -> dict[str, Any]:
        layout = ATTR["task_fd_query"]
        pinned = Pinned()
        name = bytearray(4096)
        attr = layout.pack({"pid": pid, "fd": fd, "buf_len": len(name), "buf": pinned(name)})
        self._bpf(Cmd.TASK_FD_QUERY, attr, pinned)
        done = layout.unpack(attr)
        return {
            "prog_id": done["prog_id"],
            "fd_type": done["fd_type"],
            "name": _text(name),
            "probe_offset": done["probe_offset"],
            "probe_addr": done["probe_addr"],
        }

    def enable_stats(self, kind: int = 0) -> int:
        return self._bpf(Cmd.ENABLE_STATS, ATTR["enable_stats"].pack({"type": kind}), Pinned())

    def token_create(self, bpffs_fd: int, flags: int = 0) -> int:
        attr = ATTR["token_create"].pack({"flags": flags, "bpffs_fd": bpffs_fd})
        return self._bpf(Cmd.TOKEN_CREATE, attr, Pinned())

    # --- attaching ----------------------------------------------------------------------------

    def attach(self, program: Program, *target: Any, **options: Any) -> Link:
        from skep.linux.links import attach

        return attach(self, program, *target, **options)

    # --- beside bpf(2) ------------------------------------------------------------------------

    def perf_event_open(
        self, attr: bytes, pid: int = -1, cpu: int = -1, group_fd: int = -1, flags: int = 0
    ) -> int:
        pinned = Pinned()
        fd, code = syscall(numbers()[1], pinned(attr), pid, cpu, group_fd, flags)
        if code:
            raise refused(code, "perf_event_open")
        return fd

    def perf_event_ioctl(self, fd: int, request: int, argument: int | bytes = 0) -> None:
        import fcntl

        try:
            fcntl.ioctl(fd, request, argument)
        except OSError as error:
            raise refused(error.errno or 0, "perf event ioctl") from None

    def mmap(
        self, fd: int, length: int, *, writable: bool = False, offset: int = 0, address: int = 0
    ) -> memoryview:
        access = _mmap.PROT_READ | (_mmap.PROT_WRITE if writable else 0)
        if address:
            return map_at(address, length, access, fd, offset)
        try:
            mapped = _mmap.mmap(fd, length, _mmap.MAP_SHARED, access, offset=offset)
        except OSError as error:
            raise refused(error.errno or 0, "mmap") from None
        view = memoryview(mapped)
        self._mapped[id(view)] = mapped
        return view

    def munmap(self, view: memoryview) -> None:
        mapped = self._mapped.pop(id(view), None)
        if mapped is None:
            unmap(view)
            return
        try:
            view.release()
            mapped.close()
        except BufferError:
            pass  # someone still looks at it (a NumPy array over a batch): it goes with the last of them

    def poll(self, fds: dict[int, int], timeout_ms: int) -> list[tuple[int, int]]:
        poller = select.poll()
        for fd, events in fds.items():
            poller.register(fd, events)
        return poller.poll(timeout_ms)

    def read(self, fd: int, size: int) -> bytes:
        try:
            return os.read(fd, size)
        except OSError as error:
            raise refused(error.errno or 0, "read") from None

    def setsockopt(self, sock_fd: int, level: int, option: int, value: int | bytes) -> None:
        import socket

        try:
            copy = os.dup(sock_fd)
            try:
                sock = socket.socket(fileno=copy)
            except OSError:
                os.close(copy)
                raise
            with sock:
                sock.setsockopt(level, option, value)
        except OSError as error:
            raise refused(error.errno or 0, "setsockopt") from None

    def dup(self, fd: int) -> int:
        try:
            return os.dup(fd)
        except OSError as error:
            raise refused(error.errno or 0, "dup", f"descriptor {fd}") from None

    def close(self, fd: int) -> None:
        os.close(fd)


#: tcx ingress and egress, netkit primary and peer: hooks that keep an ordered list
_MPROG_TYPES: Final = frozenset({46, 47, 54, 55})


def object_name(name: str) -> bytes:
    """What the kernel takes as an object's name: at most 15 letters, digits, "_" and "."."""
    return bytes(
        c if chr(c).isalnum() or c in b"_." else ord("_") for c in name.encode("ascii", "replace")[:15]
    )


def with_log(error: KernelError, log: str) -> KernelError:
    """The same error, carrying ``log`` and, in its message, the line of it that says why."""
    told = [
        line.strip()
        for line in log.splitlines()
        if line.strip()
        and not line.startswith(("processed ", "verification time", "stack depth", "mark_precise"))
    ]
    fuller = error
    if told:
        fuller = KernelError(error.errno or 0, f"{error.reason}: {told[-1]}", cmd=error.cmd)
    fuller.log = log
    return fuller


def _text(data: bytearray) -> str:
    return bytes(data).split(b"\0", 1)[0].decode(errors="replace")


def _number(value: int | bytes) -> int:
    return value if isinstance(value, int) else int.from_bytes(value, "little")


def _possible_cpus() -> int:
    """How many CPUs can ever be present: the length of a per-CPU value. /sys says "0-3,6"."""
    try:
        with open("/sys/devices/system/cpu/possible", encoding="utf-8") as file:
            last = file.read().strip().split(",")[-1]
        return int(last.split("-")[-1]) + 1
    except (OSError, ValueError):
        return os.cpu_count() or 1
