"""Handles beside other threads and processes: forks, signals, maps that others change meanwhile."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import skep
from skep.kernel.loader import Loader
from skep.kernel.object import Object
from skep.kernel.perfbuf import PerfBuffer
from skep.linux.kernel import LinuxKernel
from skep.obj.spec import MapSpec, ObjectSpec
from skep.uapi.enums import MapType
from tests.kernel.build import build, no_leaks
from tests.linux.links.rig import Rig, wait
from tests.support import oracles

pytestmark = pytest.mark.live
SEED = int(os.environ.get("SKEP_SEED", "23"))
PACKET = bytes(60)


@pytest.fixture
def rings() -> Iterator[Object]:
    oracles.bpf()
    with no_leaks(), skep.load(build("rings")) as made:
        yield made


def forked(act: Callable[[], object]) -> int:
    """``act`` in a forked child; 0 when it raised nothing."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- forks -------------------------------------------------------------------------------------


def test_a_childs_close_leaves_the_parents_attachments(tmp_path: object) -> None:
    oracles.bpf()
    rig = Rig(str(tmp_path))
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        with no_leaks(), skep.load(build("handles")) as obj, rig.network(), one, two:
            links = [
                obj.first.attach("lo", mode="generic"),
                obj.classifier.attach("lo", "ingress", link=False),
                obj.filter.attach(two),
            ]
            assert [link.kind for link in links] == ["bpf_link", "netlink", "socket"]
            assert forked(lambda: [link.close() for link in links]) == 0
            assert forked(obj.close) == 0
            links[0].update(obj.second, old=obj.first)  # EPERM, ENOLINK if it were not attached
            links[1].update(obj.classifier)  # ENOENT if the filter had gone
            for link in links:
                link.close()
    finally:
        rig.close()


def test_a_childs_perf_buffer(rings: Object) -> None:
    """The kernel does not share the buffers' memory with children; closing there takes no slot away."""

    def child() -> None:
        with pytest.raises(ValueError, match="a forked process has to open its own"):
            buffer.read()
        buffer.close()
        rings.close()

    with PerfBuffer(rings.perf, rings.codec("record")) as buffer:
        rings.data.count = 5
        rings.perfed.run(PACKET)
        assert forked(child) == 0
        rings.perfed.run(PACKET)
        assert sorted(record.number for record in buffer.read()) == list(range(1, 11))


def test_a_childs_ring_buffer(rings: Object) -> None:
    """A ring's memory is shared: what one process reads is read for the other, too."""
    ring = rings.reader("ring", "record")
    rings.data.count = 4
    rings.typed.run(PACKET)
    assert forked(lambda: (ring.read(3), rings.close)[1]()) == 0
    assert [record.number for record in ring.read()] == [4]


# --- signals -----------------------------------------------------------------------------------


@contextmanager
def signals(number: int, handler: Callable[[int, object], None]) -> Iterator[None]:
    """The main thread gets the signal again and again."""
    before = signal.signal(number, handler)
    go_on, over = threading.Event(), threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        go_on.wait()
        while not over.wait(0.001):
            signal.pthread_kill(main, number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        go_on.set()
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(number, before)


def test_records_among_signals(rings: Object) -> None:
    """Each wait and each call is interrupted; every record comes once, in order."""
    ring, buffer = rings.reader("ring", "record"), PerfBuffer(rings.perf, rings.codec("record"))
    caught: list[int] = []
    rings.data.count = 10
    got: list[int] = []

    def write() -> None:
        for _ in range(40):
            before = len(got)
            rings.typed.run(PACKET)
            wait(lambda before=before: len(got) >= before + 10)  # type: ignore[misc]  # bound now

    with signals(signal.SIGUSR1, lambda number, frame: caught.append(number)):
        thread = threading.Thread(target=write)
        thread.start()
        while len(got) < 400:
            assert ring.wait(120)
            got += [record.number for record in ring.read()]
        thread.join()
        wait(lambda: len(caught) > 20)
        assert not buffer.wait(0.01)
    assert got == list(range(1, 401))
    buffer.close()


def test_interrupted_waits(rings: Object) -> None:
    """Ctrl-C ends a wait without end; what comes afterwards is read."""
    ring, buffer = rings.reader("ring", "record"), PerfBuffer(rings.perf)
    raised = 0

    def interrupt(number: int, frame: object) -> None:
        nonlocal raised
        raised += 1
        if raised == 1:
            raise KeyboardInterrupt

    waits: tuple[Callable[[], object], ...] = (ring.wait, buffer.wait, lambda: next(iter(ring)))
    for forever in waits:
        raised = 0
        with pytest.raises(KeyboardInterrupt), signals(signal.SIGUSR1, interrupt):
            forever()
    rings.typed.run(PACKET)
    assert [record.number for record in ring.read()] == [1]
    buffer.close()


# --- maps that others change -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE, MapType.HASH_OF_MAPS])
def test_listing_while_another_process_deletes(kind: MapType) -> None:
    """Listings end, without an error, and have every key that stays."""
    oracles.bpf()
    whole = ObjectSpec("shared")
    flags = 1 if kind in (MapType.LPM_TRIE, MapType.HASH_OF_MAPS) else 0  # BPF_F_NO_PREALLOC
    inner = MapSpec("in", MapType.ARRAY, 4, 8, 1) if kind == MapType.HASH_OF_MAPS else None
    size = 8 if kind == MapType.LPM_TRIE else 4
    whole.maps["m"] = MapSpec("m", kind, size, 4 if inner else 8, 4096, flags=flags, inner=inner)
    whole.maps["in"] = MapSpec("in", MapType.ARRAY, 4, 8, 1)
    stop, go = os.pipe()
    with Loader(LinuxKernel(), whole).load() as loaded:
        table = loaded.maps["m"]
        value = loaded.maps["in"].fd.to_bytes(4, "little") if inner else bytes(8)
        prefix = b"\x20\0\0\0" if kind == MapType.LPM_TRIE else b""
        staying = {prefix + number.to_bytes(4, "big") for number in range(0, 600, 2)}
        coming = [prefix + number.to_bytes(4, "big") for number in range(1, 600, 2)]
        for key in staying:
            table.raw[key] = value

        def churn() -> None:
            rng = random.Random(SEED)
            os.close(go)
            os.set_blocking(stop, False)
            while True:
                try:
                    os.read(stop, 1)
                    return
                except BlockingIOError:
                    pass
                for key in rng.sample(coming, 50):
                    if rng.random() < 0.5:
                        table.raw[key] = value
                    else:
                        table.raw.pop(key, None)

        pid = os.fork()
        if not pid:
            status = 1
            try:
                churn()
                status = 0
            finally:
                os._exit(status)
        try:
            for _ in range(6 if inner else 60):
                assert staying <= set(table.raw)
                assert staying <= {key for key, _ in table.raw.items()}
                assert len(staying) <= len(table) <= 2 * 4096 + 16
        finally:
            os.close(stop)
            os.close(go)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        table.clear()
        assert not table
