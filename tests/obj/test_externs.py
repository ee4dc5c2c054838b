"""Externs: what libbpf fills in and skep's parts for a loader, side by side in the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep import obj
from skep.btf import Btf
from skep.errors import LinkError
from skep.linux.kernel import LinuxKernel
from skep.obj.kconfig import running_version, version_code
from skep.uapi.enums import MapType
from tests.obj import libbpf
from tests.obj.support import by_name, compiled, prog_load, written, xlated
from tests.support import oracles


def _address(name: str) -> int:
    for line in Path("/proc/kallsyms").read_text().splitlines():
        value, _, known = line.split()[:3]
        if known == name:
            return int(value, 16)
    return 0


@pytest.mark.parametrize("clang", ["14", "19"])
def test_as_libbpf_fills_them_in(clang: str, tmp_path: Path) -> None:
    oracles.bpf()
    path = compiled("externs.c", tmp_path, clang)
    spec = obj.read(path)
    kinds = {name: extern.kind for name, extern in spec.externs.items()}
    assert kinds["CONFIG_HZ"] == "kconfig" and kinds["runqueues_missing"] == "ksym_var"
    assert kinds["schedule"] == "ksym" and kinds["bpf_rcu_read_lock"] == "kfunc"
    size = spec.maps[".kconfig"].value_size
    with libbpf.loaded(path, {"prog"}) as theirs:
        (want,) = theirs.code({"prog"}).values()
        kconfig = theirs.map_value(".kconfig", size)
    obj.fill_kconfig(spec, has=["LINUX_HAS_BPF_COOKIE"])
    assert bytes(spec.maps[".kconfig"].data or b"") == kconfig
    assert _load(spec) == _blind(want)


def _load(spec: obj.ObjectSpec) -> list[tuple[object, ...]]:
    """Load with the parts a loader has, and give back the kernel's view."""
    kernel, types = LinuxKernel(), Btf.kernel()
    fds = [btf := kernel.btf_load(obj.kernel_btf(spec))]
    linked = obj.link_program(spec, "prog")
    try:
        maps = {}
        for name, made in spec.maps.items():
            maps[name] = kernel.map_create(int(MapType.ARRAY), 4, made.value_size, 1, made.flags)
            fds.append(maps[name])
        kernel.map_update_elem(maps[".kconfig"], bytes(4), spec.maps[".kconfig"].data or b"")
        kernel.map_freeze(maps[".kconfig"])
        for ref in linked.map_refs:
            linked.set_map(ref, maps[ref.map])
        for ref in linked.extern_refs:
            found = types.find(ref.name)
            if ref.is_call:
                linked.set_kfunc(ref.pc, found or 0)
            elif spec.externs[ref.name].kind == "ksym_var" and found:
                linked.set_value(ref.pc, found, pseudo=3, high=0)
            else:
                linked.set_value(ref.pc, _address(ref.name))
        fd, _ = prog_load(kernel, linked, btf)
        fds.append(fd)
        return _blind(by_name(xlated(kernel, fd), {}))
    finally:
        for fd in fds:
            kernel.close(fd)


def _blind(code: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Without the numbers of maps, which differ from load to load."""
    return [row[:3] if row[0] == 0x18 and int(str(row[1])) >> 4 in (1, 2) else row for row in code]


_CONFIG = """
    extern {type} CONFIG_IT __kconfig {weak};
    SEC("socket") int prog(void *ctx) {{ return (u64)&CONFIG_IT; }}
    LICENSE;"""


@pytest.mark.parametrize(
    ("type", "line", "value"),
    [
        ("u8", "y", b"y"), ("_Bool", "y", b"\1"), ("_Bool", "n", b"\0"), ("s32", "-7", b"\xf9\xff\xff\xff"),
        ("u32", "0x10", b"\x10\0\0\0"), ("u64", str((1 << 64) - 1), b"\xff" * 8), ("u16", "010", b"\x08\0"),
    ],
)  # fmt: skip
def test_values(type: str, line: str, value: bytes, tmp_path: Path) -> None:
    path = compiled(written(tmp_path, "config.c", _CONFIG.format(type=type, weak="")), tmp_path)
    spec = obj.read(path)
    obj.fill_kconfig(spec, lines=["# CONFIG_OTHER is not set", "CONFIG_OTHERS=1", f"CONFIG_IT={line}"])
    assert bytes(spec.maps[".kconfig"].data or b"") == value


@pytest.mark.parametrize(
    ("type", "line", "message"),
    [
        ("u32", "CONFIG_IT=y", "y does not fit its integer type"),
        ("_Bool", "CONFIG_IT=m", "m does not fit its bool type"),
        ("u16", "CONFIG_IT=65536", "65536 does not fit"),
        ("u16", "CONFIG_IT=-1", "-1 does not fit"),
        ("u32", 'CONFIG_IT="text"', "does not fit its integer type"),
        ("u32", "CONFIG_IT=1z", "1z does not fit"),
        ("u32", "CONFIG_ELSE=1", "does not set CONFIG_IT: declare it __weak"),
    ],
)
def test_misfits(type: str, line: str, message: str, tmp_path: Path) -> None:
    path = compiled(written(tmp_path, "config.c", _CONFIG.format(type=type, weak="")), tmp_path)
    with pytest.raises(LinkError, match=message):
        obj.fill_kconfig(obj.read(path), lines=[line])


def test_weak_values_stay_zero(tmp_path: Path) -> None:
    path = compiled(written(tmp_path, "config.c", _CONFIG.format(type="u32", weak="__weak")), tmp_path)
    spec = obj.read(path)
    obj.fill_kconfig(spec, lines=[])
    assert bytes(spec.maps[".kconfig"].data or b"") == bytes(4)


@pytest.mark.parametrize(
    ("release", "version", "signature", "want"),
    [
        ("6.18.44", "#1 SMP", "", (6, 18, 44)),
        ("5.10.0-32-cloud-amd64", "#1 SMP Debian 5.10.223-1 (2024-08-10)", "", (5, 10, 223)),
        ("5.15.0-86-generic", "#96-Ubuntu SMP", "Ubuntu 5.15.0-86.96-generic 5.15.122\n", (5, 15, 122)),
        ("4.19.300", "#1", "", (4, 19, 255)),
        ("7.3-rc1", "#1 SMP", "", (7, 3, 0)),
        ("5.4.0+", "", "odd", (5, 4, 0)),
        ("6.1.0", "Debian ", "", (6, 1, 0)),
    ],
)
def test_versions(release: str, version: str, signature: str, want: tuple[int, int, int]) -> None:
    major, minor, patch = want
    assert version_code(release, version, signature) == major << 16 | minor << 8 | patch


def test_running_version() -> None:
    assert running_version() >> 16 >= 5
