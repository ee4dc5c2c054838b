"""Types of programs whose sections name none, and whether the running kernel agrees with the guess."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep import obj
from skep.elf import ElfBuilder
from skep.elf import constants as c
from skep.isa import Insn, encode
from skep.kernel.loader import Loader
from skep.linux.kernel import LinuxKernel
from skep.obj.guess import is_tail, stem, tail_of
from skep.uapi.enums import AttachType, ProgType
from tests.obj.support import compiled, written
from tests.support import oracles

ZERO, EXIT = Insn(0xB7), Insn(0x95)
KEEP = Insn(0xBF, 6, 1)  # r6 = r1
LEN = Insn(0x61, 2, 1, 0)  # r2 = *(u32 *)(r1 + 0)
PACKET = [Insn(0x61, 2, 1, 76), Insn(0x61, 3, 1, 80)]
FRAME = [Insn(0x61, 2, 1, 0), Insn(0x61, 3, 1, 4)]
LD_ABS = [KEEP, Insn(0x28, 0, 0, 0, 12)]
MARK = [Insn(0xB7, 2, 0, 0, 7), Insn(0x63, 1, 2, 8)]  # skb->mark = 7
WIDE = [Insn(0x79, 2, 1, 112)]  # a register of struct pt_regs
ADJUST_HEAD = [Insn(0xB7, 2), Insn(0x85, imm=44)]
NOW = [Insn(0x85, imm=5)]


def made(*functions: tuple[str, str, list[Insn]], order: str = "<") -> obj.ObjectSpec:
    """An object of functions in sections of their own: (section, name, instructions before `return 0`)."""
    elf = ElfBuilder(order=order)
    elf.section("license", b"GPL\0", flags=c.SHF_ALLOC | c.SHF_WRITE)
    for section, name, insns in functions:
        code = encode([*insns, ZERO, EXIT], "little" if order == "<" else "big")
        index = elf.section(section, code, flags=c.SHF_ALLOC | c.SHF_EXECINSTR, align=8)
        elf.symbol(name, section=index, size=len(code), type=c.STT_FUNC, bind=c.STB_GLOBAL)
    return obj.read(elf.build(), "guessed")


XDP, CLS, SOCKET = ProgType.XDP, ProgType.SCHED_CLS, ProgType.SOCKET_FILTER


@pytest.mark.parametrize(
    ("section", "name", "insns", "type"),
    [
        # libbpf before 1.0 and the kernel's samples: what a name begins with
        ("xdp_redirect_map", "f", [], XDP),
        ("xdp1", "f", [], XDP),
        ("xdp/tail", "f", [], XDP),
        ("tc/entry", "f", [], CLS),
        ("tc_mark", "f", [], CLS),
        ("socket1", "f", [], SOCKET),
        ("socket/3", "f", [], SOCKET),
        ("cgroup/sock2", "f", [], ProgType.CGROUP_SOCK),
        ("sockops_rtt", "f", [], ProgType.SOCK_OPS),
        # routes: by helpers that only they have, then by name
        ("encap", "f", [Insn(0x85, imm=73)], ProgType.LWT_IN),
        ("encap", "f", [Insn(0x85, imm=73), Insn(0x85, imm=43)], ProgType.LWT_XMIT),  # bpf_skb_change_head
        ("encap", "add_lwt_out_stats", [Insn(0x85, imm=26)], ProgType.LWT_OUT),
        ("end_ad6", "f", [LEN, Insn(0x85, imm=26), Insn(0x85, imm=76)], ProgType.LWT_SEG6LOCAL),
        # what the code reads and calls
        ("loadbalancer", "lb", LD_ABS, SOCKET),
        ("downcall", "f", PACKET, CLS),
        ("downcall", "f", MARK, CLS),
        ("f", "f", FRAME, XDP),
        ("f", "f", ADJUST_HEAD, XDP),
        ("filter", "handle", PACKET, CLS),
        ("filter", "handle", LD_ABS, SOCKET),
        ("prog", "xdp_like_name", PACKET, CLS),
        # names, where the code says nothing
        ("from-netdev", "f", [], CLS),
        ("ingress", "f", NOW, CLS),
        ("prog", "f", [], CLS),
        ("prog", "xdp_drop", [LEN], XDP),
        ("2/7", "f", [], CLS),
        # and where nothing does
        (".text", "f", NOW, ProgType.UNSPEC),
        ("tcp", "f", NOW, ProgType.UNSPEC),
        ("f", "f", WIDE, ProgType.UNSPEC),
        ("f", "f", [LEN], ProgType.UNSPEC),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_types(section: str, name: str, insns: list[Insn], type: ProgType, order: str) -> None:
    (found,) = made((section, name, insns), order=order).programs.values()
    assert found.type == type


def test_attach_types_come_along() -> None:
    spec = made(("xdp/entry", "a", []), ("cgroup/sock1", "b", []))
    assert [p.attach_type for p in spec.programs.values()] == [
        AttachType.XDP,
        AttachType.CGROUP_INET_SOCK_CREATE,
    ]
    assert spec.programs["a"].hook == "xdp"


def test_tails_are_of_the_type_of_what_reaches_them() -> None:
    spec = made(
        ("2/1", "drop_notify", NOW),
        ("2/5", "tail_nat_egress", FRAME),
        ("from-netdev", "entry_xdp", FRAME),
    )
    assert {p.type for p in spec.programs.values()} == {XDP}
    assert {p.attach_type for p in spec.programs.values()} == {AttachType.XDP}, "one program array holds them"


def test_tails_of_an_object_of_two_types() -> None:
    spec = made(
        ("xdp", "fast", FRAME),
        ("tail-0", "unspec", NOW),
        ("tail-1", "output", PACKET),
        ("tail-2", "upcall", PACKET),
        ("egress", "from_stack", PACKET),
    )
    types = [p.type for p in spec.programs.values()]
    assert types == [XDP, CLS, CLS, CLS, CLS], "tail-0 is of the type of most of its series"


def test_other_types_spread_as_before() -> None:
    spec = made(("kprobe/f", "probe", WIDE), ("helpers", "tail", WIDE))
    assert {p.type for p in spec.programs.values()} == {ProgType.KPROBE}


def test_called_functions_of_unknown_sections_are_no_programs(tmp_path: Path) -> None:
    text = """
    SEC("other") __noinline int helper(int x) { asm volatile("" : "+r"(x)); return x; }
    SEC("socket") int entry(void *ctx) { return helper(4); }
    LICENSE;"""
    path = compiled(written(tmp_path, "other.c", text), tmp_path)
    spec = obj.read(path)
    assert {p.name: p.autoload for p in spec.programs.values()} == {"entry": True, "helper": False}
    assert len(obj.link_program(spec, "entry").subprogs) == 2
    oracles.bpf()
    with skep.load(path) as loaded:
        assert list(loaded.programs) == ["entry"]


@pytest.mark.parametrize(
    ("section", "place"),
    [("2/7", (2, 7)), ("1/0x1010", (1, 0x1010)), ("?2/7", (2, 7)), ("socket/3", None), ("27", None)],
)
def test_names_of_tails(section: str, place: tuple[int, int] | None) -> None:
    assert tail_of(section) == place
    assert is_tail(section) == (place is not None)


def test_series() -> None:
    assert is_tail("tail-3") and is_tail("xdp/tail") and not is_tail("detail")
    assert stem("tail-12") == stem("tail-3") == "tail-"


@pytest.mark.live
@pytest.mark.parametrize(
    "insns", [LD_ABS, PACKET, FRAME, MARK, ADJUST_HEAD], ids=["abs", "skb", "xdp", "mark", "head"]
)
def test_the_kernel_takes_what_is_guessed(insns: list[Insn]) -> None:
    oracles.bpf()
    with Loader(LinuxKernel(), made(("unheard-of", "f", insns))).load() as loaded:
        assert loaded.programs["f"].info["type"] == made(("unheard-of", "f", insns)).programs["f"].type
