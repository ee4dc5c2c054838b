"""Loading: what the kernel then reports is what bpftool's loader makes it report; errors leave nothing."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.errors import (
    CoreReloError,
    KernelError,
    LinkError,
    MapIncompatible,
    NotSupported,
    SkepError,
    UnresolvedSymbol,
    VerifierError,
)
from skep.kernel import open as opening
from skep.kernel import sharing
from skep.kernel.iter import Iter
from skep.linux.kernel import LinuxKernel
from tests.kernel.build import build, no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    oracles.bpf()
    with no_leaks():
        yield


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[str]:
    """A BPF file system of this test's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = tmp_path / "bpf"
    place.mkdir()
    if libc.mount(b"bpf", bytes(place), b"bpf", 0, b""):
        oracles.absent("the right to mount bpffs")
    yield str(place)
    libc.umount2(bytes(place), 2)


def shown(what: str, id: int) -> dict[str, Any]:
    words = [oracles.tool("bpftool"), "-j", what, "show", "id", str(id)]
    found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return found


@pytest.mark.parametrize("name", ["maps", "rings", "opened"])
def test_the_same_as_bpftool_loads(name: str, bpffs: str) -> None:
    bpftool = oracles.tool("bpftool")
    path = build(name, "-DALL_LOAD")
    pins = f"{bpffs}/progs"
    subprocess.run([bpftool, "prog", "loadall", path, pins], check=True, capture_output=True)
    with skep.load(path) as obj:
        assert sorted(os.listdir(pins)) == sorted(obj.programs)
        for program in obj.programs.values():
            theirs = json.loads(
                subprocess.run(
                    [bpftool, "-j", "prog", "show", "pinned", f"{pins}/{program.name}"],
                    capture_output=True,
                    check=True,
                ).stdout
            )
            info = opening.INFO["bpf_prog_info"].unpack(obj.kernel.obj_get_info_by_fd(program.fd, "prog"))
            ours = shown("prog", int(info["id"]))
            same = ("type", "name", "tag", "gpl_compatible", "bytes_xlated", "jited", "bytes_jited")
            assert {k: ours.get(k) for k in same} == {k: theirs.get(k) for k in same}
            assert len(ours.get("map_ids", ())) == len(theirs.get("map_ids", ()))
            for mine, other in zip(
                sorted(ours.get("map_ids", ())), sorted(theirs.get("map_ids", ())), strict=True
            ):
                a, b = shown("map", mine), shown("map", other)
                for row in (a, b):
                    for key in ("id", "bytes_memlock", "btf_id", "pids", "frozen"):
                        row.pop(key, None)
                    row["flags"] &= ~(1 << 10)  # libbpf before 1.2 makes all global data mappable
                assert a == b
            assert ("btf_id" in ours) == ("btf_id" in theirs)


def test_without_btf_and_on_every_instruction_set() -> None:
    for flags in (("-g0",), ("-mcpu=v1",), ("-mcpu=v2",), ("-mcpu=v4",)):
        if flags == ("-g0",):
            with pytest.raises(LinkError, match="compile with -g"):
                skep.load(build("rings", *flags))
            continue
        with skep.load(build("rings", *flags)) as obj:
            obj.typed.run(bytes(60))
            assert obj.bss.number == 1


def test_ring_sizes_and_numbers_of_cpus_are_filled_in() -> None:
    with skep.load(build("maps")) as obj:
        assert obj.ring.max_entries == 8192
        assert obj.ring.info["max_entries"] == 8192
        assert obj.perf.info["max_entries"] == obj.kernel.cpus


def test_options() -> None:
    path = build("maps")
    with skep.load(
        path, programs=["use", "sleeping"], variables={"factor": 5}, max_entries={"numbers": 3}, log_level=1
    ) as obj:
        assert list(obj.programs) == ["use", "sleeping"]
        assert obj.use.run(bytes(60)).retval == 5
        assert "processed" in obj.use.log
        assert obj.numbers.info["max_entries"] == 3
        with skep.load(path, reuse={"slots": obj.slots}) as second:
            assert second.use.run(bytes(60)).retval == 8
            assert second.slots.id == obj.slots.id
        assert obj.slots[0] == 8
        with pytest.raises(MapIncompatible, match="max_entries is 3, not 1000"):
            skep.load(path, reuse={"numbers": obj.numbers})
    for options, words in (
        ({"programs": ["nope"]}, "no program 'nope'; there are: target, "),
        ({"max_entries": {"nope": 1}}, "no map 'nope'"),
        ({"variables": {"nope": 1}}, "no global variable 'nope'; there are: "),
        ({"variables": {"factor": -1}}, "variable factor: -1 does not fit in u32"),
        ({"kernel": "windows"}, "kernel 'windows'"),
    ):
        with pytest.raises(SkepError, match=words):
            skep.load(path, **options)  # type: ignore[arg-type]


def test_what_the_kernel_fills_in() -> None:
    with skep.load(build("externs"), variables={"only_pid": os.getpid()}) as obj:
        with obj.untyped.attach(), obj.typed.attach():
            os.getppid()
        release = os.uname().release.split("-")[0].split(".")
        assert obj.bss.version >> 16 == int(release[0])
        assert obj.bss.version >> 8 & 255 == int(release[1])
        assert obj.bss.flags == 1
        lines = Path("/proc/kallsyms").read_text().splitlines()
        line = next(x for x in lines if x.split()[2] == "bpf_prog_put")
        assert obj.bss.address == int(line.split()[0], 16)
        assert obj.data.missing == 0
        there = [
            getattr(s, n) for n in ("field_there", "struct_there") for s in (obj.bss, obj.data) if n in s
        ]
        assert there == [0, 0]
        assert (obj.bss.seen, obj.bss.parent) == (os.getpid(), os.getppid())


def test_a_configuration_that_is_given() -> None:
    lines = ["CONFIG_BPF_SYSCALL=y", "CONFIG_HZ=77"]
    with skep.load(
        build("externs"), programs=["untyped"], variables={"only_pid": os.getpid()}, kconfig=lines
    ) as obj:
        with obj.untyped.attach():
            os.getppid()
        assert (obj.bss.hz, obj.bss.flags) == (77, 1)


def test_without_the_right_to_it_says_what_is_missing() -> None:
    """In a process that gave up its capabilities."""
    if os.geteuid():
        oracles.absent("root, to give it up")
    code = (
        "import encodings.ascii, os, sys, skep\n"
        "from skep.errors import PermissionDenied\n"
        "skep.load(sys.argv[1]).close()\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: skep.load(sys.argv[1])\n"
        "except PermissionDenied as error: print(error.missing, error)\n"
    )
    path = build("opened")
    Path(path).parent.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("CAP_BPF BPF_")
    assert "lacks CAP_BPF" in done.stdout


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        ("refused", VerifierError, r"program refused: .*(R\d|invalid|mem access)"),
        ("unrelocated", CoreReloError, "no_such_struct"),
        ("nowhere", NotSupported, "tracepoint 'no_such_tracepoint'"),
        ("nothing", NotSupported, "function 'no_such_function'"),
        ("unsaid", LinkError, r"does not say what to attach to: pass targets="),
        ("replacing", LinkError, "which program does it replace a function of"),
    ],
)
def test_refusals_say_why(program: str, kind: type[SkepError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        skep.load(build("externs"), programs=[program])
    assert "\n" not in str(caught.value)
    if kind is VerifierError:
        assert "externs.c" in caught.value.log or "only_pid" in caught.value.log  # type: ignore[attr-defined]
        assert "only_pid + 5" in (caught.value.source or "")  # type: ignore[attr-defined]


def test_a_weak_function_that_is_missing_must_not_be_reached() -> None:
    with pytest.raises(SkepError):
        skep.load(build("externs"), programs=["untyped"], variables={"use_missing": True})


def test_a_load_that_fails_leaves_nothing(bpffs: str, tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    text = (Path(__file__).parent / "c" / "pins.c").read_text()
    source.write_text(text.replace("return 1;", "return *(volatile int *)(long)(KEY + 77);"))
    out = tmp_path / "bad.o"
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    flags = ['-DSECTION="xdp"', "-DKEY=1", include]
    subprocess.run(
        [oracles.tool("clang-19"), "-target", "bpf", "-g", "-O2", *flags, "-c", str(source), "-o", str(out)],
        check=True,
    )
    with pytest.raises(VerifierError):
        skep.load(out, pin_root=bpffs)
    assert "shared" not in os.listdir(bpffs)


def test_pinned_maps_are_shared_between_types_and_processes(bpffs: str) -> None:
    xdp = build("pins", '-DSECTION="xdp"', "-DKEY=1")
    tc = build("pins", '-DSECTION="tc"', "-DKEY=2")
    with skep.load(xdp, pin_root=bpffs) as one, skep.load(tc, pin_root=bpffs) as two:
        assert one.shared.id == two.shared.id
        one.count.run(bytes(60))
        two.count.run(bytes(60))
        code = (
            "import sys\n"
            "from skep.kernel.open import map_from_pin\n"
            "from skep.linux.kernel import LinuxKernel\n"
            "with map_from_pin(LinuxKernel(), sys.argv[1]) as m:\n"
            "    m[3] = 3\n"
            "    print(sorted(m.items()))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, f"{bpffs}/shared"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "[(1, 1), (2, 2), (3, 3)]\n"
        assert dict(one.shared) == {1: 1, 2: 2, 3: 3}
    with pytest.raises(MapIncompatible, match="max_entries is 8, not 9") as caught:
        skep.load(build("pins", '-DSECTION="xdp"', "-DKEY=1", "-DENTRIES=9"), pin_root=bpffs)
    assert caught.value.differences == {"max_entries": (8, 9)}
    with skep.load(xdp, pin_root=bpffs) as again:
        assert again.shared[3] == 3


def test_pins_of_programs_and_links(bpffs: str) -> None:
    kernel = LinuxKernel()
    with skep.load(build("maps"), programs=["use"]) as obj:
        obj.use.pin(f"{bpffs}/use")
        with pytest.raises(KernelError, match="something is pinned there already"):
            obj.use.pin(f"{bpffs}/use")
        with pytest.raises(KernelError, match="not a bpffs"):
            obj.use.pin("/tmp/skep-not-bpffs")
    with opening.program_from_pin(kernel, f"{bpffs}/use") as program:
        assert program.name == "use"
        assert program.run(bytes(60)).retval == 3
    with pytest.raises(KernelError, match="nothing is pinned there"):
        opening.map_from_pin(kernel, f"{bpffs}/none")


def test_descriptors_over_a_socket() -> None:
    left, right = socket.socketpair()
    with left, right, skep.load(build("maps")) as obj:
        sharing.send(left, table=obj.slots, entry=obj.use)
        got = sharing.receive(right, obj.kernel)
        with got["table"] as table, got["entry"] as entry:
            entry.run(bytes(60))  # type: ignore[union-attr]
            assert table[0] == obj.slots[0] == 3  # type: ignore[index]
        left.send(b"no descriptors")
        with pytest.raises(KernelError, match="0 descriptors came"):
            sharing.receive(right, obj.kernel)
        with open("/dev/null") as file:
            socket.send_fds(left, [b'\0\0\0\x05["a"]'], [file.fileno()])
            with pytest.raises(KernelError, match="/dev/null came"):
                sharing.receive(right, obj.kernel)


def test_iterators() -> None:
    with (
        skep.load(build("externs"), programs=["tasks"]) as obj,
        obj.tasks.attach() as link,
        Iter(link) as text,
    ):
        assert text.read() == b""


def test_handles_close_once_and_warn_when_forgotten() -> None:
    obj = skep.load(build("maps"), programs=["use"])
    use = obj.use
    obj.close()
    obj.close()
    assert use.closed
    with pytest.raises(ValueError, match="Program is closed"):
        use.run(bytes(60))
    forgotten = skep.load(build("maps"), programs=["use"])
    program = forgotten.programs.pop("use")
    forgotten.close()
    with pytest.warns(ResourceWarning, match="was not closed"):
        del program


def test_unknown_names_list_the_known() -> None:
    with skep.load(build("maps"), programs=["use"]) as obj:
        with pytest.raises(AttributeError, match="no program or map 'nope'; there are: use, "):
            obj.nope  # noqa: B018 - the access is the test
        assert {"use", "slots", "data_mine", "rodata"} <= set(dir(obj))


def test_missing_symbols() -> None:
    from skep.obj import read

    spec = read(build("externs"))
    spec.externs["no_such_symbol"] = spec.externs["no_such_symbol"]._replace(weak=False)
    with pytest.raises(UnresolvedSymbol, match="/proc/kallsyms has no 'no_such_symbol'"):
        skep.load(spec, programs=["untyped"])


def test_an_exceptions_callback_comes_along() -> None:
    path = build("throws")
    if LinuxKernel().version < (6, 7):
        oracles.absent("a kernel with exceptions (6.7)")
    with skep.load(path) as obj:
        assert obj.kernel.prog_test_run(obj.throws.fd, bytes(64)).retval == 42
    with pytest.raises(LinkError, match="exception callback 'nowhere' is no function"):
        skep.load(path, programs=["lost"])


def test_weak_kernel_functions_that_are_not_there() -> None:
    path = build("throws")
    with skep.load(path, programs=["guarded"]) as obj:
        assert obj.kernel.prog_test_run(obj.guarded.fd, bytes(64)).retval == 5
    with pytest.raises(UnresolvedSymbol, match="'bpf_nor_this_one', a function that this kernel lacks"):
        skep.load(path, programs=["unguarded"])


def test_kernel_functions_of_another_prototype() -> None:
    """As for libbpf: a weak one of another type is not there, a strong one is refused."""
    path = build("flavours")
    kernel = LinuxKernel()
    if kernel.version < (6, 2):
        oracles.absent("a kernel with bpf_task_acquire (6.2)")
    with skep.load(path) as obj:
        obj.which.run(bytes(64))
        assert obj.bss.there == 0b110001
    with pytest.raises(UnresolvedSymbol, match="'bpf_task_release' has another prototype"):
        skep.load(path, programs=["wrong"])
    with pytest.raises(UnresolvedSymbol, match="__per_cpu_offset"):
        skep.load(path, programs=["typed"])
    if kernel.version >= (6, 3):  # a struct that is only declared will do
        skep.load(path, programs=["declared"]).close()


def test_every_read_only_section_is_held_by_every_program(bpffs: str) -> None:
    """As libbpf binds them: the kernel reports the same number of maps for each program."""
    path = build("strings")
    bpftool = oracles.tool("bpftool")
    with skep.load(path) as obj:
        ours = {name: program.info["nr_map_ids"] for name, program in obj.programs.items()}
        assert len(obj.maps) == 1
    subprocess.run([bpftool, "prog", "loadall", path, f"{bpffs}/theirs"], check=True)
    for name, count in ours.items():
        command = [bpftool, "-j", "prog", "show", "pinned", f"{bpffs}/theirs/{name}"]
        shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert len(shown.get("map_ids", [])) == count == 1


def test_handles_left_to_the_interpreters_end() -> None:
    """A script that closes nothing ends without a word; with -W it is told what it left open."""
    code = f"import skep; left = skep.load({build('throws')!r}, programs=['guarded'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    told = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    assert told.returncode == 0 and "was not closed" in told.stderr and "Traceback" not in told.stderr
    code = f"{code}; del left; import gc; gc.collect()"
    told = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    assert "ResourceWarning: <Program guarded" in told.stderr
