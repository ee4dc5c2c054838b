"""What the cache keeps of an object for the next start: the same object, whatever became of the entry."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import skep
import skep.bpf.key
from skep.cli.python import compiled, imported
from skep.errors import CompileError
from skep.loading import build, programs_of, spec_of
from skep.obj import CoreTarget, ObjectSpec, kernel_btf, link_program, read
from tests.lang.support import HEADER, module, seed
from tests.support import oracles
from tests.support.specs import differences
from tests.test_surface import HEAVY

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PLAIN = HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n"
#: global variables of every section, a struct in a map, a loop over a subprogram
WHOLE = (
    HEADER
    + """
@bpf.struct
class Seen:
    count: u64
    last: u32

seen = bpf.Hash(u32, Seen, max_entries=64)
factor: u64 = bpf.const(3)
start: u64 = bpf.var(40)
total: u64 = bpf.var(0)

@bpf.subprog
def scaled(x: u64) -> u64:
    return x * factor

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    global total
    total += scaled(start)
    key: u32 = 7
    one = seen.get(key)
    if one is not None:
        one.count += total
    return 2
"""
)


#: for the start of scripts: skep's own files are in the key, and may be edited while tests run
SETTLED = "import skep.bpf.key\nskep.bpf.key._files_of = lambda folders: repr(folders).encode()\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SKEP_CACHE", str(folder))
    monkeypatch.setattr(skep.bpf.key, "_files_of", lambda folders: repr(folders).encode())
    return folder


def from_cache(made: ModuleType) -> ObjectSpec:
    """The spec of a start that finds it prepared: nothing of it has been decoded."""
    spec = spec_of(programs_of(made))
    assert isinstance(spec._btf, bytes), "read from the object"
    return spec


def prepared(folder: Path) -> Path:
    """The entry of the prepared object beside that of the object."""
    (found,) = [path for path in folder.iterdir() if b"skep prepared object" in path.read_bytes()]
    return found


def _examples() -> list[str]:
    return sorted(path.stem for path in EXAMPLES.glob("*.py") if "@bpf." in path.read_text())


def test_examples_are_found() -> None:
    assert len(_examples()) >= 14


@pytest.mark.parametrize("name", _examples())
def test_every_example_is_what_the_reader_gives(name: str) -> None:
    """Field by field, and as put together for the running kernel (CO-RE)."""
    made = imported(str(EXAMPLES / f"{name}.py"))
    plain = read(build(made), name=name)
    assert differences(plain, spec_of(programs_of(made))) == []
    again = from_cache(made)
    assert again.take_kernel_btf() == kernel_btf(plain)
    target = CoreTarget.kernel()
    for program in plain.programs:
        one, two = (link_program(spec, program, target=target) for spec in (plain, again))
        slots = [slot for slot in one.__slots__ if slot not in ("object", "spec")]
        assert [getattr(one, slot) for slot in slots] == [getattr(two, slot) for slot in slots]
    assert differences(plain, again) == []


def test_variables_and_maps_before_and_after_loading(tmp_path: Path) -> None:
    oracles.bpf()
    made = module(tmp_path, WHOLE)
    found = []
    for _ in range(3):  # compiled, then from the cache
        options = {"variables": {"factor": 5, "start": 2}, "max_entries": {"seen": 9}}
        with skep.load(made, **options) as obj:  # type: ignore[arg-type]  # the loader's own options
            obj.seen[7] = {"count": 100, "last": 1}
            obj.data.start = 11
            assert obj.main.run(bytes(64)).retval == 2
            row = obj.seen[7]
            found.append(
                (obj.bss.total, row.count, row.last, repr(row), obj.seen.max_entries, obj.rodata.factor)
            )
    assert found == [(55, 155, 1, "Seen(count=155, last=1)", 9, 5)] * 3


def test_loading_from_the_cache_imports_no_reader(tmp_path: Path) -> None:
    oracles.bpf()
    (tmp_path / "prog.py").write_text(WHOLE)
    script = (
        f"{SETTLED}import sys; sys.path.insert(0, sys.argv[1])\nimport prog, skep\n"
        "skep.load(prog.main).close()\nprint(*sys.modules)"
    )
    words = [sys.executable, "-c", script, str(tmp_path)]
    seen = [
        set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()) for _ in "12"
    ]
    assert {"skep.obj.reader", "skep.btf.read", "skep.lang.walk"} <= seen[0]
    ours = {name for name in seen[1] if name.startswith("skep.")}
    assert not {name for name in ours if name.startswith(("skep.elf", "skep.btf", "skep.lang"))}
    assert not ours & {"skep.obj.reader", "skep.kernel.typed", "skep.kernel.structs", "skep.llvm.bpf"}


def test_the_command_imports_no_more(tmp_path: Path) -> None:
    """`skep run prog.py` from the cache: no reader, and none of the standard library's slow modules."""
    (tmp_path / "prog.py").write_text(WHOLE)
    script = (
        f"{SETTLED}import sys\nfrom skep.cli.python import compiled\n"
        "spec = compiled(sys.argv[1])\nprint(spec.name, *sys.modules)"
    )
    bare = subprocess.run(
        [sys.executable, "-c", "import sys\nprint(*sys.modules)"], capture_output=True, text=True
    )
    words = [sys.executable, "-c", script, str(tmp_path / "prog.py")]
    for _ in range(2):
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    new = set(done.stdout.split()) - set(bare.stdout.split())
    assert done.stdout.startswith("prog ") and "skep.obj.prepared" in new
    assert not {name for name in new if name.startswith(("skep.elf", "skep.btf", "skep.lang", "llvmlite"))}
    assert not new & {*HEAVY, "typing", "re", "subprocess", "contextlib", "collections", "functools", "enum"}


def test_damage_is_noticed(tmp_path: Path, own_cache: Path) -> None:
    """Bits turned, cut short, longer, empty, of another kind: the object is read again and kept again."""
    made = module(tmp_path, WHOLE)
    plain = spec_of(programs_of(made))
    entry = prepared(own_cache)
    (other,) = [path for path in own_cache.iterdir() if path != entry]
    data = entry.read_bytes()
    number = seed()
    rng = random.Random(number)
    print(f"seed {number}")
    damaged = [b"", other.read_bytes(), data + b"\0", data[:-1], bytes(len(data))]
    damaged += [data[: rng.randrange(len(data))] for _ in range(20)]
    for _ in range(60):
        turned = bytearray(data)
        turned[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(turned))
    for wrong in damaged:
        entry.write_bytes(wrong)
        assert differences(plain, spec_of(programs_of(made))) == []
        assert differences(plain, from_cache(made)) == []


def test_what_another_version_wrote_is_left_alone(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = module(tmp_path, PLAIN)
    spec_of(programs_of(made))
    before = {path.name for path in own_cache.iterdir()}
    monkeypatch.setattr("skep.llvm.cache.__version__", "0.0.0")
    assert not isinstance(spec_of(programs_of(made))._btf, bytes)
    assert len({path.name for path in own_cache.iterdir()} - before) == 2
    monkeypatch.setattr("skep.obj.prepared.SHAPE", ("skep prepared object 0",))
    assert not isinstance(spec_of(programs_of(made))._btf, bytes), "the right name, but another shape"
    from_cache(made)


def test_another_reader_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = module(tmp_path, PLAIN)
    spec_of(programs_of(made))
    from_cache(made)
    monkeypatch.setattr(skep.bpf.key, "of_readers", lambda: b"changed")
    assert not isinstance(spec_of(programs_of(made))._btf, bytes)


def test_a_prepared_object_without_the_object(tmp_path: Path, own_cache: Path) -> None:
    """Either may have been swept away: the other serves."""
    made = module(tmp_path, PLAIN)
    whole = build(made)
    spec_of(programs_of(made))
    entry = prepared(own_cache)
    for path in list(own_cache.iterdir()):
        if path != entry:
            path.unlink()
    from_cache(made)
    assert build(made) == whole
    entry.unlink()
    spec_of(programs_of(made))
    from_cache(made)


def test_one_file_under_two_names(tmp_path: Path) -> None:
    """The object is called as the file that was asked for; so start the kernel's names of its global data."""
    (tmp_path / "prog.py").write_text(WHOLE)
    (tmp_path / "other.py").write_text("from prog import main, seen, total\n")
    for _ in range(2):
        assert [compiled(str(tmp_path / f"{name}.py")).name for name in ("prog", "other")] == [
            "prog",
            "other",
        ]


def test_an_error_is_not_kept(tmp_path: Path, own_cache: Path) -> None:
    made = module(tmp_path, HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return nothing\n")
    for _ in range(2):
        with pytest.raises(CompileError, match="nothing"):
            skep.load(made)
    assert not own_cache.exists() or not list(own_cache.iterdir())


# --- caches that cannot be used, and several at once ------------------------------------------------

SCRIPT = f"""{SETTLED}
import marshal, sys
sys.path.insert(0, sys.argv[1])
import prog
from skep.loading import programs_of, spec_of
from skep.obj.prepared import freeze

spec = spec_of(programs_of(prog))
how = "prepared" if isinstance(spec._btf, bytes) else "read"
print(how, repr(marshal.loads(freeze(spec))).encode().hex())
"""


def start(folder: Path, *before: str, **environment: str) -> tuple[str, str]:
    """How a new process came by the object of ``folder``/prog.py, and the object."""
    words = [*before, sys.executable, "-c", SCRIPT, str(folder)]
    env = {name: value for name, value in os.environ.items() if name not in ("SKEP_CACHE", "XDG_CACHE_HOME")}
    done = subprocess.run(words, env={**env, **environment}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    how, made = done.stdout.split()
    return how, made


def test_several_processes_at_once(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "prog.py").write_text(WHOLE)
    words = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    made = {process.communicate(timeout=240)[0].split()[1] for process in running}
    assert len(made) == 1 and not any(process.returncode for process in running)
    assert len(list(own_cache.iterdir())) == 2, "an object and what was read from it, nothing half-written"
    assert start(tmp_path, SKEP_CACHE=str(own_cache)) == ("prepared", made.pop())


@pytest.mark.parametrize(
    "mount",
    [
        'mount -t tmpfs -o size=4k none "$0" && head -c 4096 /dev/zero > "$0/full"',
        'mount -t tmpfs -o nr_inodes=1 none "$0"',
        'mount -t tmpfs -o ro none "$0"',
        'mount -t tmpfs -o noexec,mode=0700 none "$0" && : > "$0/unfinished" && mount -o remount,ro "$0"',
    ],
    ids=["full", "no inodes", "read-only", "remounted"],
)
def test_a_disk_that_takes_nothing(mount: str, tmp_path: Path) -> None:
    """Each start does its work anew and says nothing."""
    if os.geteuid():
        oracles.absent("the right to mount a file system")
    (tmp_path / "prog.py").write_text(PLAIN)
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    script = f'{mount} && "$@"; status=$?; ls -A "$0" >&2; exit $status'
    words = ["unshare", "-m", "sh", "-c", script, str(cache), sys.executable, "-c", SCRIPT, str(tmp_path)]
    env = {**os.environ, "SKEP_CACHE": str(cache)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.split()) <= {"full", "unfinished"}, "a traceback, or half an entry left behind"
    assert done.stdout.split() == ["read", start(tmp_path, SKEP_CACHE="")[1]]


def test_a_read_only_cache_still_serves(tmp_path: Path, own_cache: Path) -> None:
    if os.geteuid():
        oracles.absent("the right to mount a file system")
    (tmp_path / "prog.py").write_text(PLAIN)
    first = start(tmp_path, SKEP_CACHE=str(own_cache))
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    words = ("unshare", "-m", "sh", "-c", script, str(own_cache))
    assert start(tmp_path, *words, SKEP_CACHE=str(own_cache)) == ("prepared", first[1])


def test_no_home(tmp_path: Path) -> None:
    """Nobody's home, one that is a file, one that is relative: nothing is kept, nothing is said."""
    (tmp_path / "prog.py").write_text(PLAIN)
    (tmp_path / "file").write_text("")
    plain = start(tmp_path, SKEP_CACHE="")
    for home in (str(tmp_path / "file"), "relative", "/proc/self/nothing", "/dev/null"):
        assert start(tmp_path, HOME=home) == plain
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "file",
        "prog.py",
    ]
