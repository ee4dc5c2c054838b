"""Events counted in one program, between programs at its entry and its exit."""

from __future__ import annotations

import ctypes
import io
import json
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, cast

from skep.cli import main
from skep.errors import KernelError, SkepError
from skep.isa import Insn, encode
from skep.kernel.perfevent import HARDWARE, online_cpus, open_event
from skep.kernel.probes import raw_btf
from skep.linux.profiler import Profiler
from skep.uapi.attr import INFO
from skep.uapi.enums import AttachType, ProgType
from tests.linux.links.rig import DEADLINE, Rig, scenario

_INT = (1, 1 << 24, 4, 1 << 24 | 32)
_STRINGS = b"\0int\0ctx\0target\0"
#: int target(void *ctx)
_TYPES = (_INT, (0, 2 << 24, 0), (0, 13 << 24 | 1, 1, 5, 2), (9, 12 << 24, 3))
_RETURN_0 = (Insn(0xB7), Insn(0x95))


def target(
    rig: Rig,
    insns: tuple[Insn, ...] = _RETURN_0,
    type: ProgType = ProgType.SOCKET_FILTER,
    flags: int = 0,
    **attr: Any,
) -> int:
    """A program with BTF: its descriptor."""
    kernel = rig.kernel
    btf = kernel.btf_load(raw_btf(_TYPES, _STRINGS))
    rig.later(lambda: kernel.close(btf))
    fd, _ = kernel.prog_load(
        type,
        encode(insns),
        "GPL",
        name="target",
        prog_flags=flags,
        prog_btf_fd=btf,
        func_info=struct.pack("=II", 0, 4),
        func_info_rec_size=8,
        **attr,
    )
    rig.later(lambda: kernel.close(fd))
    return fd


def able(rig: Rig, fd: int) -> None:
    """Raises what this kernel says where programs cannot be traced."""
    Profiler(rig.kernel, fd, ["task_clock"]).close()


def number(rig: Rig, fd: int) -> str:
    return str(INFO["bpf_prog_info"].unpack(rig.kernel.obj_get_info_by_fd(fd, "prog"))["id"])


def command(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["prog", "profile", *words])
    return status, out.getvalue(), err.getvalue()


@scenario("5.5", "fentry programs")
def clocks(rig: Rig) -> None:
    """Every run is counted, none before or after; both clocks ran in every one of them."""
    work = (Insn(0xB7, 1, 0, 0, 0), *(Insn(0x27, 1, 0, 0, 3) for _ in range(3000)), *_RETURN_0)
    for insns in (_RETURN_0, work):
        fd = target(rig, insns)
        rig.kernel.prog_test_run(fd, bytes(64), repeat=10)
        with Profiler(rig.kernel, fd, ["task_clock", "cpu_clock", "context_switches"]) as profiler:
            assert profiler.read() == (0, [(name, 0, 0, 0) for name in profiler._metrics])
            rig.kernel.prog_test_run(fd, bytes(64), repeat=300)
            runs, readings = profiler.read()
            assert runs == 300
            for one in readings[:2]:
                assert one.value > 0 and 0 < one.running == one.enabled, one
            assert readings[2].metric == "context_switches" and readings[2].value < 300
        assert profiler._fds == []


@scenario("5.14", "fentry programs")
def faults(rig: Rig) -> None:
    """A program that reads pages nobody has touched: as many page faults as pages, none the second time."""
    code = (
        Insn(0x79, 3, 1, 0),
        Insn(0xBF, 1, 10),
        Insn(0x07, 1, 0, 0, -8),
        Insn(0xB7, 2, 0, 0, 8),
        Insn(0x85, imm=148),  # bpf_copy_from_user
        Insn(0x95),
    )
    fd = target(rig, code, ProgType.SYSCALL, 1 << 4)
    able(rig, fd)
    with mmap.mmap(-1, 32 << 12) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        place = ctypes.c_char.from_buffer(memory)
        start = ctypes.addressof(place)
        with Profiler(rig.kernel, fd, ["page_faults"]) as profiler:
            for expected in (32, 32):
                for page in range(32):
                    ran = rig.kernel.prog_test_run(fd, ctx=struct.pack("=Q", start + (page << 12)))
                    assert ran.retval == 0
                runs, (one,) = profiler.read()
                assert one.value == expected and one.enabled, (runs, one)
            assert runs == 64
        del place


@contextmanager
def interrupted_when_counted() -> Iterator[None]:
    """Ctrl-C for the command's sleep, once it has counted a run."""
    sleep, made, enter = time.sleep, [], Profiler.__enter__

    def entered(self: Profiler) -> Profiler:
        made.append(self)
        return enter(self)

    def interrupted(seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():
            return sleep(seconds)
        assert seconds > 1e9
        end = time.monotonic() + DEADLINE
        while not made[0].read()[0]:
            assert time.monotonic() < end
            sleep(0.01)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("Ctrl-C had no effect")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    swapped: Any = Profiler
    clock: Any = time
    clock.sleep, swapped.__enter__ = interrupted, entered
    try:
        yield
    finally:
        clock.sleep, swapped.__enter__ = sleep, enter
        signal.signal(signal.SIGINT, before)


@scenario("5.5", "fentry programs")
def by_command(rig: Rig) -> None:
    """JSON and text of the command while the program runs; Ctrl-C prints what was counted so far."""
    fd = target(rig)
    able(rig, fd)
    id = number(rig, fd)
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            rig.kernel.prog_test_run(fd, bytes(64), repeat=50)
            time.sleep(0.01)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(100):  # until a run fell into the second
            status, out, err = command("id", id, "duration", "1", "page", "task_clock", "-j")
            assert status == 0, err
            rows = json.loads(out)
            if rows[0]["run_cnt"]:
                break
        assert [list(row) for row in rows] == [["metric", "run_cnt", "value", "enabled", "running"]] * 2
        assert [row["metric"] for row in rows] == ["task_clock", "page_faults"]
        assert rows[0]["run_cnt"] == rows[1]["run_cnt"] > 0 and rows[0]["value"] > 0
        with interrupted_when_counted():
            status, out, err = command("id", id, "task_clock")
        assert status == 0, err
        lines = out.splitlines()
        assert lines[0] == "" and lines[1].split()[1] == "run_cnt" and int(lines[1].split()[0]) > 0, out
        assert lines[2].split()[1:3] == ["task_clock", "#"] and "ns per run" in lines[2], out
    finally:
        ended.set()
        thread.join()


@scenario("5.5", "fentry programs")
def refusals(rig: Rig) -> None:
    """No BTF, a program that traces, no counter, half of it refused: in words, and nothing is left."""
    fd = target(rig)
    able(rig, fd)
    untyped = rig.counter(ProgType.SOCKET_FILTER)
    tracing = fd
    # since 6.8 a program that traces a program can be traced itself, but not one that traces that
    for _ in range(2 if rig.at_least("6.8") else 1):
        tracing = target(
            rig,
            type=ProgType.TRACING,
            expected_attach_type=AttachType.TRACE_FENTRY,
            attach_prog_fd=tracing,
            attach_btf_id=4,
        )
    status, _, err = command("id", number(rig, untyped.fd), "duration", "0", "task_clock")
    assert status == 1 and "without BTF" in err, err
    status, _, err = command("id", number(rig, tracing), "duration", "0", "task_clock")
    assert status == 1 and "cannot be traced: " in err and err.count("\n") == 1, err
    try:
        rig.kernel.close(open_event(rig.kernel, cpu=0, type=HARDWARE, config=0))
    except KernelError:
        status, _, err = command("id", number(rig, fd), "duration", "0", "page_faults", "cycles")
        assert status == 1 and "no counter for cycles" in err and err.count("\n") == 1, err

    closes_all(rig, fd, {"prog_load": 2, "raw_tracepoint_open": 2})


@scenario()
def half_opened(rig: Rig) -> None:
    """Maps and events that were opened before one fails are closed."""
    fd = target(rig)
    closes_all(rig, fd, {"map_create": 2, "perf_event_open": 3 * len(online_cpus()), "map_update_elem": 3})


def closes_all(rig: Rig, fd: int, calls: dict[str, int]) -> None:
    """Let each call fail in turn: the profiler fails with that error, and no descriptor is left."""
    real = rig.kernel

    class Half:
        """The kernel, but one method fails when it was called ``left`` times."""

        def __init__(self, method: str, left: int) -> None:
            self.method, self.left = method, left

        def __getattr__(self, name: str) -> object:
            if name == self.method:
                if not self.left:
                    raise SkepError(f"{name} fails")
                self.left -= 1
            return getattr(real, name)

    for method, count in calls.items():
        for after in range(count):
            made = cast(Any, Half(method, after))
            before = os.listdir("/proc/self/fd")
            try:
                Profiler(made, fd, ["task_clock", "cpu_clock", "page_faults"]).close()
            except SkepError as error:
                assert str(error) == f"{method} fails", error
            else:
                raise AssertionError(f"{method} did not fail")
            assert os.listdir("/proc/self/fd") == before, (method, after)
