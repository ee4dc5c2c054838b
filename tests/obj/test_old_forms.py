"""Objects as they are in the wild: forms of before BTF, and of other compilers. libbpf refuses most."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from skep import obj
from skep.elf import ElfBuilder
from skep.elf import constants as c
from skep.errors import ElfError, LinkError, UnresolvedSymbol
from skep.isa import Insn, encode, ld_imm64
from skep.obj.spec import PIN_BY_NAME, PIN_NONE
from skep.uapi.enums import MapType, ProgType
from tests.obj.support import compiled, load, written
from tests.support import oracles

EXIT = Insn(0x95)
ZERO = Insn(0xB7)
CODE = c.SHF_ALLOC | c.SHF_EXECINSTR


def program(*insns: Insn, order: str = "<") -> bytes:
    return encode([*insns, ZERO, EXIT], "little" if order == "<" else "big")


class Old:
    """A hand-made object with one program section."""

    def __init__(self, section: str, code: bytes, *, order: str = "<", machine: int = c.EM_BPF) -> None:
        self.elf = ElfBuilder(order=order, machine=machine)
        self.order = order
        self.code = self.elf.section(section, code, flags=CODE, align=8)

    def maps(
        self, rows: dict[str, tuple[int, ...]], size: int, *, type: int = c.STT_OBJECT
    ) -> dict[str, int]:
        data = b"".join(
            struct.pack(f"{self.order}{len(row)}I", *row).ljust(size, b"\0") for row in rows.values()
        )
        section = self.elf.section("maps", data, flags=c.SHF_ALLOC | c.SHF_WRITE, align=4)
        return {
            name: self.elf.symbol(
                name, section=section, value=number * size, size=size, type=type, bind=c.STB_GLOBAL
            )
            for number, name in enumerate(rows)
        }

    def read(self) -> obj.ObjectSpec:
        return obj.read(self.elf.build(), "old")


@pytest.mark.parametrize("size", [16, 20, 28, 36])
@pytest.mark.parametrize("symbol", [c.STT_OBJECT, c.STT_NOTYPE])
@pytest.mark.parametrize("order", ["<", ">"])
def test_map_definitions(size: int, symbol: int, order: str) -> None:
    old = Old("classifier", program(*ld_imm64(1, 0), order=order), order=order)
    row = (1, 4, 8, 100, 1)
    found = old.maps({"a": (2, 4, 16, 7), "b": row[: min(5, size // 4)]}, size, type=symbol)
    old.elf.relocation(old.code, 0, c.R_BPF_64_64, found["b"])
    spec = old.read()
    assert list(spec.maps) == ["a", "b"]
    made = spec.maps["b"]
    assert (made.type, made.key_size, made.value_size, made.max_entries) == (MapType.HASH, 4, 8, 100)
    assert made.flags == (1 if size >= 20 else 0)
    linked = obj.link_program(spec, "classifier")
    assert linked.map_refs == [obj.MapRef(0, "b", None)]
    assert linked.insns[0].opcode == 0x18


def test_iproute2_inner_maps_ids_pins_and_tails() -> None:
    old = Old("classifier", program())
    old.maps(
        {
            "outer": (int(MapType.ARRAY_OF_MAPS), 4, 4, 2, 0, 5, 2, 9, 0),
            "inner": (int(MapType.ARRAY), 4, 8, 3, 0, 9, 0, 0, 1),
            "jumps": (int(MapType.PROG_ARRAY), 4, 4, 4, 0, 7, 0, 0, 0),
        },
        36,
    )
    tail = old.elf.section("7/3", program(), flags=CODE, align=8)
    old.elf.symbol("tail", section=tail, size=16, type=c.STT_FUNC, bind=c.STB_GLOBAL)
    spec = old.read()
    outer = spec.maps["outer"]
    assert outer.inner is spec.maps["inner"] and outer.contents == {1: "inner"}
    assert (outer.pinning, outer.pin_value) == (PIN_BY_NAME, 2)
    assert spec.maps["inner"].pinning == PIN_NONE
    assert spec.maps["jumps"].contents == {3: "tail"}
    assert spec.programs["tail"].type == ProgType.SCHED_CLS, "of the type of the others"


@pytest.mark.parametrize("kind", ["socket", "kprobe"])
def test_numbered_programs_of_the_samples(kind: str) -> None:
    """Sections end in slots of the one program array; numbers past its end are names."""
    old = Old(f"{kind}/0", program())
    old.maps({"jumps": (int(MapType.PROG_ARRAY), 4, 4, 4)}, 20)
    for number in (3, 9):
        tail = old.elf.section(f"{kind}/{number}", program(), flags=CODE, align=8)
        old.elf.symbol(f"tail{number}", section=tail, size=16, type=c.STT_FUNC, bind=c.STB_GLOBAL)
    spec = old.read()
    assert spec.maps["jumps"].contents == {0: "0", 3: "tail3"}
    two = Old(f"{kind}/0", program())
    two.maps({name: (int(MapType.PROG_ARRAY), 4, 4, 4) for name in ("a", "b")}, 20)
    assert not any(made.contents for made in two.read().maps.values())


def test_samples_inner_map_and_numa() -> None:
    old = Old("socket", program())
    old.maps({"in": (2, 4, 4, 1, 0, 0, 0), "out": (13, 4, 4, 2, 4, 0, 1)}, 28)
    out = old.read().maps["out"]
    assert out.inner is not None and out.inner.name == "in" and out.numa_node == 1


def test_definitions_of_unknown_size_are_refused() -> None:
    old = Old("socket", program())
    old.maps({"a": (1, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 77)}, 48)
    with pytest.raises(LinkError, match=r"'maps' byte 0x0: map 'a': the meaning of a 48-byte definition"):
        old.read()


@pytest.mark.parametrize("type", [c.STT_NOTYPE, c.STT_FUNC, None])
def test_functions_by_any_symbol(type: int | None) -> None:
    """NOTYPE labels without size, FUNC, and nothing but the section's own symbol."""
    old = Old("xdp", program() + program())
    if type is not None:
        old.elf.symbol("one", section=old.code, value=0, size=16 if type else 0, type=type, bind=c.STB_GLOBAL)
        old.elf.symbol("two", section=old.code, value=16, type=type, bind=c.STB_GLOBAL)
        old.elf.symbol("LBB0_1", section=old.code, value=8)
    else:
        old.elf.symbol("", section=old.code, type=c.STT_SECTION)
    spec = old.read()
    want = {"one": 2, "two": 2} if type is not None else {"xdp": 4}
    assert {name: len(f.insns) for name, f in spec.functions.items()} == want
    assert {p.type for p in spec.programs.values()} == {ProgType.XDP}
    assert list(spec.programs) == list(want)


@pytest.mark.parametrize("machine", [c.EM_NONE, c.EM_BPF])
def test_addends_and_no_machine(machine: int) -> None:
    """RELA: a map, a byte of data, a call by section and addend."""
    code = program(*ld_imm64(1, 0), *ld_imm64(2, 0), Insn(0x85, 0, 1, 0, -1))
    old = Old("socket", code, machine=machine)
    found = old.maps({"m": (1, 4, 4, 1, 0)}, 20)
    data = old.elf.section(".data", bytes(16), flags=c.SHF_ALLOC | c.SHF_WRITE, align=8)
    text = old.elf.section(".text", program() + program(), flags=CODE, align=8)
    values = old.elf.symbol("", section=data, type=c.STT_SECTION)
    functions = old.elf.symbol("", section=text, type=c.STT_SECTION)
    old.elf.symbol("f", section=text, value=0, size=16, type=c.STT_FUNC)
    old.elf.symbol("g", section=text, value=16, size=16, type=c.STT_FUNC)
    old.elf.relocation(old.code, 0, c.R_BPF_64_64, found["m"], 0)
    old.elf.relocation(old.code, 16, c.R_BPF_64_64, values, 8)
    old.elf.relocation(old.code, 32, c.R_BPF_64_32, functions, 16)
    linked = obj.link_program(old.read(), "socket")
    assert linked.map_refs == [obj.MapRef(0, "m", None), obj.MapRef(2, ".data", 8)]
    assert linked.subprogs == [(0, "socket"), (7, "g")]
    assert linked.insns[4] == Insn(0x85, 0, 1, 0, 2)


def test_text_only() -> None:
    """Functions nobody calls are the programs; their type is known by name, or asked for."""
    old = Old(".text", program(Insn(0x85, 0, 1, 0, 2)) + program())
    old.elf.symbol("xdp_pass", section=old.code, size=24, type=c.STT_FUNC, bind=c.STB_GLOBAL)
    old.elf.symbol("helper", section=old.code, value=24, size=16, type=c.STT_FUNC, bind=c.STB_GLOBAL)
    spec = old.read()
    assert [(p.name, p.type) for p in spec.programs.values()] == [("xdp_pass", ProgType.XDP)]
    assert obj.link_program(spec, "xdp_pass").subprogs == [(0, "xdp_pass"), (3, "helper")]


def test_no_type_says_so() -> None:
    old = Old("mysterious", program())
    spec = old.read()
    with pytest.raises(LinkError, match=r"section 'mysterious' says no program type: set spec.programs"):
        obj.link_program(spec, "mysterious")
    spec.programs["mysterious"].type = ProgType.XDP
    assert len(obj.link_program(spec, "mysterious").insns) == 2


def test_static_tail_programs(tmp_path: Path) -> None:
    """Static functions in a program section: reached by tail calls only, or subprograms that are called."""
    text = """
    static int tail(void *ctx) SEC("socket");
    static int tail(void *ctx) { return 3; }
    static __noinline int sub(int x) SEC("socket");
    static __noinline int sub(int x) { asm volatile("" : "+r"(x)); return x; }
    SEC("socket") int entry(void *ctx) { return sub(4); }
    LICENSE;"""
    spec = obj.read(compiled(written(tmp_path, "tail.c", text), tmp_path, debug=False))
    assert set(spec.programs) == {"tail", "entry"}


def test_two_statics_of_one_name(tmp_path: Path) -> None:
    one = compiled(written(tmp_path, "a.c", _STATIC % ("a", "a")), tmp_path)
    two = compiled(written(tmp_path, "b.c", _STATIC % ("b", "b")), tmp_path)
    spec = obj.read(obj.static_link([one, two]))
    assert obj.link_program(spec, "prog_a").subprogs[1][1] != obj.link_program(spec, "prog_b").subprogs[1][1]


_STATIC = """
static __noinline int same(int x) { asm volatile("" : "+r"(x)); return x + '%s'; }
SEC("socket") int prog_%s(void *ctx) { return same(1); }
LICENSE;"""


def test_many_sections() -> None:
    """More sections than the header's 16 bits can count."""
    elf = ElfBuilder()
    for number in range(0xFF10):
        elf.section(f"s{number}", b"")
    code = elf.section("xdp", program(), flags=CODE, align=8)
    elf.symbol("far", section=code, size=16, type=c.STT_FUNC, bind=c.STB_GLOBAL)
    spec = obj.read(elf.build(), "big")
    assert list(spec.programs) == ["far"]


def test_common_symbols_and_nonsense() -> None:
    old = Old("socket", program(*ld_imm64(1, 0)))
    common = old.elf.symbol("shared", section=c.SHN_COMMON - 0x10000, size=4, type=c.STT_OBJECT, bind=1)
    old.elf.relocation(old.code, 0, c.R_BPF_64_64, common)
    with pytest.raises(LinkError, match="'socket' byte 0x0: 'shared' is a common symbol"):
        old.read()
    old = Old("socket", program(*ld_imm64(1, 0)))
    missing = old.elf.symbol("nowhere", bind=1)
    old.elf.relocation(old.code, 0, c.R_BPF_64_64, missing)
    with pytest.raises(UnresolvedSymbol, match="socket uses 'nowhere'"):
        obj.link_program(old.read(), "socket")
    old = Old("socket", program(Insn(0x85, 0, 1, 0, 100)))
    with pytest.raises(LinkError, match=r"calls byte 0x328 of 'socket', where no function starts"):
        old.read()


def test_other_machines_and_types_are_refused() -> None:
    with pytest.raises(ElfError, match="machine 62"):
        obj.read(Old("xdp", program(), machine=62).elf.build())
    data = bytearray(Old("xdp", program()).elf.build())
    data[16] = 2
    with pytest.raises(ElfError, match="type 2"):
        obj.read(bytes(data))


@pytest.mark.parametrize("debug", [True, False])
def test_old_objects_load(debug: bool, tmp_path: Path) -> None:
    """A program with maps of before BTF, compiled with and without -g, in the kernel."""
    oracles.bpf()
    text = """
    struct bpf_map_def { u32 type, key_size, value_size, max_entries, map_flags; };
    struct bpf_map_def counts SEC("maps") = { 1, 4, 8, 16 }, slots SEC("maps") = { 2, 4, 8, 1 };
    SEC("socket") int count(void *ctx) {
        u32 key = 0;
        u64 *v = bpf_map_lookup_elem(&slots, &key);
        return v ? 1 : bpf_map_lookup_elem(&counts, &key) != 0;
    }
    LICENSE;"""
    spec = obj.read(compiled(written(tmp_path, "old.c", text), tmp_path, debug=debug))
    with load(spec) as loaded:
        names = [row[3] for row in loaded.xlated("count") if row[0] == 0x18]
        assert "slots" in names or "counts" in names
