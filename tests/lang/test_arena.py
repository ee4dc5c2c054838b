"""Arenas: memory that programs and Python share, lists built on one side and followed on the other."""

from __future__ import annotations

import random
import struct
import textwrap
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.errors import CompileError, KernelError, SkepError
from skep.lang.compile import compile_programs, to_ir
from skep.loading import programs_of
from tests.lang import arena_twin
from tests.lang.support import HEADER, module, seed
from tests.support import libbpf
from tests.support.oracles import bpf

DECLARED = f"""{HEADER}
arena = bpf.Arena(pages=64, address=ADDRESS)

@bpf.struct
class Inner:
    a: u32
    b: u32

@bpf.struct
class Node:
    value: u64
    next: bpf.ArenaPtr["Node"]
    name: bpf.Text = bpf.char(16)
    inner: Inner
    cells: list[u32] = bpf.array(u32, 4)

@bpf.struct
class Entry:
    node: bpf.ArenaPtr[Node]
    hits: u64

@bpf.struct
class Locked:
    lock: bpf.SpinLock

@bpf.struct
class Other:
    x: u32

head: bpf.ArenaPtr[Node] = bpf.var(None)
others: bpf.ArenaPtr[Other] = bpf.var(0)
within: bpf.ArenaPtr[Inner] = bpf.var(None)
total: u64 = bpf.var(0)
count: u64 = bpf.var(0)
wanted: u64 = bpf.var(0)
by_value = bpf.Hash(u64, bpf.ArenaPtr[Node])
slots = bpf.Array(bpf.ArenaPtr[Node], 2)
entries = bpf.Hash(u64, Entry)
copies = bpf.Hash(u32, Node)
events = bpf.RingBuf(Node)
"""
PROGRAMS = (
    DECLARED
    + """
@bpf.syscall
def fill(ctx) -> int:
    global head, within
    n = wanted
    if not 0 < n <= 1000:
        return 1
    nodes = arena.alloc(Node, n)
    if nodes is None:
        return 2
    for i in range(n):
        node = nodes[i]
        node.value = i * i
        node.name = "node"
        node.inner.a += i
        node.cells[i & 3] = i
        node.next = head
        by_value[i * i] = node
        head = node
        within = node.inner
    slots[1] = head
    return 0

@bpf.syscall
def add(ctx) -> int:
    global total, count
    node = head
    for i in range(2000):
        if node is None:
            break
        total += node.value
        count += node.inner.a
        node.value += 1
        node = node.next
    inner = within
    if inner is not None:
        inner.b = 77
    return 0

@bpf.syscall
def through_maps(ctx) -> int:
    node = by_value.get(wanted)
    if node is None:
        return 1
    last = slots[1]
    if last is None or slots[0] is not None:
        return 2
    entries[1] = Entry(node, 5)
    entry = entries.get(1)
    if entry is None:
        return 3
    again = entry.node
    if again is None:
        return 4
    if wanted & 1:
        again.cells[0] = 9
    else:
        entry.hits = 9
    copies[1] = again
    again.name = last.name
    last.name = "changed"
    if last.name != "changed" or again.name == last.name:
        return 5
    return 100 if again.name.startswith("node") else 6

@bpf.syscall
def numbers(ctx) -> int:
    row = arena.alloc(u64, 100)
    if row is None:
        return 1
    table = arena.alloc(bpf.array(u32, 600))
    if table is None:
        return 2
    for i in range(100):
        row[i] = i
        table[i * 6] = row[i] * 2
    row.value += 40
    row[1] += 1
    kept = row[0] + row[1] + row[99] + table[594]
    for i, x in enumerate(table):
        kept += x if i < 12 else 0
    for x in table:
        kept += 1
    arena.free(row, 100)
    return kept if row[99] == 0 else 3

@bpf.syscall
def all_pages(ctx) -> int:
    for i in range(100):
        page = arena.alloc(bpf.array(u8, 4096))
        if page is None:
            return i
        page[4095] = 1
    return 1000
"""
)


def _loaded(tmp_path: Path, address: str = "0", cpu: str = "v3") -> Any:
    bpf()
    path = tmp_path / "arena.bpf.o"
    path.write_bytes(
        compile_programs(programs_of(module(tmp_path, PROGRAMS.replace("ADDRESS", address))), cpu=cpu)
    )
    return skep.load(str(path))


@pytest.mark.live
@pytest.mark.parametrize(("address", "cpu"), [("0", "v3"), ("1 << 44", "v4"), ("1 << 30", "v1")])
def test_a_list_that_programs_and_python_share(address: str, cpu: str, tmp_path: Path) -> None:
    with _loaded(tmp_path, address, cpu) as obj:
        node = obj.codec("Node")
        assert obj.bss.head == 0
        assert obj.fill.run().retval == 1
        obj.bss.wanted = 500
        assert obj.fill.run().retval == 0
        if address != "0":
            assert obj.arena.offset(obj.bss.head) == obj.bss.head - eval(address)
        seen, at = [], obj.bss.head
        while at:
            got = obj.arena.at(at, node)
            seen.append((got.value, got.inner.a, got.name, got.cells[got.inner.a & 3]))
            at = got.next
        assert seen == [(i * i, i, b"node", i) for i in reversed(range(500))]
        assert obj.add.run().retval == 0
        assert obj.bss.total == sum(i * i for i in range(500))
        assert obj.bss.count == sum(range(500))
        first = obj.arena.at(obj.bss.head, node)
        assert (first.value, first.inner.b) == (499 * 499 + 1, 77)
        # and the other way: a list that Python makes, in pages that are made when it touches them
        memory, rng = obj.arena.arena(), random.Random(seed())
        base = obj.bss.head - obj.arena.offset(obj.bss.head)
        values = [rng.getrandbits(40) for _ in range(50)]
        places = rng.sample(range(40 * 4096, 60 * 4096, 64), len(values))
        for value, place, after in zip(values, places, [*places[1:], 0], strict=True):
            memory[place : place + 16] = struct.pack("=QQ", value, base + after if after else 0)
        obj.bss.head, obj.bss.total = base + places[0], 0
        assert obj.add.run().retval == 0
        assert obj.bss.total == sum(values)
        assert struct.unpack_from("=Q", memory, places[-1]) == (values[-1] + 1,)


@pytest.mark.live
def test_pointers_in_maps_and_copies(tmp_path: Path) -> None:
    with _loaded(tmp_path) as obj:
        obj.bss.wanted = 100
        assert obj.fill.run().retval == 0
        obj.bss.wanted = 5
        assert obj.through_maps.run().retval == 1  # no such square
        for root, cells, hits in ((9, 9, 5), (8, 0, 9)):
            obj.bss.wanted = root * root
            assert obj.through_maps.run().retval == 100
            copied = obj.copies[1]
            assert (copied.value, copied.inner.a, copied.cells[0]) == (
                root * root,
                root,
                root if not root & 3 else cells,
            )
            assert (obj.entries[1].node, obj.entries[1].hits) == (obj.by_value[root * root], hits)
            obj.arena.arena()[obj.arena.offset(obj.slots[1]) + 16 :][:5] = b"node\0"


@pytest.mark.live
def test_numbers_pages_and_their_end(tmp_path: Path) -> None:
    with _loaded(tmp_path) as obj:
        assert obj.numbers.run().retval == (0 + 40) + (1 + 1) + 99 + 2 * 99 + 2 + 600
        assert obj.all_pages.run().retval == 64 - 1  # one page of `numbers` was given back
        assert sum(obj.arena.arena()[4095::4096]) == 63
        with pytest.raises(KernelError, match="is no address in the arena"):
            obj.arena.offset(0)


@pytest.mark.live
def test_libbpf_takes_it(tmp_path: Path) -> None:
    """libbpf before 1.4 maps no arena: the kernel has to be told the address."""
    path, pins = tmp_path / "arena.bpf.o", tmp_path / "bpffs"
    pins.mkdir()
    path.write_bytes(compile_programs(programs_of(module(tmp_path, PROGRAMS.replace("ADDRESS", "1 << 30")))))
    assert sorted(libbpf.loadall(path, pins)) == ["add", "all_pages", "fill", "numbers", "through_maps"]


@pytest.mark.live
@pytest.mark.parametrize("cpu", ["v1", "v3", "v4"])
def test_the_same_bytes_as_in_a_map(cpu: str, tmp_path: Path) -> None:
    """Every kind of field, read, written and copied, over random bytes."""
    bpf()
    rng, path = random.Random(seed()), tmp_path / "twin.bpf.o"
    path.write_bytes(compile_programs(programs_of(arena_twin), cpu=cpu))
    with skep.load(str(path)) as obj:
        size = obj.codec("Twin").size
        assert obj.make.run().retval == 0
        at = obj.arena.offset(obj.bss.at)
        memory, raw = obj.arena.arena(), obj.values.raw
        for _ in range(20):
            parts = [rng.randbytes(size) for _ in range(2)]
            for i, part in enumerate(parts):
                raw[struct.pack("=I", i)] = part
                memory[at + i * size : at + (i + 1) * size] = part
            assert obj.in_map.run().retval == obj.in_arena.run().retval
            for i, part in enumerate(parts):
                now = raw[struct.pack("=I", i)]
                assert now != part
                assert now == memory[at + i * size : at + (i + 1) * size]


TREE = f"""{HEADER}
from skep.net import ethhdr, iphdr

arena = bpf.Arena(pages=16)

@bpf.struct
class Flow:
    left: bpf.ArenaPtr["Flow"]
    right: bpf.ArenaPtr["Flow"]
    address: be32
    packets: u64

root: bpf.ArenaPtr[Flow] = bpf.var(None)
free: bpf.ArenaPtr[Flow] = bpf.var(None)
lost: u64 = bpf.var(0)

@bpf.syscall
def prepare() -> int:
    global free
    pool = arena.alloc(Flow, 200)
    if pool is None:
        return 1
    for i in range(200):
        pool[i].left = free
        free = pool[i]
    return 0

def found(address: u64) -> bpf.ArenaPtr[Flow]:
    n = root
    for _ in range(64):
        if n is None or n.address == address:
            return n
        n = n.left if address < n.address else n.right
    return None

def put(f: bpf.ArenaPtr[Flow], address: u64) -> u64:
    global root
    if f is None:
        return 1
    n = root
    if n is None:
        root = f
        return 1
    for _ in range(64):
        m = n.left if address < n.address else n.right
        if m is None:
            if address < n.address:
                n.left = f
            else:
                n.right = f
            return 1
        n = m
    return 0

@bpf.xdp
def count(ctx: bpf.Xdp) -> int:
    global free, lost
    pkt = ctx.packet()
    eth, ip = pkt.take(ethhdr), pkt.take(iphdr)
    if eth is None or ip is None:
        return bpf.XDP_PASS
    f = found(ip.saddr)
    if f is None:
        f = free
        if f is None:
            lost += 1
            return bpf.XDP_PASS
        free = f.left
        f.left = None
        f.address = ip.saddr
        put(f, ip.saddr)
    f.packets += 1
    return bpf.XDP_DROP
"""


@pytest.mark.live
@pytest.mark.parametrize("functions", ["", "@bpf.subprog", "@bpf.subprog(global_=True)"])
def test_a_tree_that_a_packet_program_grows(functions: str, tmp_path: Path) -> None:
    """Nodes are allocated by one program, linked and counted in by another, which may not sleep."""
    bpf()
    rng = random.Random(seed())
    hosts = rng.sample(range(1 << 32), 250)
    text = TREE.replace("def found", f"{functions}\ndef found").replace("def put", f"{functions}\ndef put")
    want: dict[int, int] = {}
    lost = 0
    with skep.load(programs_of(module(tmp_path, text))) as obj:
        assert obj.prepare.run().retval == 0
        for _ in range(1500):
            host = rng.choice(hosts)
            verdict = obj.count.run(bytes(26) + struct.pack("!II", host, 1) + bytes(20)).retval
            if host in want or len(want) < 200:
                want[host] = want.get(host, 0) + 1
                assert verdict == 1
            else:
                lost += 1
                assert verdict == 2
        flow, seen = obj.codec("Flow"), {}

        def walk(pointer: int) -> None:
            if pointer:
                node = obj.arena.at(pointer, flow)
                walk(node.left)
                seen[node.address] = node.packets
                walk(node.right)

        walk(obj.bss.root)
        assert list(seen) == sorted(want)
        assert seen == want
        assert obj.bss.lost == lost > 0


N = "n = head\nif n is None:\n    return 0\n"
SUB = "\n@bpf.subprog\ndef sub(n: bpf.ArenaPtr[Node]) -> u64:\n    return 1\n"
WRONG = [
    ("syscall", "return head.value", "head.value", "head may be None here"),
    ("syscall", "n = arena.alloc(Node)\nn.value = 1", "n.value", "n may be None here"),
    ("syscall", N + "m = n.next\nreturn m.value", "m.value", "m may be None here"),
    ("syscall", "arena.free(head)", "arena.free(head)", "may be None here"),
    ("syscall", "arena.free(5)", "arena.free(5)", "is not of the arena"),
    ("syscall", "arena.alloc(5)", "arena.alloc(5)", "takes a type"),
    ("syscall", "arena.alloc(Locked)", "arena.alloc(Locked)", "a bpf_spin_lock cannot be in an arena"),
    ("syscall", "arena.alloc(Node, 9999)", "arena.alloc(Node, 9999)", "take 137 pages, arena has 64"),
    ("syscall", "arena.alloc(Node, count)", "arena.alloc(Node, count)", "count may be 0"),
    ("xdp", "arena.alloc(Node)", "arena.alloc(Node)", "may sleep, and this program may not"),
    ("syscall", "global head\nhead = Node()", "head = Node()", "cannot be Node"),
    ("syscall", "global head\nhead = 5", "head = 5", "cannot be an integer"),
    ("syscall", "global head\no = others\nif o:\n    head = o", "head = o", "kept as a pointer to a Node"),
    ("syscall", N + "n.next = others", "n.next", "kept as a pointer to a Node"),
    ("syscall", N + "return n.cells[count]", "n.cells[count]", "has elements 0 to 3"),
    ("syscall", N + "return n.nosuch", "n.nosuch", "has no field 'nosuch'"),
    ("syscall", N + "while n is not None:\n    n = n.next", "n is not None", "nothing bounds this loop"),
    (
        "syscall",
        N + "bpf.probe_read_kernel(n.name, bpf.get_current_task())",
        "bpf.probe_read_kernel(n.name, bpf.get_current_task())",
        "cannot be given to the kernel",
    ),
    ("syscall", N + "events.output(n)", "n", "has no place in memory"),
    ("syscall", N + "for x in n:\n    pass", "n", "cannot be looped over"),
    ("syscall", "return sub(5)", "sub(5)", "cannot be an integer"),
    ("syscall", N + "return sub(others)", "sub(others)", "kept as a pointer to a Node"),
    ("syscall", "arena[0] = 1", "arena[0]", "cannot be set"),
    ("syscall", "return arena.get(1)", "arena.get", "has no 'get'"),
]


@pytest.mark.parametrize(("hook", "body", "at", "says"), WRONG, ids=[case[1][-30:] for case in WRONG])
def test_refused_at_the_span(hook: str, body: str, at: str, says: str, tmp_path: Path) -> None:
    params = "ctx: bpf.Xdp" if hook == "xdp" else "ctx"
    text = (
        f"{DECLARED.replace('ADDRESS', '0')}{SUB}\n@bpf.{hook}\ndef main({params}) -> int:\n"
        f"{textwrap.indent(body, '    ')}\n    return 0\n"
    )
    with pytest.raises(CompileError) as caught:
        to_ir([module(tmp_path, text).main])
    error = caught.value
    assert error.source is not None and error.column is not None and error.end_column is not None
    assert error.source.splitlines()[error.line - 1][error.column : error.end_column] == at
    assert says in error.reason


def test_one_arena_and_what_it_is_made_of(tmp_path: Path) -> None:
    two = (
        f"{HEADER}\na = bpf.Arena(1)\nb = bpf.Arena(1)\n\n@bpf.syscall\ndef main(ctx) -> int:\n    return 0\n"
    )
    with pytest.raises(CompileError, match="a and b are two arenas") as caught:
        to_ir([module(tmp_path, two).main])
    assert two.splitlines()[caught.value.line - 1] == "b = bpf.Arena(1)"
    none = (
        f"{HEADER}\n@bpf.struct\nclass N:\n    x: u64\n\nn: bpf.ArenaPtr[N] = bpf.var(None)\n"
        "\n@bpf.syscall\ndef main(ctx) -> int:\n    p = n\n    return p.x if p is not None else 0\n"
    )
    with pytest.raises(CompileError, match="a pointer into an arena, and there is none"):
        to_ir([module(tmp_path, none).main])
    for pages in ("0", "-1", "1 << 21", "'x'"):
        with pytest.raises(SkepError, match="pages="):
            module(tmp_path, f"{HEADER}\na = bpf.Arena({pages})\n")
    with pytest.raises(SkepError, match="is no address of a page"):
        module(tmp_path, f"{HEADER}\na = bpf.Arena(1, address=5)\n")
