"""CO-RE relocations against libbpf's, for the types of several kernels, and what is said of failed ones."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from skep import obj
from skep.btf import Btf, BtfBuilder
from skep.btf import types as t
from skep.errors import CoreReloError
from skep.llvm.cache import sweep
from skep.obj.core_spec import essential
from tests.elf.clang import compile_c
from tests.kernels.images import Missing
from tests.kernels.types import btf as btf_of
from tests.obj import libbpf
from tests.obj.support import compiled, load, written
from tests.support import oracles

KERNELS = ("5.10", "6.1", "6.12", "6.18", "7")
CONSTANT = {"infos", "types", "enums"}


@pytest.mark.parametrize("clang", ["14", "19"])
@pytest.mark.parametrize(
    "kernel", [pytest.param(v, marks=pytest.mark.xdist_group(f"kernel-{v}")) for v in KERNELS]
)
def test_other_kernels(kernel: str, clang: str, tmp_path: Path) -> None:
    """Programs that only store answers load on any kernel, so libbpf's answers can be seen."""
    oracles.bpf()
    try:
        btf = btf_of(kernel)
    except Missing as reason:
        oracles.absent(str(reason))
    path = compiled("relocated.c", tmp_path, clang)
    spec = obj.read(path)
    with libbpf.loaded(path, CONSTANT, btf) as theirs:
        want = theirs.code(CONSTANT)
    with load(spec, *CONSTANT, target=obj.CoreTarget.open(btf)) as loaded:
        for name, code in want.items():
            assert _without_maps(loaded.xlated(name)) == _without_maps(code), name


def _without_maps(code: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [row[:3] if row[0] == 0x18 and int(str(row[1])) >> 4 in (1, 2) else row for row in code]


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("a", "a"), ("a___b", "a"), ("a___b___c", "a___b"), ("a____b", "a____b"), ("___a", "___a"),
        ("a___", "a___"), ("a__b", "a__b"), ("a___b____c", "a"), ("x___y", "x"), ("", ""),
    ],
)  # fmt: skip
def test_essential_names(name: str, want: str) -> None:
    assert essential(name) == want


def _failing(tmp_path: Path, body: str) -> obj.LinkedProgram:
    text = f"""
    u64 out;
    struct task_struct {{ int pid; int no_such_field; u64 comm; struct {{ int x; }} tgid; }} core;
    struct no_such {{ int a; }} core;
    enum bpf_map_type {{ NO_SUCH = 5 }};
    SEC("raw_tp/x") int prog(void **ctx) {{ struct task_struct *t = ctx[0]; {body} return 0; }}
    LICENSE;"""
    spec = obj.read(compiled(written(tmp_path, "failing.c", text), tmp_path))
    return obj.link_program(spec, "prog")


@pytest.mark.parametrize(
    ("body", "what", "reason"),
    [
        ("out = t->no_such_field;", "struct task_struct.no_such_field", "has no no_such_field"),
        ("out = ((struct no_such *)t)->a;", "struct no_such.a", "no struct no_such"),
        ("out = t->tgid.x;", "struct task_struct.tgid.x", "has a tgid of another kind"),
        (
            "out = __builtin_preserve_enum_value(*(enum bpf_map_type *)NO_SUCH, 1);",
            "enum bpf_map_type::NO_SUCH",
            "has no NO_SUCH",
        ),
    ],
)
def test_failures_are_explained(body: str, what: str, reason: str, tmp_path: Path) -> None:
    for _ in range(2):  # found, and then remembered
        linked = _failing(tmp_path, body)
        (failed,) = linked.failed_relos
        assert (failed.what, failed.function) == (what, "prog")
        assert reason in failed.reason
        assert linked.insns[failed.pc][:5] == (0x85, 0, 0, 0, 195896080)
        assert what in str(failed.error("x.o"))


def _target(*members: tuple[str, int, int], size: int = 16, name: str = "thing") -> BtfBuilder:
    """Types with one struct: (name, bytes of an unsigned integer, byte offset) for each member."""
    builder = BtfBuilder()
    ints = {width: builder.add(t.Int(f"u{8 * width}", width)) for width in (1, 2, 4, 8)}
    ints |= {-width: builder.add(t.Int(f"s{8 * width}", width, t.SIGNED)) for width in (1, 2, 4, 8)}
    builder.add(t.Struct(name, size, [t.Member(n, ints[width], 8 * at) for n, width, at in members]))
    return builder


def _load_of(kind: str, target: Btf, tmp_path: Path) -> obj.LinkedProgram:
    text = f"""
    u64 out;
    struct thing {{ {kind} field; }} core;
    SEC("raw_tp/x") int prog(void **ctx) {{ struct thing *t = ctx[0]; out = t->field; return 0; }}
    LICENSE;"""
    spec = obj.read(compiled(written(tmp_path, "load.c", text), tmp_path))
    return obj.link_program(spec, "prog", target=obj.CoreTarget(target))


@pytest.mark.parametrize(("width", "opcode"), [(1, 0x71), (2, 0x69), (4, 0x61), (8, 0x79)])
def test_loads_change_their_size(width: int, opcode: int, tmp_path: Path) -> None:
    linked = _load_of("u32", _target(("field", width, 8)).btf(), tmp_path)
    assert not linked.failed_relos
    assert (opcode, 8) in [(insn.opcode, insn.off) for insn in linked.insns]


def test_signed_loads_cannot(tmp_path: Path) -> None:
    linked = _load_of("s32", _target(("field", -8, 0)).btf(), tmp_path)
    assert "4 bytes here and 8 in the target" in linked.failed_relos[0].reason


def test_flavours_must_agree(tmp_path: Path) -> None:
    """Two counterparts with one answer are fine; with two, the object is refused."""
    builder = _target(("field", 4, 4))
    builder.add(t.Struct("thing___2", 16, builder[9].members))  # type: ignore[attr-defined]
    assert not _load_of("u32", builder.btf(), tmp_path).failed_relos
    builder.add(t.Struct("thing___3", 16, [t.Member("field", 3, 64)]))
    with pytest.raises(CoreReloError, match="give different answers"):
        _load_of("u32", builder.btf(), tmp_path)


def test_answers_are_kept(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, no kernel types are read; a damaged file counts as none."""
    path = compiled("relocated.c", tmp_path)

    def link() -> list[bytes]:
        spec = obj.read(path)
        target = obj.CoreTarget.kernel()
        return [bytes(obj.link_program(spec, name, target=target).code) for name in spec.programs]

    first = link()
    (kept,) = own_cache.iterdir()
    data = kept.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Btf, "kernel", lambda: pytest.fail("the kernel's types were read"))
        assert link() == first
    kept.write_bytes(data[:-1])
    assert link() == first
    assert kept.read_bytes() == data
    kept.chmod(0o666)
    with monkeypatch.context() as patched:
        patched.setattr(Btf, "kernel", lambda: (_ for _ in ()).throw(CoreReloError("read")))
        with pytest.raises(CoreReloError, match="read"):
            link()


def test_a_disk_that_takes_no_answers(own_cache: Path, tmp_path: Path) -> None:
    """The program is put together all the same, and nothing half-written stays behind."""
    path = compiled("relocated.c", tmp_path)
    script = """
import resource, sys
from skep.obj import CoreTarget, link_program, read
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no write to a file succeeds
spec = read(sys.argv[1])
target = CoreTarget.kernel()
print(*[bytes(link_program(spec, name, target=target).code).hex() for name in spec.programs])
"""

    def linked(*more: str) -> str:
        words = [sys.executable, "-c", script, str(path), *more]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert not done.stderr
        return done.stdout

    full = linked("full")
    assert not list(own_cache.iterdir())
    assert linked() == full and list(own_cache.iterdir())
    sweep(str(own_cache), max_entries=0)
    assert not list(own_cache.iterdir()), "the cache's bounds hold for answers too"


def test_modules_are_asked_when_the_kernel_has_none(tmp_path: Path) -> None:
    base = _target(("other", 4, 0), name="unrelated").btf()
    module = BtfBuilder(base=base)
    module.add(t.Struct("thing", 8, [t.Member("field", 3, 32)]))
    text = """
    u64 out;
    struct thing { u32 field; } core;
    SEC("raw_tp/x") int prog(void **ctx) { struct thing *t = ctx[0]; out = t->field; return 0; }
    LICENSE;"""
    spec = obj.read(compiled(written(tmp_path, "module.c", text), tmp_path))
    alone = obj.link_program(spec, "prog", target=obj.CoreTarget(base))
    assert [failed.what for failed in alone.failed_relos] == ["struct thing.field"]
    both = obj.link_program(spec, "prog", target=obj.CoreTarget(base, lambda: [module.btf()]))
    assert not both.failed_relos
    assert (0x61, 4) in [(insn.opcode, insn.off) for insn in both.insns]


def test_a_targets_types_are_let_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cycle keeps a kernel's BTF mapped until garbage is collected."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        oracles.absent("/sys/kernel/btf/vmlinux")
    monkeypatch.setenv("SKEP_CACHE", "")
    path = tmp_path / "fields.o"
    compile_c(
        "struct task_struct { int pid; } __attribute__((preserve_access_index));"
        '__attribute__((section("raw_tp/sys_enter"), used)) int prog(struct task_struct **ctx)'
        "{ return (long)&ctx[0]->pid; }",
        path,
    )
    gc.collect()
    gc.disable()
    try:
        target = obj.CoreTarget.kernel()
        linked = obj.link_program(obj.read(path), "prog", target=target)
        assert not linked.failed_relos
        types = weakref.ref(target.btf)
        assert types() is not None
        del target, linked
        assert types() is None
    finally:
        gc.enable()
