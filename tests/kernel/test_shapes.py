"""Sizes that declarations leave to the loader, and objects that no loader here takes."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep import obj
from skep.errors import KernelError, LinkError, NotSupported
from skep.kernel import refusal
from skep.kernel.loader import Loader
from skep.kernel.map import Map
from skep.linux.kernel import LinuxKernel
from skep.obj.spec import MapSpec, ObjectSpec
from skep.uapi.enums import MapType
from tests.kernel.build import no_leaks
from tests.obj.support import compiled, written
from tests.support import oracles

pytestmark = pytest.mark.live


def created(spec: MapSpec, max_entries: dict[str, int] | None = None) -> dict[str, int]:
    """The map that a loader makes of a declaration, as the kernel describes it."""
    oracles.bpf()
    whole = ObjectSpec("shapes")
    whole.maps[spec.name] = spec
    with no_leaks(), Loader(LinuxKernel(), whole, max_entries=max_entries).load() as loaded:
        made: Map = loaded.maps[spec.name]
        return {key: int(made.info[key]) for key in ("key_size", "value_size", "max_entries")}


def test_sizes_left_to_the_loader() -> None:
    cpus = LinuxKernel().cpus
    none = {"key_size": 4, "value_size": 4, "max_entries": cpus}
    assert created(MapSpec("e", MapType.PERF_EVENT_ARRAY)) == none
    assert created(MapSpec("c", MapType.CPUMAP, 4, 4)) == none
    assert created(MapSpec("s", MapType.STACK_TRACE, 4, 0, 7)) == {
        "key_size": 4,
        "value_size": 8 * 127,
        "max_entries": 7,
    }
    inner = MapSpec("in", MapType.HASH, 8, 8, 1)
    assert created(MapSpec("o", MapType.ARRAY_OF_MAPS, 4, 0, 3, inner=inner))["value_size"] == 4


def test_a_record_type_is_no_value_size() -> None:
    """`__type(value, struct event)` of an array of perf events, for those who read the object."""
    assert created(MapSpec("e", MapType.PERF_EVENT_ARRAY, 0, 84, value_type_id=9))["value_size"] == 4
    assert created(MapSpec("r", MapType.RINGBUF, 0, 84, 4096, value_type_id=9))["value_size"] == 0
    with pytest.raises(KernelError):
        created(MapSpec("e", MapType.PERF_EVENT_ARRAY, 4, 84))


def test_what_the_loader_must_be_told() -> None:
    empty = MapSpec("scratch", MapType.ARRAY, 4, 8)
    with pytest.raises(KernelError, match=r"its size is left to the loader: max_entries=\{'scratch': …\}"):
        created(empty)
    assert created(empty, max_entries={"scratch": 2})["max_entries"] == 2


def test_the_other_byte_order(tmp_path: Path) -> None:
    text = 'SEC("xdp") int pass(void *ctx) { return 2; }\nLICENSE;'
    path = compiled(written(tmp_path, "x.c", text), tmp_path / "x.o", "19", "v3", "--target=bpfeb")
    assert obj.link_program(obj.read(path), "pass").insns, "reading and linking it is possible"
    oracles.bpf()
    with no_leaks(), pytest.raises(LinkError, match="made for big-endian machines, this one is little"):
        skep.load(path)


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    text = 'SEC("fentry/dummy_read") int f(void *ctx) { return 0; }\nLICENSE;'
    path = compiled(written(tmp_path, "f.c", text), tmp_path / "f.o")
    oracles.bpf()
    with no_leaks(), pytest.raises(NotSupported, match=r"'dummy_read' \(not in .*targets=\{'f': …\} names"):
        skep.load(path)


def test_a_refused_attachment_names_the_program(tmp_path: Path) -> None:
    text = 'SEC("raw_tp/no_such_tracepoint") int probe(void *ctx) { return 0; }\nLICENSE;'
    path = compiled(written(tmp_path, "r.c", text), tmp_path / "r.o")
    oracles.bpf()
    with (
        no_leaks(),
        skep.load(path) as loaded,
        pytest.raises(KernelError, match=r"program probe \(raw_tp/no_such_tracepoint\): no raw tracepoint"),
    ):
        loaded.programs["probe"].attach()


def test_helpers_that_old_kernels_do_not_know_have_names() -> None:
    assert refusal._helper(158, "unknown") == ("5.11", "bpf_get_current_task_btf")
    assert refusal._helper(1 << 20, "unknown") == (None, f"helper {1 << 20}")


@pytest.mark.parametrize("kind", [MapType.PROG_ARRAY, MapType.ARRAY_OF_MAPS, MapType.DEVMAP, MapType.CPUMAP])
def test_empty_slots_are_no_keys(kind: MapType) -> None:
    oracles.bpf()
    whole = ObjectSpec("slots")
    inner = MapSpec("in", MapType.ARRAY, 4, 8, 1) if kind == MapType.ARRAY_OF_MAPS else None
    whole.maps["m"] = MapSpec("m", kind, 4, 4, 2, inner=inner)
    whole.maps["in"] = MapSpec("in", MapType.ARRAY, 4, 8, 1)
    with no_leaks(), Loader(LinuxKernel(), whole).load() as loaded:
        made = loaded.maps["m"]
        assert (list(made), dict(made), len(made), bool(made), dict(made.raw)) == ([], {}, 0, False, {})
        if kind == MapType.ARRAY_OF_MAPS:
            made[1] = loaded.maps["in"]
            assert list(made) == [1] and len(made) == 1 and made
