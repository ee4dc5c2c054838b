"""bpftool's nouns: the same answers, letter by letter, for objects that the test loaded."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.cli.noun.objects import info
from skep.cli.prog.profile import table
from skep.kernel.object import Object
from skep.linux.profiler import Reading
from skep.uapi.enums import ProgType
from tests.cli.bpftool import Pair, bpffs, compile_c
from tests.linux.links.rig import Rig
from tests.support.oracles import bpf, netns, tool

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bpf()
    return compile_c("nouns", tmp_path_factory.mktemp("nouns"))


@pytest.fixture
def loaded(file: Path) -> Iterator[Object]:
    with skep.load(file) as made:
        yield made


@pytest.fixture
def pair(capsys: pytest.CaptureFixture[str]) -> Pair:
    return Pair(capsys)


def prog_id(made: Object, name: str) -> str:
    return str(info(made.kernel, made.programs[name].fd, "prog")["id"])


def map_id(made: Object, name: str) -> str:
    return str(made.maps[name].id)


# --- prog --------------------------------------------------------------------------------------


def test_prog_show(loaded: Object, pair: Pair) -> None:
    for name in loaded.programs:
        row = pair.same("prog", "show", "id", prog_id(loaded, name))
        assert row["id"] == int(prog_id(loaded, name))
    row = pair.same("prog", "show", "id", prog_id(loaded, "xdp_with_a_long_name"))
    assert row["name"] == "xdp_with_a_long_name"
    assert row["metadata"] == {"author": "someone", "version": 3}


def test_prog_show_by_tag_and_name(loaded: Object, pair: Pair) -> None:
    row = pair.json("prog", "show", "id", prog_id(loaded, "egress"))
    found = pair.json("prog", "show", "tag", row["tag"])
    assert row["id"] in [each["id"] for each in (found if isinstance(found, list) else [found])]
    status, _, err = pair.ours("prog", "show", "name", f"none{os.getpid()}")
    assert status == 1
    assert "no such prog" in err


def test_prog_dump_xlated(loaded: Object, pair: Pair) -> None:
    # bpftool 7.1 has no words for the kernel's per-CPU address moves: the program without one is compared
    for name in ("egress", "sock"):
        for mode in ((), ("opcodes",), ("linum",)):
            pair.same("prog", "dump", "xlated", "id", prog_id(loaded, name), *mode)
    for mode in ((), ("opcodes",), ("linum",)):
        words = ("prog", "dump", "xlated", "id", prog_id(loaded, "xdp_with_a_long_name"), *mode)
        theirs, ours = json.loads(pair.theirs("-j", *words)[1]), pair.json(*words)
        assert len(theirs) == len(ours) > 40
        differ = [(a, b) for a, b in zip(theirs, ours, strict=True) if a != b]
        assert all("(void __percpu *)" in b["disasm"] for _, b in differ)
        assert len(differ) <= 1


def test_prog_dump_to_a_file(loaded: Object, pair: Pair, tmp_path: Path) -> None:
    id = prog_id(loaded, "xdp_with_a_long_name")
    for kind in ("xlated", "jited"):
        ours, theirs = tmp_path / f"ours.{kind}", tmp_path / f"theirs.{kind}"
        assert pair.ours("prog", "dump", kind, "id", id, "file", str(ours))[0] == 0
        assert pair.theirs("prog", "dump", "xlated", "id", id, "file", str(theirs))[0] == 0
        if kind == "xlated":
            assert ours.read_bytes() == theirs.read_bytes()
        assert ours.stat().st_size == pair.json("prog", "show", "id", id)[f"bytes_{kind}"]


def test_prog_dump_jited(loaded: Object, pair: Pair) -> None:
    pytest.importorskip("capstone")
    functions = pair.json("prog", "dump", "jited", "id", prog_id(loaded, "xdp_with_a_long_name"), "opcodes")
    assert [row["proto"] for row in functions] == [
        "int xdp_with_a_long_name(struct xdp_md * ctx)",
        "int sub(u32 x)",
    ]
    assert functions[1]["name"].startswith("bpf_prog_")
    size = sum(len(insn["opcodes"]) for row in functions for insn in row["insns"])
    assert size <= pair.json("prog", "show", "id", prog_id(loaded, "xdp_with_a_long_name"))["bytes_jited"]
    assert functions[1]["insns"][0]["pc"] == "0x0"
    assert {insn["operation"] for insn in functions[1]["insns"]} & {"retq", "ret", "jmp"}


def _edges_and_instructions(graph: str) -> list[str]:
    """A graph's lines without what bpftool 7.1 does not have: notes, names of functions, per-CPU moves.

    It also draws an edge from a call at a block's end a second time.
    """
    text = re.sub(r"; .*?\\l\\\n", "", graph)
    text = text.replace('label="{\\\n', 'label="{').replace(" | ", "| ")
    text = re.sub(r"(?<=[{ ]) *(\d+): ", r"\1: ", text)
    text = re.sub(r"(call pc[+-]\d+)#\w+", r"\1", text)
    text = re.sub(r"\\&\(void __percpu \*\)\((r\d)\)", r"\1", text)
    return [line for line in dict.fromkeys(text.split("\n")) if line != '\tcolor="black";']


def test_prog_dump_visual_is_bpftools_graph(loaded: Object, pair: Pair) -> None:
    for name in loaded.programs:
        words = ("prog", "dump", "xlated", "id", prog_id(loaded, name), "visual")
        status, ours, _ = pair.ours(*words)
        theirs = pair.theirs(*words)[1]
        assert status == 0 and _edges_and_instructions(ours) == _edges_and_instructions(theirs)
        assert ours.count("bb_0 [shape=Mdiamond") == ours.count("subgraph") == theirs.count("subgraph")
    # what today's bpftool adds: types, source lines, and when asked for their places and the bytes
    words = ("prog", "dump", "xlated", "id", prog_id(loaded, "xdp_with_a_long_name"))
    graph = pair.ours(*words, "visual")[1]
    assert "; int xdp_with_a_long_name(struct xdp_md * ctx):\\l\\\n; " in graph
    assert "; int sub(u32 x):\\l\\\n; " in graph
    assert re.search(
        r"^; \[.*nouns\.bpf\.c line:\d+ col:\d+\]\\l", pair.ours(*words, "linum", "visual")[1], re.M
    )
    assert re.search(r"^\\ \\ \\ \\ b[47] 00 ", pair.ours(*words, "visual", "opcodes")[1], re.M)
    assert pair.ours("-j", *words, "visual")[0] == pair.ours(*words, "jited", "visual")[0] == 2
    plain = pair.ours(*words, "linum", "opcodes")[1]
    assert "[file:" in plain and pair.theirs(*words, "linum")[1].splitlines()[0] in plain


def test_prog_run(loaded: Object, pair: Pair, tmp_path: Path) -> None:
    packet, left = tmp_path / "packet", tmp_path / "left"
    packet.write_bytes(bytes(range(80)))
    words = ("prog", "run", "id", prog_id(loaded, "sock"), "data_in", str(packet), "data_out")
    theirs, ours = json.loads(pair.theirs("-j", *words, "-")[1]), pair.json(*words, "-")
    assert ours.pop("duration") >= 0
    theirs.pop("duration")
    assert ours == theirs
    assert pair.ours(*words, str(left), "repeat", "3")[1].startswith(
        f"Return value: {ours['retval']}, duration (av"
    )
    assert left.read_bytes() == bytes(ours["data_out"])


def test_prog_profile_counts_runs(loaded: Object, pair: Pair) -> None:
    rows = pair.json("prog", "profile", "id", prog_id(loaded, "sock"), "duration", "0")
    assert rows[0]["run_cnt"] == 0
    # metrics: tests/linux/links/hooks/profile.py
    for words in (("cycle_count",), ("time", "cycles"), ("duration",)):
        assert pair.ours("prog", "profile", "id", prog_id(loaded, "sock"), *words)[0] == 2


def test_prog_profile_text() -> None:
    """Widths, ratios and shares of time as bpftool's format strings give them."""
    readings = [
        Reading("cycles", 3000, 10, 10),
        Reading("instructions", 4500, 10, 5),
        Reading("llc_misses", 9, 10, 10),
        Reading("task_clock", 50, 10, 10),
    ]
    assert table(20, readings).split("\n") == [
        "",
        "                20 run_cnt             ",
        f"              3000 cycles              {'':41s}",
        "              4500 instructions        #     1.50 insns per cycle               (50.00%)",
        "                 9 llc_misses          #  2000.00 LLC misses per million insns  ",
        "                50 task_clock          #     2.50 ns per run                    ",
        "",
    ]
    # what it is divided by was not asked for, or is zero
    assert "#" not in table(0, readings[2:])


# --- map ---------------------------------------------------------------------------------------


def test_map_show_dump_getnext(loaded: Object, pair: Pair) -> None:
    seed = int(os.environ.get("SKEP_SEED", "20"))
    print("SKEP_SEED", seed)
    chance = random.Random(seed)
    typed = loaded.maps["typed"]
    for _ in range(5):
        key = chance.randbytes(8)
        typed.raw[key] = bytes(
            chance.choice((0, 1, 65, 255, chance.randrange(256))) for _ in range(typed.value_size)
        )
    loaded.maps["each_cpu"].raw[bytes(4)] = chance.randbytes(loaded.maps["each_cpu"].raw_value_size)
    for name in loaded.maps:
        pair.same("map", "show", "id", map_id(loaded, name))
        pair.same("map", "dump", "id", map_id(loaded, name))
        pair.same("map", "getnext", "id", map_id(loaded, name), text=True)
    entries = pair.same("map", "dump", "id", map_id(loaded, "typed"))
    assert len(entries) == 5


def test_map_changes(loaded: Object, pair: Pair) -> None:
    id = map_id(loaded, "typed")
    key = ["key", "hex", "01", "00", "00", "00", "61", "62", "63", "64"]
    value = [str(byte % 256) for byte in range(loaded.maps["typed"].value_size)]
    assert pair.same("map", "lookup", "id", id, *key) is None
    assert pair.ours("-j", "map", "update", "id", id, *key, "value", *value, "noexist") == (0, "null\n", "")
    entry = pair.same("map", "lookup", "id", id, *key)
    assert entry["formatted"]["value"]["count"] == 0x0706050403020100
    status, _, err = pair.ours("map", "update", "id", id, *key, "value", *value, "noexist")
    assert status == 1
    assert "exists" in err
    assert pair.ours("map", "delete", "id", id, *key)[0] == 0
    assert pair.same("map", "lookup", "id", id, *key) is None


def test_map_values_of_every_cpu(loaded: Object, pair: Pair) -> None:
    id = map_id(loaded, "each_cpu")
    words = ("map", "update", "id", id, "key", "1", "0", "0", "0", "value", "0x2a", *["0"] * 7)
    assert pair.ours(*words)[0] == 0
    assert set(loaded.maps["each_cpu"][1]) == {42}
    pair.same("map", "lookup", "id", id, "key", "1", "0", "0", "0")


def test_map_of_programs(loaded: Object, pair: Pair) -> None:
    id = map_id(loaded, "jumps")
    words = ("map", "update", "id", id, "key", "2", "0", "0", "0", "value", "id", prog_id(loaded, "sock"))
    assert pair.ours(*words)[0] == 0
    rows = pair.same("map", "dump", "id", id)
    assert [row["key"][0] for row in rows] == ["0x02"]
    pair.same("map", "show", "id", id)


def test_map_freeze(file: Path, pair: Pair) -> None:
    with skep.load(file) as made:
        assert pair.ours("map", "freeze", "id", map_id(made, "each_cpu"))[0] == 0
        assert pair.same("map", "show", "id", map_id(made, "each_cpu"))["frozen"] == 1
        status, _, err = pair.ours(
            "map", "update", "id", map_id(made, "each_cpu"), "key", "0", "0", "0", "0", "value", *["1"] * 8
        )
        assert (status, "the map is frozen or read-only" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("key", "1", "2"), "key has 8 bytes, 2 are given"),
        (("key", *["256"] * 8), "does not fit 8 bits"),
        (("key", *["x"] * 8), "is no number"),
        (("key", "hex", *["1ff"] * 8), "is no byte"),
        (("value", "1"), "expected key"),
        ((), "key is missing"),
    ],
)
def test_map_words_that_are_wrong(loaded: Object, pair: Pair, words: tuple[str, ...], complaint: str) -> None:
    status, out, err = pair.ours("map", "lookup", "id", map_id(loaded, "typed"), *words)
    assert (status, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1
    status, out, _ = pair.ours("-j", "map", "lookup", "id", map_id(loaded, "typed"), *words)
    assert status == 2
    assert complaint in json.loads(out)["error"]


def test_pins(file: Path, pair: Pair, tmp_path: Path) -> None:
    with bpffs(tmp_path) as place:
        queue = str(place / "queue")
        create = ("type", "queue", "key", "0", "value", "4", "entries", "3", "name", "a_queue")
        assert pair.ours("map", "create", queue, *create)[0] == 0
        pair.same("map", "show", "pinned", queue)
        for byte in ("1", "2"):
            assert pair.ours("map", "push", "pinned", queue, "value", byte, "0", "0", "0")[0] == 0
        assert pair.same("map", "peek", "pinned", queue)["value"][0] == "0x01"
        assert pair.json("map", "pop", "pinned", queue)["value"][0] == "0x01"
        assert pair.json("map", "dequeue", "pinned", queue)["value"][0] == "0x02"
        assert pair.ours("-j", "map", "pop", "pinned", queue) == (1, "null\n", "")

        folder = place / "all"
        assert pair.ours("prog", "loadall", str(file), str(folder), "pinmaps", str(place / "maps"))[0] == 0
        assert sorted(os.listdir(folder)) == ["egress", "sock", "xdp_with_a_long_name"]
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        pair.theirs("prog", "loadall", str(file), str(place / "t"), "pinmaps", str(place / "tmaps"))
        assert sorted(os.listdir(place / "maps")) == sorted(os.listdir(place / "tmaps"))
        row = pair.same("prog", "-f", "show", "pinned", str(folder / "sock"))
        assert row["pinned"] == [str(folder / "sock")]
        status, _, err = pair.ours("map", "show", "pinned", str(folder / "sock"))
        assert status == 1
        assert "a prog is pinned there, not a map" in err


def test_a_failed_loadall_leaves_no_pin(file: Path, pair: Pair, tmp_path: Path) -> None:
    with bpffs(tmp_path) as place:
        folder = place / "all"
        folder.mkdir()
        assert pair.ours("prog", "load", str(file), str(folder / "sock"))[0] == 0
        assert pair.ours("prog", "loadall", str(file), str(folder))[0] == 1
        assert os.listdir(folder) == ["sock"]


def test_load_with_a_map_of_ours(file: Path, loaded: Object, pair: Pair, tmp_path: Path) -> None:
    with bpffs(tmp_path) as place:
        words = (
            "prog",
            "load",
            str(file),
            str(place / "x"),
            "map",
            "name",
            "typed",
            "id",
            map_id(loaded, "typed"),
        )
        assert pair.ours(*words)[0] == 0
        assert (
            int(map_id(loaded, "typed")) in pair.json("prog", "show", "pinned", str(place / "x"))["map_ids"]
        )


# --- the others --------------------------------------------------------------------------------


def test_btf(loaded: Object, pair: Pair) -> None:
    id = str(info(loaded.kernel, loaded.programs["sock"].fd, "prog")["btf_id"])
    row = pair.same("btf", "show", "id", id)
    assert len(row["prog_ids"]) == 3
    pair.same("btf", "dump", "id", id)
    assert (
        pair.ours("btf", "dump", "id", id, "format", "c")[1]
        == pair.theirs("btf", "dump", "id", id, "format", "c")[1]
    )
    for part in ((), ("key",), ("value",), ("kv",), ("all",)):
        pair.same("btf", "dump", "map", "id", map_id(loaded, "typed"), *part)
    pair.same("btf", "dump", "prog", "id", prog_id(loaded, "sock"))


def test_links_of_raw_tracepoints_and_perf_events(loaded: Object, pair: Pair, tmp_path: Path) -> None:
    from skep.asm import assemble
    from skep.isa import encode
    from skep.uapi.enums import ProgType

    kernel = loaded.kernel
    fd, _ = kernel.prog_load(ProgType.RAW_TRACEPOINT, encode(assemble("r0 = 0\nexit")), "GPL", name="nothing")
    link = kernel.raw_tracepoint_open(fd, "sched_process_hang")
    try:
        id = str(info(kernel, link, "link")["id"])
        assert pair.same("link", "show", "id", id)["tp_name"] == "sched_process_hang"
        with bpffs(tmp_path) as place:
            assert pair.ours("link", "pin", "id", id, str(place / "l"))[0] == 0
            pair.same("link", "show", "pinned", str(place / "l"))
        status, _, err = pair.ours("link", "detach", "id", id)
        assert status == 1
        assert "cannot be detached" in err
    finally:
        kernel.close(link)
        kernel.close(fd)


def test_links(pair: Pair, tmp_path: Path) -> None:
    """Everything but the text of perf event links, of which bpftool 7.1 knows nothing."""
    bpf()
    with skep.load(compile_c("links", tmp_path)) as made:
        for name, options in (("typed", {}), ("raw", {}), ("plain", {}), ("tasks", {"pid": os.getpid()})):
            with made.programs[name].attach(**options) as link:
                id = str(info(made.kernel, link.fd, "link")["id"])
                row = pair.same("link", "show", "id", id, text=name != "plain")
                assert row["prog_id"] == int(prog_id(made, name))
                if name == "plain":
                    full = pair.json("link", "-a", "show", "id", id)
                    assert full == row | {"tracepoint": "sched_process_hang", "cookie": 0}
                    assert "tracepoint sched_process_hang" in pair.ours("link", "show", "id", id)[1]


def test_iter_pin(pair: Pair, tmp_path: Path) -> None:
    bpf()
    source = str(compile_c("links", tmp_path))
    with bpffs(tmp_path) as place:
        path = place / "tasks"
        assert pair.ours("iter", "pin", source, str(path))[0] == 0
        assert path.read_bytes() == b""
        assert pair.same("link", "show", "pinned", str(path))["target_name"] == "task"
        status, _, err = pair.ours("iter", "pin", str(compile_c("nouns", tmp_path)), str(place / "x"))
        assert status == 1
        assert "no iterator program" in err


def test_loadall_autoattach(pair: Pair, tmp_path: Path) -> None:
    bpf()
    with bpffs(tmp_path) as place:
        source = str(compile_c("links", tmp_path))
        assert pair.ours("prog", "loadall", source, str(place / "l"), "autoattach")[0] == 0
        assert sorted(os.listdir(place / "l")) == ["plain", "raw", "tasks", "typed"]
        assert pair.json("link", "show", "pinned", str(place / "l" / "raw"))["type"] == "raw_tracepoint"


def test_net_and_xdp(loaded: Object, pair: Pair) -> None:
    """In a namespace of its own: `ip netns exec` runs both tools there."""
    netns()
    name = f"skep-nouns-{os.getpid()}"
    ip = tool("ip")
    subprocess.run([ip, "netns", "add", name], check=True)
    try:
        inside = [ip, "netns", "exec", name]
        make = ["link", "add", "v0", "type", "veth", "peer", "name", "v1"]
        subprocess.run([ip, "-n", name, *make], check=True)
        id = prog_id(loaded, "xdp_with_a_long_name")
        skep_words = [os.sys.executable, "-m", "skep"]

        def both(*words: str) -> Any:
            theirs = subprocess.run(
                [*inside, pair.bpftool, *words], capture_output=True, text=True, check=True
            )
            ours = subprocess.run([*inside, *skep_words, *words], capture_output=True, text=True, check=True)
            assert ours.stdout == theirs.stdout
            return theirs.stdout

        subprocess.run(
            [*inside, *skep_words, "net", "attach", "xdpgeneric", "id", id, "dev", "v0"], check=True
        )
        for option in ("-j", "-p"):
            rows = json.loads(both(option, "net", "show"))
            assert rows[0]["xdp"][0] | {"ifindex": 0} == {
                "devname": "v0",
                "ifindex": 0,
                "mode": "generic",
                "id": int(id),
            }
        both("net", "show")
        both("-j", "net", "show", "dev", "v1")
        subprocess.run([*inside, *skep_words, "net", "detach", "xdpgeneric", "dev", "v0"], check=True)
        assert json.loads(both("-j", "net", "show"))[0]["xdp"] == []
    finally:
        subprocess.run([ip, "netns", "del", name], check=True)


def test_cgroup(loaded: Object, pair: Pair) -> None:
    root = next(
        (
            line.split()[1]
            for line in Path("/proc/mounts").read_text().splitlines()
            if line.split()[2] == "cgroup2"
        ),
        None,
    )
    if root is None:
        from tests.support.oracles import absent

        absent("cgroup v2")
    folder = Path(root) / f"skep-nouns-{os.getpid()}"
    folder.mkdir()
    try:
        id = prog_id(loaded, "egress")
        assert pair.ours("cgroup", "attach", str(folder), "egress", "id", id, "multi")[0] == 0
        rows = pair.same("cgroup", "show", str(folder))
        assert [(row["id"], row["attach_flags"]) for row in rows] == [(int(id), "multi")]
        pair.same("cgroup", "show", str(folder), "effective")
        pair.same("cgroup", "tree", str(folder))
        assert pair.ours("cgroup", "detach", str(folder), "cgroup_inet_egress", "id", id)[0] == 0
        assert pair.json("cgroup", "show", str(folder)) == []
    finally:
        folder.rmdir()


def test_perf(pair: Pair, tmp_path: Path) -> None:
    """Raw tracepoints, perf events without links and uprobes of this process, as bpftool lists them."""
    bpf()
    rig = Rig(str(tmp_path))
    try:
        library = rig.library()
        raw = rig.counter(ProgType.RAW_TRACEPOINT, own=True, to="sys_enter")
        stable = rig.counter(ProgType.TRACEPOINT, own=True, to="syscalls/sys_enter_getppid")
        probe = rig.counter(ProgType.KPROBE, own=True, hook="uprobe")
        with (
            raw.attach(),
            stable.attach(link=False),
            probe.attach(library, "twice", pid=0, link=False),
        ):
            ours, theirs = (
                [row for row in json.loads(text) if row["pid"] == os.getpid()]
                for text in (pair.ours("-j", "perf", "show")[1], pair.theirs("-j", "perf", "show")[1])
            )
            assert ours == theirs
            assert [row["fd_type"] for row in ours] == ["raw_tracepoint", "tracepoint", "uprobe"]
            assert ours[2]["filename"] == library
            mine = f"pid {os.getpid()} "
            lines = [
                [line for line in text.splitlines() if line.startswith(mine)]
                for text in (pair.ours("perf", "list")[1], pair.theirs("perf", "list")[1])
            ]
            assert lines[0] == lines[1] and len(lines[0]) == 3
    finally:
        rig.close()
    assert pair.ours("perf", "show", "id")[0] == pair.ours("perf", "x")[0] == 2


def test_struct_ops_without_any(pair: Pair) -> None:
    bpf()
    status, _, err = pair.ours("struct_ops", "show", "name", f"none{os.getpid()}")
    assert status == 1
    assert "no struct_ops map" in err


def test_feature_probe(pair: Pair) -> None:
    bpf()
    theirs = json.loads(pair.theirs("-j", "feature", "probe", "kernel")[1])
    ours = pair.json("feature", "probe", "kernel")
    assert list(ours) == list(theirs)
    assert ours["system_config"] == theirs["system_config"]
    for section in ("program_types", "map_types", "misc", "syscall_config"):
        # bpftool 7.1 takes lockdown's refusal of fentry for a kernel without tracing programs
        known = {name: value for name, value in theirs[section].items() if "tracing_prog" not in name}
        assert {name: ours[section].get(name) for name in known} == known
    # and from Linux 6.12 on says that all types may call all helpers
    assert "bpf_xdp_adjust_head" in ours["helpers"]["xdp_available_helpers"]
    assert "bpf_xdp_adjust_head" not in ours["helpers"]["socket_filter_available_helpers"]
    for name, helpers in theirs["helpers"].items():
        assert set(ours["helpers"][name]) <= set(helpers) or name not in ours["helpers"] or len(helpers) < 207
    assert json.loads(pair.theirs("-j", "feature", "probe", "dev", "lo")[1]) == pair.json(
        "feature", "probe", "dev", "lo"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("prog", "shwo"),
        ("prog", "show", "id"),
        ("prog", "show", "id", "x"),
        ("prog", "show", "id", "99999999999"),
        ("prog", "show", "tag", "12"),
        ("map", "dump"),
        ("map", "create"),
        ("map", "create", "x", "type", "nothing"),
        ("cgroup", "attach", "/", "nothing", "id", "1"),
        ("net", "attach", "nothing"),
        ("link", "show", "name", "x"),
        ("feature", "probe", "x"),
        ("gen", "object", "x.o"),
        ("iter", "pin", "x.o"),
        ("struct_ops", "unregister"),
        ("prog", "--nothing"),
    ],
)
def test_wrong_usage_exits_with_2(pair: Pair, words: tuple[str, ...]) -> None:
    _wrong(pair, *words)


def test_a_wrong_word_behind_what_exists_exits_with_2(pair: Pair) -> None:
    bpf()
    _wrong(pair, "btf", "dump", "id", "1", "format", "x")


def _wrong(pair: Pair, *words: str) -> None:
    status, out, err = pair.ours(*words)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"skep {words[0]}")


@pytest.mark.parametrize(
    "words",
    [
        ("prog", "show", "id", "4294967295"),
        ("map", "dump", "id", "4294967295"),
        ("link", "show", "id", "4294967295"),
        ("btf", "dump", "id", "4294967295"),
        ("btf", "dump", "file", "/nonexistent"),
        ("map", "show", "pinned", "/nonexistent"),
        ("cgroup", "show", "/nonexistent"),
        ("net", "show", "dev", "nonexistent0"),
        ("prog", "load", "/nonexistent.o", "/nonexistent"),
    ],
)
def test_failures_exit_with_1(pair: Pair, words: tuple[str, ...]) -> None:
    bpf()
    status, out, err = pair.ours(*words)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    status, out, _ = pair.ours("-j", *words)
    assert status == 1
    assert json.loads(out)["error"]


@pytest.mark.parametrize(
    "noun", ["prog", "map", "link", "btf", "cgroup", "net", "iter", "perf", "struct_ops", "gen", "feature"]
)
def test_help(pair: Pair, noun: str) -> None:
    for word in ("help", "-h", "--help"):
        status, out, _ = pair.ours(noun, word)
        assert status == 0
        assert out.startswith(f"usage: skep {noun} ")
