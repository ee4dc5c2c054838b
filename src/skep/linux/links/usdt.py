"""USDT: probes that programs carry themselves, described by notes (.note.stapsdt, SystemTap's layout).

Attaching places a uprobe at every site of PROVIDER:NAME and raises the probe's semaphore. Programs built
with <bpf/usdt.bpf.h> read arguments through two maps, `__bpf_usdt_specs` (number -> where the arguments
are) and before cookies `__bpf_usdt_ip_to_spec_id`; they are found by these names, or passed as ``specs`` and
``ips``. Without them the program gets the ``cookie`` itself, and `Site.args` says where the arguments are.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack

from skep.errors import ElfError, KernelError
from skep.kernel.handle import forked_from
from skep.kernel.link import Link
from skep.linux.links.common import GroupLink, absent, bad, close_all, older
from skep.linux.links.elfsym import ElfFile, find_binary
from skep.linux.links.probe import attach_probe
from skep.linux.links.usdt_args import Arg, pack_spec, parse
from skep.plain import NamedTuple
from skep.uapi.attr import INFO
from skep.uapi.enums import AttachType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_NT_STAPSDT: Final = 3
_ET_EXEC: Final = 2


class Site(NamedTuple):
    """A place where a probe fires: file offsets of its NOP and its semaphore (0 without), its arguments."""

    provider: str
    name: str
    offset: int
    address: int
    semaphore: int
    text: str
    machine: int

    @property
    def args(self) -> list[Arg]:
        """Where the arguments are; FormatError for an operand that a program cannot read."""
        return parse(self.text, self.machine)


def sites(path: str, provider: str | None = None, name: str | None = None) -> list[Site]:
    """The USDT sites of a binary, those of ``provider`` and ``name`` where given, in the notes' order."""
    with ElfFile(path) as elf:
        section = elf.section(".note.stapsdt")
        if section is None:
            return []
        base = elf.section(".stapsdt.base")
        out = []
        for provider_, name_, text, numbers in _notes(elf, elf.contents(section), section.offset):
            if (provider or provider_) != provider_ or (name or name_) != name_:
                continue
            # prelink moves sections after the notes were written; the base says by how much
            shift = base.address - numbers[1] if base is not None and numbers[1] else 0
            address = numbers[0] + shift
            semaphore = elf.file_offset(numbers[2] + shift) if numbers[2] else 0
            out.append(
                Site(provider_, name_, elf.file_offset(address), address, semaphore, text, elf.machine)
            )
        return out


def _notes(elf: ElfFile, data: bytes, start: int) -> list[tuple[str, str, str, tuple[int, int, int]]]:
    """(provider, name, arguments, (address, base, semaphore)) of each note."""
    out = []
    word = "QQQ" if elf.wide else "III"
    at = 0
    while at + 12 <= len(data):
        owner_size, size, kind = struct.unpack_from(elf.order + "III", data, at)
        owner_at = at + 12
        body_at = owner_at + (owner_size + 3 & ~3)
        if body_at + size > len(data):
            raise ElfError("a note runs past its section", path=elf.path, offset=start + at)
        owner = data[owner_at : owner_at + owner_size].rstrip(b"\0")
        body = data[body_at : body_at + size]
        if owner == b"stapsdt" and kind == _NT_STAPSDT:
            head = struct.calcsize(elf.order + word)
            parts = body[head:].split(b"\0")
            if len(body) < head or len(parts) < 3:
                raise ElfError("a USDT note is too short", path=elf.path, offset=start + at)
            provider, name, text = (part.decode(errors="replace") for part in parts[:3])
            address, base, semaphore = struct.unpack_from(elf.order + word, body)
            out.append((provider, name, text, (address, base, semaphore)))
        at = body_at + (size + 3 & ~3)
    return out


def attach(
    kernel: Kernel,
    program: Program,
    binary: str | None = None,
    provider: str | None = None,
    name: str | None = None,
    *,
    pid: int = -1,
    cookie: int = 0,
    specs: Any = None,
    ips: Any = None,
) -> Link:
    """Attach to every site of ``provider``:``name`` in ``binary``; by default what the section says.

    Args:
        binary: a path, or the name of a program or library.
        pid: one process (0: this one); -1: all.
        cookie: what bpf_usdt_cookie() gives the program (without ``specs``: bpf_get_attach_cookie()).
        specs, ips: the maps of <bpf/usdt.bpf.h> or their descriptors; by default the program's own.

    Raises:
        KernelError: ENOENT, no such probe in the binary.
        FormatError: with ``specs``, an argument that no program can read.
        NotSupported: semaphores before Linux 4.20; without cookies (5.15), libraries need ``pid``.
    """
    path, provider, name = _names(program, binary, provider, name)
    found = sites(path, provider, name)
    if not found:
        raise KernelError(2, f"{path} has no USDT probe {provider}:{name}")
    pid = os.getpid() if pid == 0 else pid
    with ExitStack() as opened:
        if specs is None:
            specs = _own_map(kernel, program, "__bpf_usdt_specs", opened)
        if ips is None:
            ips = _own_map(kernel, program, "__bpf_usdt_ip_to_spec_id", opened)
        table = _Specs(kernel, specs, ips) if specs is not None else None
        return _attach_sites(kernel, program, path, f"{provider}:{name}", found, pid, cookie, table)


def _attach_sites(
    kernel: Kernel,
    program: Program,
    path: str,
    what: str,
    found: list[Site],
    pid: int,
    cookie: int,
    table: _Specs | None,
) -> Link:
    links: list[Link] = []
    target = f"usdt {path}:{what}"
    if program.attach_type == AttachType.TRACE_UPROBE_MULTI:
        return _attach_at_once(kernel, program, path, target, found, pid, cookie, table)
    try:
        for site in found:
            mark = cookie
            if table is not None:
                number = table.add(pack_spec(site.args, cookie))
                mark = number
                if older(kernel, "5.15"):
                    table.add_address(_absolute(path, site, pid), number)
                    mark = 0
            links.append(
                attach_probe(
                    kernel,
                    program,
                    "uprobe",
                    path,
                    site.offset,
                    ret=False,
                    target=target,
                    pid=pid,
                    cookie=mark,
                    ref_ctr_offset=site.semaphore,
                )
            )
        return UsdtLink(links, table, target=target)
    except BaseException:
        close_all(links)
        if table is not None:
            table.release()
        raise


def _attach_at_once(
    kernel: Kernel,
    program: Program,
    path: str,
    target: str,
    found: list[Site],
    pid: int,
    cookie: int,
    table: _Specs | None,
) -> Link:
    """All sites by one link, for a program that was loaded for it."""
    from skep.linux.links.uprobe_multi import attach_offsets

    try:
        marks = [cookie if table is None else table.add(pack_spec(site.args, cookie)) for site in found]
        semaphores = [site.semaphore for site in found]
        link = attach_offsets(
            kernel,
            program,
            path,
            [site.offset for site in found],
            pid=pid,
            ret=False,
            cookies=marks if any(marks) else (),
            ref_ctr_offsets=semaphores if any(semaphores) else (),
        )
        try:
            return UsdtLink([link], table, target=target)
        except BaseException:
            link.close()
            raise
    except BaseException:
        if table is not None:
            table.release()
        raise


def _own_map(kernel: Kernel, program: Program, name: str, opened: ExitStack) -> int | None:
    """A descriptor of the map that the loaded program uses under ``name``, closed with ``opened``."""
    layout = INFO["bpf_prog_info"]
    total = layout.unpack(kernel.obj_get_info_by_fd(program.fd, "prog"))["nr_map_ids"]
    assert isinstance(total, int)
    if not total:
        return None
    ids = bytearray(4 * total)
    kernel.obj_get_info_by_fd(program.fd, "prog", {"nr_map_ids": total, "map_ids": ids})
    for (id,) in struct.iter_unpack("=I", ids):
        fd = kernel.get_fd_by_id("map", id)
        known = INFO["bpf_map_info"].unpack(kernel.obj_get_info_by_fd(fd, "map")).get("name", b"")
        if isinstance(known, bytes) and known.rstrip(b"\0") == name.encode()[:15]:
            opened.callback(kernel.close, fd)
            return fd
        kernel.close(fd)
    return None


def _names(
    program: Program, binary: str | None, provider: str | None, name: str | None
) -> tuple[str, str, str]:
    if binary is None or provider is None or name is None:
        parts = (binary or program.spec.attach_to).rsplit(":", 2)
        if len(parts) == 3 and provider is None:
            binary, provider, name = parts
    if not (binary and provider and name):
        bad(f"{program.name}: give the probe: attach('/usr/lib/libc.so.6', 'libc', 'setjmp')")
    return find_binary(binary), provider, name


class _Specs:
    """The maps through which usdt.bpf.h finds out where arguments are, and the slots that one link uses.

    Which slots are in use is known to the kernel handle, for all links made through it: a slot's contents
    do not say (a probe without arguments and cookie is all zeros).
    """

    def __init__(self, kernel: Kernel, specs: Any, ips: Any) -> None:
        self.kernel = kernel
        self.fd = kernel.dup(specs if isinstance(specs, int) else specs.fileno())
        try:
            self.ips = ips if ips is None or isinstance(ips, int) else ips.fileno()
            info = INFO["bpf_map_info"].unpack(kernel.obj_get_info_by_fd(self.fd, "map"))
        except BaseException:
            kernel.close(self.fd)
            raise
        self.room, self.size = _number(info["max_entries"]), _number(info["value_size"])
        #: number -> [links' uses, contents]
        self.used: dict[int, list[Any]] = (
            vars(kernel).setdefault("_usdt_slots", {}).setdefault(info["id"], {})
        )
        self.mine: list[int] = []

    def add(self, spec: bytes) -> int:
        """The number of the slot that holds ``spec``: one that has it already, or the first free one."""
        if len(spec) > self.size:
            bad(f"the map of USDT specs has values of {self.size} bytes, {len(spec)} are needed")
        spec = spec.ljust(self.size, b"\0")
        number = next((n for n, (_, contents) in self.used.items() if contents == spec), None)
        if number is None:
            number = self._free()
            self.kernel.map_update_elem(self.fd, struct.pack("=I", number), spec)
            self.used[number] = [0, spec]
        self.used[number][0] += 1
        self.mine.append(number)
        return number

    def _free(self) -> int:
        value = bytearray(self.size)
        for number in range(self.room):
            if number not in self.used:
                # someone else may share the map: what is not zero is theirs
                self.kernel.map_lookup_elem(self.fd, struct.pack("=I", number), value)
                if not any(value):
                    return number
        raise KernelError(7, f"the map of USDT specs is full ({self.room} entries)")

    def add_address(self, address: int, number: int) -> None:
        if self.ips is None:
            raise absent("USDT arguments without the map __bpf_usdt_ip_to_spec_id", "5.15")
        self.kernel.map_update_elem(self.ips, struct.pack("=q", address), struct.pack("=I", number))

    def release(self, *, keep: bool = False) -> None:
        """Give the slots back; with ``keep`` they stay taken (for a link that was pinned)."""
        mine, self.mine = self.mine, []
        try:
            for number in () if keep else mine:
                self.used[number][0] -= 1
                if not self.used[number][0]:
                    del self.used[number]
                    self.kernel.map_update_elem(self.fd, struct.pack("=I", number), bytes(self.size))
        finally:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                self.kernel.close(fd)


def _number(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value


class UsdtLink(GroupLink):
    """All sites of a probe, and the slots of their specs."""

    __slots__ = ("_maker", "_pinned", "_table")

    def __init__(self, links: list[Link], table: _Specs | None, *, target: str) -> None:
        super().__init__(links, target=target)
        self._table = table
        self._pinned = False
        self._maker = os.getpid()

    def pin(self, path: str) -> None:
        super().pin(path)
        self._pinned = True

    def close(self) -> None:
        table, self._table = self._table, None
        try:
            super().close()
        finally:
            if table is not None and not forked_from(self._maker):
                table.release(keep=self._pinned)


def _absolute(path: str, site: Site, pid: int) -> int:
    """The address of a site in memory: as linked in a fixed executable, else by the process's mappings."""
    with ElfFile(path) as elf:
        fixed = elf.kind == _ET_EXEC
    if fixed:
        return site.address
    if pid <= 0:
        raise absent("USDT arguments in a position-independent binary without pid=", "5.15")
    real = os.stat(path)
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            if len(fields) < 6 or int(fields[4]) != real.st_ino:
                continue
            first, last = (int(n, 16) for n in fields[0].split("-"))
            begin = int(fields[2], 16)
            if begin <= site.offset < begin + last - first:
                return first + site.offset - begin
    raise KernelError(2, f"process {pid} has not mapped {path}")
