"""Feature probes against bpftool's, and against what programs of the kernel's own can do."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from skep.errors import NotSupported
from skep.linux.features import MISC, Features, features
from skep.uapi.enums import MapType, ProgType
from tests.kernel.build import no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def probed() -> dict[str, Any]:
    oracles.bpf()
    words = [oracles.tool("bpftool"), "-j", "feature", "probe", "kernel"]
    found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return found


def test_types_are_those_bpftool_finds(probed: dict[str, Any]) -> None:
    ours = features()
    compared = 0
    for kind in ProgType:
        theirs = probed["program_types"].get(f"have_{kind.name.lower()}_prog_type")
        # bpftool asks for fentry, which lockdown forbids; tp_btf programs are of the type too.
        if theirs is not None and kind != ProgType.TRACING:
            assert ours.prog_type(kind) == theirs, kind
            compared += 1
    for map_kind in MapType:
        theirs = probed["map_types"].get(f"have_{map_kind.name.lower()}_map_type")
        if theirs is not None:
            assert ours.map_type(map_kind) == theirs, map_kind
            compared += 1
    print(f"{compared} types compared")
    assert compared > 50


def test_every_feature_of_an_older_kernel_is_there() -> None:
    """What the table says came before this kernel, and needs no configuration or device."""
    oracles.bpf()
    ours = features()
    for row in [*ours.btf_kinds(), *ours.miscellaneous()]:
        first = tuple(int(part) for part in row.since.split("."))
        if ours.kernel.version >= first:
            assert row.there, row.name


def test_helpers() -> None:
    oracles.bpf()
    ours = features()
    xdp, kprobe = ours.helpers(ProgType.XDP), ours.helpers(ProgType.KPROBE)
    assert {"bpf_xdp_adjust_head", "bpf_map_lookup_elem", "bpf_redirect"} <= set(xdp)
    assert {"bpf_probe_read_kernel", "bpf_get_current_comm"} <= set(kprobe)
    assert "bpf_xdp_adjust_head" not in kprobe
    assert "bpf_skb_store_bytes" not in xdp
    assert ours.helper(ProgType.TRACING, 1) is None


def test_answers_are_kept_and_nothing_is_left_open() -> None:
    oracles.bpf()
    with no_leaks():
        fresh = Features()
        for kind in (MapType.ARRAY_OF_MAPS, MapType.TASK_STORAGE, MapType.RINGBUF):
            assert fresh.map_type(kind)
        for rows in (fresh.prog_types(), fresh.link_types(), fresh.miscellaneous()):
            assert rows
    kernel, fresh.kernel = fresh.kernel, None  # type: ignore[assignment]
    assert fresh.prog_type(ProgType.XDP)
    assert kernel is not None


def test_what_is_required_and_missing() -> None:
    name = next(iter(MISC))
    with pytest.raises(NotSupported, match=r"Linux 5\.2 has it") as caught:
        features().require(name, False)
    assert caught.value.since == "5.2"
    features().require(name, True)
