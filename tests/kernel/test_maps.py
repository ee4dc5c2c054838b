"""Maps as mappings: every type, every kind of value, held against bpftool's reading of the same map."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import skep
from skep.errors import KernelError
from skep.kernel.object import Object
from tests.kernel.build import build, no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live
SEED = int(os.environ.get("SKEP_SEED", "7"))


@pytest.fixture
def obj() -> Iterator[Object]:
    oracles.bpf()
    with no_leaks(), skep.load(build("maps")) as made:
        yield made


def dumped(map: Any) -> list[dict[str, Any]]:
    """The map as bpftool sees it."""
    out = subprocess.run(
        [oracles.tool("bpftool"), "-j", "map", "dump", "id", str(map.id)],
        capture_output=True,
        check=True,
        text=True,
    )
    found: list[dict[str, Any]] = json.loads(out.stdout)
    return found


VALUE: dict[str, Any] = {
    "flag": 200,
    "small": -3,
    "count": 2**64 - 1,
    "at": {"x": -1, "y": 2},
    "path": [(1, 2), (3, 4), (-5, -6)],
    "color": 5,
    "text": "hello",
    "raw": b"\x00\x01\x02\xfd\xfe\xff",
    "yes": True,
    "bits": 5,
    "more": 99,
    "signed_bits": -7,
    "either": {"word": 0x1122334455667788},
    "inner_a": 1,
    "inner_b": 2,
    "u_word": 0x01020304,
    "grid": [[1, 2], [3, 4]],
    "pointer": 0xFFFF888000000000,
}


def test_values_of_all_kinds(obj: Object) -> None:
    key = {"id": 7, "name": "seven"}
    obj.table[key] = VALUE
    got = obj.table[7, b"seven"]
    assert (got.flag, got.small, got.count, got.color) == (200, -3, 2**64 - 1, 5)
    assert (got.at.x, got.at.y) == (-1, 2)
    assert [(p.x, p.y) for p in got.path] == [(1, 2), (3, 4), (-5, -6)]
    assert (got.text, got.raw, got.yes) == (b"hello", VALUE["raw"], True)
    assert (got.bits, got.more, got.signed_bits) == (5, 99, -7)
    assert (got.either.word, got.either.low, got.either.high) == (0x1122334455667788, 0x55667788, 0x11223344)
    assert got.either.bytes == bytes.fromhex("8877665544332211")
    assert (got.inner_a, got.inner_b, got.u_word, got.u_byte) == (1, 2, 0x01020304, 4)
    assert (got.grid, got.pointer) == ([[1, 2], [3, 4]], 0xFFFF888000000000)
    obj.wider[1] = {"real": 1.5, "wide": -(2**100), "single": 0.25}
    assert obj.wider[1]._asdict() == {"real": 1.5, "wide": -(2**100), "single": 0.25}
    shown = dumped(obj.table)[0]["formatted"]
    assert shown["key"] == {"id": 7, "name": "seven"}
    want = got._asdict()
    for name in ("flag", "small", "count", "at", "path", "yes", "grid", "pointer"):
        assert shown["value"][name] == want[name], name
    assert (shown["value"]["text"], bytes(shown["value"]["raw"])) == ("hello", want["raw"])
    assert [int(shown["value"][name], 16) for name in ("bits", "more")] == [5, 99]
    assert shown["value"]["either"]["word"] == got.either.word


def test_values_are_values(obj: Object) -> None:
    obj.table[7, "a"] = VALUE
    obj.table[8, "b"] = VALUE
    one, two = obj.table[7, "a"], obj.table[8, "b"]
    assert one == two
    assert hash(one) == hash(two)
    changed = one._replace(small=4, more=1, inner_b=9)
    assert (changed.small, changed.more, changed.bits, changed.inner_b, one.small) == (4, 1, 5, 9, -3)
    assert changed != one
    obj.table[7, "a"] = changed
    assert obj.table[7, "a"] == changed
    assert repr(one.at) == "point(x=-1, y=2)"
    made = obj.codec("point")(3, y=4)
    assert (made.x, made.y, made._asdict()) == (3, 4, {"x": 3, "y": 4})


def test_random_tables_read_as_bpftool_reads_them(obj: Object) -> None:
    rng = random.Random(SEED)
    print(f"SKEP_SEED={SEED}")
    want = {rng.getrandbits(32): rng.getrandbits(64) - 2**63 for _ in range(777)}
    obj.numbers.update(want)
    assert dict(obj.numbers) == dict(obj.numbers.items()) == want
    assert {row["formatted"]["key"]: row["formatted"]["value"] for row in dumped(obj.numbers)} == want
    assert len(obj.numbers) == 777
    gone = rng.sample(sorted(want), 300)
    for key in gone:
        del obj.numbers[key]
        del want[key]
    assert sorted(obj.numbers) == sorted(want)
    assert sorted(obj.numbers.values()) == sorted(want.values())
    obj.numbers.clear()
    assert not obj.numbers
    assert list(obj.numbers) == []


def test_lookups_that_fail(obj: Object) -> None:
    assert 5 not in obj.numbers
    assert obj.numbers.get(5) is None
    with pytest.raises(KeyError):
        obj.numbers[5]
    with pytest.raises(KeyError):
        del obj.numbers[5]
    with pytest.raises(KeyError):
        obj.slots[10]
    with pytest.raises(KernelError, match=r"past its end|full") as caught:
        obj.slots[10] = 1
    assert caught.value.errno == errno.E2BIG
    with pytest.raises(KernelError, match="cannot be deleted"):
        del obj.slots[0]


def test_insert_replace_pop(obj: Object) -> None:
    obj.numbers.insert(1, -1)
    with pytest.raises(KernelError, match="exists already"):
        obj.numbers.insert(1, -2)
    obj.numbers.replace(1, -3)
    with pytest.raises(KernelError, match="no such key"):
        obj.numbers.replace(2, 0)
    assert obj.numbers.pop(1) == -3
    assert obj.numbers.pop(1, "gone") == "gone"
    with pytest.raises(KeyError):
        obj.numbers.pop(1)


@pytest.mark.parametrize(
    ("map", "key", "value", "words"),
    [
        ("numbers", 2**32, 0, r"key: 4294967296 does not fit in u32 \(0 to 4294967295\)"),
        ("numbers", -1, 0, "key: -1 does not fit in u32"),
        ("numbers", 1, 2**63, "value: 9223372036854775808 does not fit in s64"),
        ("numbers", "x", 0, "key: 'x' where u32 belongs"),
        ("numbers", 1, 1.5, "value: 1.5 where s64 belongs"),
        ("table", (1, "too long a name"), {}, r"key\.name: 15 bytes where at most 8 fit"),
        ("table", (1,), {}, "key: 1 values for the 2 members of key: id, name"),
        ("table", (1, "a"), {"nothing": 1}, "has no member 'nothing'"),
        ("table", (1, "a"), {"at": {"x": 2**31}}, r"value\.at\.x: 2147483648 does not fit in s32"),
        ("table", (1, "a"), {"path": [(1, 2)]}, r"value\.path: a list of 1 where 3 belong"),
        ("table", (1, "a"), {"path": [(1, 2), (1, 2), (1, "y")]}, r"value\.path\[2\]\.y: 'y' where s32"),
        ("table", (1, "a"), {"more": 128}, r"value\.more: 128 does not fit in 7 bits"),
        ("table", (1, "a"), {"raw": b"123"}, r"value\.raw: 3 bytes where 6 belong"),
        ("per_cpu", 1, 5, "a list of .* values belongs, one for each possible CPU"),
    ],
)
def test_what_does_not_fit_changes_nothing(obj: Object, map: str, key: Any, value: Any, words: str) -> None:
    target = obj.maps[map]
    with pytest.raises(KernelError, match=words) as caught:
        target[key] = value
    assert caught.value.errno == errno.EINVAL
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"map {map}: ")
    assert list(target) == []


def test_update_checks_all_before_it_stores_any(obj: Object) -> None:
    with pytest.raises(KernelError):
        obj.numbers.update({1: 1, 2: 2**70})
    assert len(obj.numbers) == 0


def test_a_full_map(obj: Object) -> None:
    for id in range(64):
        obj.table[id, "k"] = {"count": id}
    with pytest.raises(KernelError, match="the map is full"):
        obj.table[64, "k"] = {}
    assert len(obj.table) == 64
    with pytest.raises(KernelError, match="the map is full") as caught:
        obj.table.update({(id, "n"): {} for id in range(3)})
    assert caught.value.count == 0


def test_per_cpu(obj: Object) -> None:
    cpus = obj.kernel.cpus
    obj.per_cpu[3] = list(range(cpus))
    assert obj.per_cpu[3] == list(range(cpus))
    assert dict(obj.per_cpu.items()) == {3: list(range(cpus))}
    assert [row["value"] for row in dumped(obj.per_cpu)[0]["formatted"]["values"]] == list(range(cpus))
    obj.per_cpu_slots[1] = [(i, -i) for i in range(cpus)]
    assert [p.y for p in obj.per_cpu_slots[1]] == [-i for i in range(cpus)]
    obj.per_cpu.update({1: [9] * cpus, 2: [8] * cpus})
    assert obj.per_cpu[2] == [8] * cpus


def test_lpm(obj: Object) -> None:
    obj.routes["10.0.0.0/8"] = 1
    obj.routes[ipaddress.ip_network("10.1.0.0/16")] = 2
    obj.routes[24, bytes([10, 1, 2, 0])] = 3
    address = [32, bytes([10, 1, 9, 9])]
    assert obj.routes[tuple(address)] == 2
    assert obj.routes["10.1.2.77/32"] == 3
    assert {(k.prefixlen, k.address): v for k, v in obj.routes.items()} == {
        (8, bytes([10, 0, 0, 0])): 1,
        (16, bytes([10, 1, 0, 0])): 2,
        (24, bytes([10, 1, 2, 0])): 3,
    }
    with pytest.raises(KernelError, match="33 does not fit in the 32 bits"):
        obj.routes[33, bytes(4)] = 1
    with pytest.raises(KernelError, match="an address of 16 bytes where 4 belong"):
        obj.routes["::/0"] = 1


def test_queues_stacks_and_blooms(obj: Object) -> None:
    for x in range(3):
        obj.fifo.push((x, 0))
        obj.lifo.push(x)
    assert (obj.fifo.peek().x, obj.fifo.pop().x, obj.fifo.pop().x) == (0, 0, 1)
    assert (obj.lifo.peek(), obj.lifo.pop(), obj.lifo.pop(), obj.lifo.pop()) == (2, 2, 1, 0)
    with pytest.raises(KeyError, match="empty"):
        obj.lifo.pop()
    for x in range(4):
        obj.lifo.push(x, force=True)
    assert obj.lifo.pop() == 3
    with pytest.raises(KernelError, match="has no keys"):
        obj.fifo[0]
    with pytest.raises(KernelError, match="cannot be listed"):
        list(obj.fifo)
    obj.bloom.push(77)
    assert 77 in obj.bloom
    assert sum(n in obj.bloom for n in range(100, 1100)) < 500


def test_maps_of_maps(obj: Object) -> None:
    obj.first[0] = 11
    assert obj.outer[1][0] == 11
    assert obj.outer[3].id == obj.second.id
    obj.outer[0] = obj.first
    assert obj.outer[0].id == obj.first.id
    assert sorted(key for key, _ in obj.outer.items()) == [0, 1, 3]
    with pytest.raises(KeyError):
        obj.outer[2]


def test_program_arrays(obj: Object) -> None:
    assert obj.jump.run(bytes(60)).retval == 42
    obj.maps["programs"][2] = obj.other
    assert obj.jump.run(bytes(60)).retval == 43
    del obj.maps["programs"][2]
    assert obj.jump.run(bytes(60)).retval == 1


def test_raw_bytes(obj: Object) -> None:
    obj.numbers[258] = 1
    assert dict(obj.numbers.raw) == {(258).to_bytes(4, "little"): (1).to_bytes(8, "little")}
    obj.numbers.raw[bytes(4)] = bytes(8)
    assert obj.numbers[0] == 0
    with pytest.raises(KernelError, match="a key of 3 bytes, not 4"):
        obj.numbers.raw[bytes(3)]
    with pytest.raises(KernelError, match="a value of 7 bytes, not 8"):
        obj.numbers.raw[bytes(4)] = bytes(7)


def test_frozen_maps(obj: Object) -> None:
    obj.slots.freeze()
    with pytest.raises(KernelError):
        obj.slots[0] = 1
    assert obj.slots[0] == 0


def test_globals(obj: Object) -> None:
    assert (obj.rodata.factor, obj.bss.total, obj.data_mine.custom) == (3, 0, 8)
    assert obj.use.run(bytes(60)).retval == 3
    assert (obj.bss.total, obj.data_mine.custom, obj.data.where.x, obj.slots[0]) == (3, 9, 11, 3)
    obj.bss.total = 1000
    obj.data.where = (5, 6)
    obj.use.run(bytes(60))
    assert (obj.bss.total, obj.data.where._asdict()) == (1003, {"x": 15, "y": 6})
    with pytest.raises(KernelError, match="constant once loaded"):
        obj.rodata.factor = 4
    with pytest.raises(KernelError, match="4294967296 does not fit"):
        obj.bss.total = 2**32
    with pytest.raises(AttributeError, match="there are: total"):
        obj.bss.nothing  # noqa: B018 - the access is the test
