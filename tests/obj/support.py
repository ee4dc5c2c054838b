"""What the object tests share: clang's objects, loading what skep links, and what the kernel makes of it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skep import obj
from skep.errors import SkepError
from skep.linux.kernel import LinuxKernel
from skep.uapi.enums import MapType
from tests.support import oracles

C = Path(__file__).parent / "c"
#: every compiler and instruction set that the objects are built for
BUILDS = [("14", "v1"), ("14", "v3"), ("19", "v2"), ("19", "v4")]
_INSN = struct.Struct("=BBhi")
_XLATED = 1 << 20


def compiled(
    source: str | Path, out: Path, clang: str = "19", cpu: str = "v3", *flags: str, debug: bool = True
) -> Path:
    """The object of ``source`` (a name in tests/obj/c, or a path)."""
    path = source if isinstance(source, Path) else C / source
    command = [oracles.tool(f"clang-{clang}"), "-O2", "-target", "bpf", f"-mcpu={cpu}", f"-I{C}", *flags]
    command += ["-g"] if debug else []
    out = out / f"{path.stem}.o" if out.is_dir() else out
    done = subprocess.run(
        [*command, "-Wno-everything", "-c", path, "-o", out], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


def written(folder: Path, name: str, text: str) -> Path:
    """A C file of this text that sees bpf.h."""
    path = folder / name
    path.write_text(f'#include "bpf.h"\n{text}')
    return path


class Loaded:
    """Descriptors of what `load` made."""

    def __init__(self, kernel: LinuxKernel) -> None:
        self.kernel = kernel
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}

    def map_names(self) -> dict[int, str]:
        """Map id -> the kernel's name of it."""
        found = {}
        for fd in self.maps.values():
            info = self.kernel.obj_get_info_by_fd(fd, "map")
            found[struct.unpack_from("=I", info, 4)[0]] = info[24:40].split(b"\0")[0].decode()
        return found

    def xlated(self, name: str) -> list[tuple[int, ...]]:
        """The program's instructions as the kernel keeps them, maps by name."""
        return by_name(xlated(self.kernel, self.programs[name]), self.map_names())


def xlated(kernel: LinuxKernel, fd: int) -> bytes:
    """A loaded program's instructions as the kernel shows them."""
    code = bytearray(_XLATED)
    info = kernel.obj_get_info_by_fd(fd, "prog", {"xlated_prog_len": len(code), "xlated_prog_insns": code})
    return bytes(code[: struct.unpack_from("=I", info, 20)[0]])


def by_name(code: bytes, maps: dict[int, str]) -> list[tuple[Any, ...]]:
    """Instructions with map ids replaced by names."""
    out: list[tuple[Any, ...]] = []
    for op, regs, off, imm in _INSN.iter_unpack(code):
        if op == 0x18 and regs >> 4 in (1, 2):
            imm = maps.get(imm, imm)
        out.append((op, regs, off, imm))
    return out


@contextlib.contextmanager
def load(
    spec: obj.ObjectSpec, *names: str, target: obj.CoreTarget | None = None, **attr: int
) -> Iterator[Loaded]:
    """Create the maps of ``spec`` and load its programs (those ``names``, or all)."""
    kernel = LinuxKernel()
    loaded = Loaded(kernel)
    fds: list[int] = []
    try:
        btf = kernel.btf_load(obj.kernel_btf(spec)) if spec.btf is not None else 0
        fds += [btf] if btf else []
        if ".kconfig" in spec.maps:
            obj.fill_kconfig(spec)
        for key, made in spec.maps.items():
            fd = loaded.maps[key] = _create(kernel, made, btf)
            fds.append(fd)
            if made.data is not None:
                kernel.map_update_elem(fd, bytes(4), bytes(made.data))
        target = target or obj.CoreTarget.kernel()
        for name in names or [n for n, p in spec.programs.items() if p.autoload]:
            linked = obj.link_program(spec, name, target=target)
            for ref in linked.map_refs:
                linked.set_map(ref, loaded.maps[ref.map])
            fd, _ = prog_load(kernel, linked, btf, **attr)
            loaded.programs[name] = fd
            fds.append(fd)
        yield loaded
    finally:
        for fd in fds:
            kernel.close(fd)


def prog_load(kernel: LinuxKernel, linked: obj.LinkedProgram, btf: int = 0, **attr: int) -> tuple[int, str]:
    """Load one program, with its BTF records where there is BTF."""
    if btf and linked.func_infos:
        attr |= {"prog_btf_fd": btf, "func_info_rec_size": 8, "line_info_rec_size": 16}
    records: dict[str, Any] = {}
    if btf and linked.func_infos:
        records = {"func_info": linked.func_info(), "line_info": linked.line_info()}
    if linked.spec.attach_type is not None:
        attr["expected_attach_type"] = int(linked.spec.attach_type)
    if linked.spec.type == 26:  # TRACING
        from skep.btf import Btf

        name = (
            f"btf_trace_{linked.spec.attach_to}"
            if linked.spec.hook.startswith("tp_btf")
            else linked.spec.attach_to
        )
        attr["attach_btf_id"] = Btf.kernel().require(name)
    return kernel.prog_load(
        int(linked.spec.type),
        bytes(linked.code),
        linked.object.license or "GPL",
        name=linked.spec.name[:15],
        prog_flags=linked.spec.flags,
        **records,
        **attr,
    )


def _create(kernel: LinuxKernel, made: obj.MapSpec, btf: int) -> int:
    attr: dict[str, int] = {"map_extra": made.extra} if made.extra else {}
    if btf and (made.key_type_id or made.value_type_id) and made.type in (MapType.HASH, MapType.ARRAY):
        attr |= {
            "btf_fd": btf,
            "btf_key_type_id": made.key_type_id,
            "btf_value_type_id": made.value_type_id,
        }
    inner = 0
    if made.inner is not None:
        inner = attr["inner_map_fd"] = _create(kernel, made.inner, 0)
    try:
        return kernel.map_create(
            int(made.type),
            made.key_size,
            made.value_size,
            made.max_entries,
            made.flags,
            name=made.kernel_name[:15],
            **attr,
        )
    finally:
        if inner:
            kernel.close(inner)


_SCRIPT = """
set -e
mount -t bpf bpf "$1"
"$2" prog loadall "$3" "$1/p" >&2
for pin in "$1"/p/*; do
  name=${pin##*/}
  echo "prog $name"
  "$2" -j prog show pinned "$pin"; echo
  "$2" prog dump xlated pinned "$pin" file "$4/$name.x" >&2
done
"$2" -j map show > "$4/maps.json"
"""


class Reference:
    """What bpftool (libbpf) made of an object: programs' instructions, and their maps by id."""

    def __init__(self, programs: dict[str, list[tuple[Any, ...]]], maps: dict[str, dict[str, Any]]) -> None:
        self.programs = programs
        self.maps = maps


def bpftool_load(path: Path, folder: Path) -> Reference:
    """Load ``path`` with bpftool in a mount namespace of its own; gone again when this returns."""
    oracles.bpf()
    mount, out = folder / "bpffs", folder / "xlated"
    mount.mkdir(exist_ok=True)
    out.mkdir(exist_ok=True)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", _SCRIPT, "sh", mount, oracles.tool("bpftool"), path, out],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SkepError(f"bpftool: {done.stderr}")
    lines = [line for line in done.stdout.splitlines() if line]
    known = {row["id"]: row for row in json.loads((out / "maps.json").read_text())}
    programs, maps = {}, {}
    for head, shown in zip(lines[::2], lines[1::2], strict=True):
        name = head.removeprefix("prog ")
        # Only ids of this object's programs are looked at: others on the machine are none of ours.
        own = {id: known[id] for id in json.loads(shown).get("map_ids", []) if id in known}
        maps |= {row["name"]: row for row in own.values()}
        code = (out / f"{name}.x").read_bytes()
        programs[name] = by_name(code, {id: row["name"] for id, row in own.items()})
    return Reference(programs, maps)


@functools.cache
def seed() -> int:
    """SKEP_SEED, or a fixed number."""
    return int(os.environ.get("SKEP_SEED", "20240229"))
