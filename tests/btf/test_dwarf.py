"""Structs of debugging information, held against the BTF that the same compiler makes of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from skep.btf import Btf
from skep.btf import types as t
from skep.btf.dwarf import DebugTypes
from skep.elf import Elf
from skep.errors import SkepError
from tests.obj.support import compiled, seed, written

_SOURCE = """
typedef unsigned int u32;
typedef u32 id_t;
enum kind { OPEN = 1, CLOSE = -2 };
struct point { short x, y; };
struct event {
    unsigned long long ts;
    id_t pid;
    const volatile int ret;
    enum kind kind;
    _Bool failed;
    char comm[16];
    unsigned char address[2][6];
    struct point from, to;
    union { long whole; struct { u32 low, high; }; };
    unsigned int a : 3, b : 13;
    signed char small;
    struct event *next;
    void (*call)(int);
    char path[];
};
extern int sink(void *) __ksym;
SEC("socket") int prog(void *ctx)
{
    struct event *event = ctx;
    KEEP
    return event->ret;
}
LICENSE;
"""


def built(folder: Path, clang: str, dwarf: str, keep: str) -> Path:
    folder.mkdir(exist_ok=True)
    source = written(folder, "debug.c", _SOURCE.replace("KEEP", keep))
    return compiled(source, folder, clang, "v3", f"-gdwarf-{dwarf}")


def shape(btf: Btf, id: int) -> object:
    """A type with names instead of ids."""
    value = btf[id]
    if isinstance(value, (t.Struct, t.Union)):
        return (
            type(value).__name__,
            value.name,
            value.size,
            [(m.name, m.offset, m.bitfield_size, shape(btf, m.type)) for m in value.members],
        )
    if isinstance(value, t.Array):
        return ("array", value.nelems, shape(btf, value.type))
    if isinstance(value, t.Typedef):
        return (value.name, shape(btf, value.type))
    if isinstance(value, (t.Const, t.Volatile)):
        return shape(btf, value.type)
    if isinstance(value, t.Int):
        return (value.name, value.size, bool(value.encoding & t.BOOL))
    if isinstance(value, t.Enum):
        return (value.name, value.size, [(v.name, v.value & 0xFFFFFFFF) for v in value.values])
    assert isinstance(value, t.Ptr)
    return "pointer"


@pytest.mark.parametrize("dwarf", ["4", "5"])
@pytest.mark.parametrize("clang", ["14", "19"])
def test_layout_is_that_of_the_compilers_btf(clang: str, dwarf: str, tmp_path: Path) -> None:
    plain = built(tmp_path / "plain", clang, dwarf, "")
    assert Btf.open(plain).find("event", t.STRUCT) is None, "a local variable's type: not in BTF"
    debug = DebugTypes(Elf.open(plain))
    by_name = {name: (where, size) for name, where, size in debug.structs}
    assert {"event", "point"} <= set(by_name)
    found, id = debug.btf(by_name["event"][0])
    found.check()

    kept = Btf.open(built(tmp_path / "kept", clang, dwarf, "static struct event *unused; unused = event;"))
    known = kept.find("event", t.STRUCT)
    if known is None:  # the compiler saw through it: a global then
        source = written(tmp_path, "global.c", _SOURCE.replace("KEEP", "") + "struct event *unused;")
        kept = Btf.open(compiled(source, tmp_path, clang, "v3", f"-gdwarf-{dwarf}"))
        known = kept.require("event", t.STRUCT)
    assert shape(found, id) == shape(kept, known)
    assert by_name["event"][1] == kept.size_of(known)


def test_types_of_headers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "vmlinux.h").write_text("struct task_struct { int pid; };\n")
    text = '#include "vmlinux.h"\nstruct mine { long a; };\n'
    text += 'SEC("socket") int prog(struct task_struct *task) '
    text += "{ struct mine mine = { task->pid }; return mine.a; }\nLICENSE;"
    path = compiled(written(tmp_path, "own.c", text), tmp_path, "19", "v3", f"-I{tmp_path}")
    assert [name for name, _, _ in DebugTypes(Elf.open(path)).structs] == ["mine"]


def test_objects_without_debugging_information(tmp_path: Path) -> None:
    path = compiled(
        written(tmp_path, "x.c", 'SEC("socket") int p(void *c) { return 0; }'), tmp_path, debug=False
    )
    assert DebugTypes(Elf.open(path)).structs == []


def test_damage(tmp_path: Path) -> None:
    """Whatever is changed in the tables: types, or one line that says it is damaged."""
    path = built(tmp_path / "plain", "19", "5", "")
    data = path.read_bytes()
    elf = Elf(data)
    places = [elf.section(f".debug_{name}") for name in ("info", "abbrev", "str_offsets", "line", "str")]
    rows = [(place.offset, place.size) for place in places if place is not None and place.size]
    random_ = random.Random(seed())
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(random_.choice((1, 1, 2, 4))):
            start, size = random_.choice(rows)
            changed[start + random_.randrange(size)] = random_.choice(
                (0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256))
            )
        try:
            debug = DebugTypes(Elf(bytes(changed)))
            for _, where, _ in debug.structs[:20]:
                debug.btf(where)
        except SkepError as error:
            assert "\n" not in str(error)
