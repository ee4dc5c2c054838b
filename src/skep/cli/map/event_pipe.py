"""`skep map event_pipe`: records of a perf event array as they come."""

from __future__ import annotations

import sys
import time

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.hextext import json_bytes, plain_bytes
from skep.cli.noun.words import Usage, Words
from skep.errors import SkepError
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def event_pipe(call: Call, words: Words) -> None:
    """Print records until Ctrl-C. ``cpu N index M``: of one CPU, at one index of the map."""
    from skep.kernel.open import map_from_fd

    kernel = call.kernel
    fd = objects.map_(kernel, words)
    cpu = index = None
    try:
        while words:
            if words.accept("cpu"):
                cpu = words.number("CPU")
            elif words.accept("index"):
                index = words.number("INDEX")
            else:
                raise Usage(f"expected cpu or index, got {words.peek()!r}")
        if (cpu is None) != (index is None):
            raise Usage("cpu and index are given together or not at all")
        if cpu != index:
            raise SkepError("a CPU's records at another index than its own: not supported")
        if objects.info(kernel, fd, "map")["type"] != MapType.PERF_EVENT_ARRAY:
            raise SkepError("the map is no perf event array")
    except BaseException:
        kernel.close(fd)
        raise
    with map_from_fd(kernel, fd) as map:
        from skep.kernel.perfbuf import PerfBuffer

        with PerfBuffer(map) as reader:
            _follow(call, reader, cpu)


def _follow(call: Call, reader: Any, cpu: int | None) -> None:
    from skep.cli.noun.jsontext import text

    first = True
    lost: dict[int, int] = {}
    if call.json:
        call.write("[")
    try:
        while True:
            reader.wait(0.5)
            rows: list[str] = []
            for number, data in reader.read_with_cpu():
                if cpu is not None and number != cpu:
                    continue
                if call.json:
                    row = {
                        "type": 9,
                        "cpu": number,
                        "index": number,
                        "timestamp": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
                        "data": json_bytes(data),
                    }
                    rows.append(text(row))
                else:
                    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                    rows.append(
                        f"== @{now // 10**9}.{now % 10**9:09d} CPU: {number} index: {number} =====\n"
                        f"{plain_bytes(data)}\n"
                    )
            for number, count in reader.lost_by_cpu.items():
                if count != lost.get(number, 0):
                    fresh = count - lost.get(number, 0)
                    lost[number] = count
                    row_lost = {"type": 2, "cpu": number, "index": number, "lost": {"id": 0, "lost": fresh}}
                    rows.append(text(row_lost) if call.json else f"lost {fresh} events\n")
            if rows:
                if call.json:
                    call.write(("" if first else ",") + ",".join(rows))
                else:
                    call.write("".join(rows))
                first = False
                sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    finally:
        if call.json:
            call.write("]\n")
