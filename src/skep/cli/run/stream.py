"""What programs say: ring buffers, perf buffers, bpf_printk."""

from __future__ import annotations

import errno
import os
import sys

from skep.cli.noun.jsontext import text
from skep.errors import KernelError
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.cli.run.options import Options
    from skep.kernel.object import Object

_CALL = 0x85
_PRINTK = frozenset((6, 177))  # bpf_trace_printk, bpf_trace_vprintk
_BATCH = 4096


class Source:
    """One stream. ``shown`` counts what was printed."""

    shown = 0

    def fds(self) -> list[int]:
        """What to wait on."""
        raise NotImplementedError  # each kind of stream has its own

    def pump(self, limit: int | None) -> int:
        """Print what is there, ``limit`` events at most; how many were printed."""
        raise NotImplementedError  # each kind of stream has its own

    def drain(self) -> None:
        """Print the rest, once nothing writes any more. --count has its limit: nothing then."""

    def summary(self) -> str:
        """What to say at the end."""
        return ""

    def has_lost(self) -> bool:
        return False

    def close(self) -> None:
        raise NotImplementedError  # each kind of stream has its own


def sources(made: Object, options: Options) -> list[Source]:
    """Everything that the object's programs write to."""
    found: list[Source] = []
    try:
        for name, spec in made.spec.maps.items():
            if spec.type in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY):
                found.append(Buffer(made, name, options))
        if not options.no_printk and _prints(made):
            try:
                found.append(Printk(options))
            except KernelError as error:
                if error.errno != errno.EBUSY:
                    raise
                # One reader at a time, and it need not be ours: the program runs all the same.
                note = "trace_pipe has another reader: what the program prints is not shown"
                print(f"skep run: {note}", file=sys.stderr)
    except BaseException:
        for source in found:
            source.close()
        raise
    return found


def _prints(made: Object) -> bool:
    """Whether any of the object's code calls bpf_printk."""
    for function in made.spec.functions.values():
        code = function.code
        at = code.find(_CALL)
        while at >= 0:
            called = int.from_bytes(code[at + 4 : at + 8], sys.byteorder)
            if at % 8 == 0 and not code[at + 1] >> 4 and called in _PRINTK:
                return True
            at = code.find(_CALL, at + 1)
    return False


class Buffer(Source):
    """A ring buffer or perf event array."""

    def __init__(self, made: Object, name: str, options: Options) -> None:
        from skep.cli.run.types import Records

        self.name = name
        self.json: bool = options.json
        self.counted = options.count is not None
        self.records = Records(made, name, options.type)
        map = made.maps[name]
        self._is_ring = map.type_name == "ringbuf"
        if self._is_ring:
            from skep.kernel.ringbuf import ring_reader

            self.reader: Any = ring_reader(map, lost=made._lost_counter(name))
        else:
            from skep.kernel.perfbuf import PerfBuffer

            self.reader = PerfBuffer(map)
        self.shown = 0

    def fds(self) -> list[int]:
        return [self.reader.fileno()] if self._is_ring else list(self.reader.filenos())

    def pump(self, limit: int | None) -> int:
        done = 0
        while limit is None or done < limit:
            want = _BATCH if limit is None else min(_BATCH, limit - done)
            records = self.reader.read(want)
            self._print(records if limit is None else records[: limit - done])
            done += len(records)
            if len(records) < want:
                break
        self.shown += done
        return done

    def _print(self, records: list[bytes]) -> None:
        value = self.records.value
        if self.json:
            name = self.name
            rows = [text({"map": name, "data": value(record)}) for record in records]
        else:
            from skep.cli.run.types import line

            rows = [f"{self.name}: {line(value(record))}" for record in records]
        if rows:
            sys.stdout.write("\n".join(rows) + "\n")

    def drain(self) -> None:
        if not self.counted:
            self.pump(None)

    def summary(self) -> str:
        lost = self.reader.lost
        if overwritten := getattr(self.reader, "overwritten", None):
            return f"{self.name}: {self.shown} records, {overwritten} bytes of older ones overwritten"
        if lost is None:
            return f"{self.name}: {self.shown} records (the program does not count lost ones)"
        return f"{self.name}: {self.shown} records, {lost} lost"

    def has_lost(self) -> bool:
        return bool(self.reader.lost)

    def close(self) -> None:
        self.reader.close()


class Printk(Source):
    """trace_pipe: what all programs of the machine print with bpf_printk; a line goes to one reader only."""

    def __init__(self, options: Options) -> None:
        from skep.linux.links.tracefs import Tracefs

        self.json: bool = options.json
        self.counted = options.count is not None
        with Tracefs() as tracefs:
            self.fd = tracefs.open("trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
            if tracefs.read("tracing_on").strip() == "0":
                # A kernel that reported a bug of its own has switched it off.
                print(
                    "skep run: tracing is off (tracing_on in tracefs is 0): no output is shown",
                    file=sys.stderr,
                )
        self._rest = b""
        self.shown = 0

    def fds(self) -> list[int]:
        return [self.fd]

    def pump(self, limit: int | None) -> int:
        done = 0
        while limit is None or done < limit:
            if b"\n" not in self._rest:
                try:
                    data = os.read(self.fd, 1 << 16)
                except BlockingIOError:
                    break
                if not data:
                    break
                self._rest += data
                continue
            lines = self._rest.split(b"\n")
            self._rest = lines.pop()
            if limit is not None and len(lines) > limit - done:
                self._rest = b"\n".join([*lines[limit - done :], self._rest])
                lines = lines[: limit - done]
            done += self._print(lines)
        self.shown += done
        return done

    def _print(self, lines: list[bytes]) -> int:
        rows = [
            line.decode(errors="backslashreplace").strip() for line in lines if b"bpf_trace_printk" in line
        ]
        for row in rows:
            sys.stdout.write((text(parse(row)) if self.json else row) + "\n")
        return len(rows)

    def drain(self) -> None:
        if not self.counted:
            self.pump(None)

    def close(self) -> None:
        os.close(self.fd)


def parse(row: str) -> dict[str, Any]:
    """A line of trace_pipe: ``task-pid [cpu] flags time: bpf_trace_printk: text``."""
    head, _, message = row.partition(" bpf_trace_printk: ")
    words = head.rstrip(":").rsplit(None, 3)
    out: dict[str, Any] = {}
    if len(words) == 4:
        task, cpu, _, stamp = words
        name, _, pid = task.rpartition("-")
        if pid.isdigit() and cpu.strip("[]").isdigit():
            out = {"task": name, "pid": int(pid), "cpu": int(cpu.strip("[]")), "time": stamp}
    return {"printk": message, **out}
