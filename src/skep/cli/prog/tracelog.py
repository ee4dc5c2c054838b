"""`skep prog tracelog`: what programs print with bpf_printk, as it comes."""

from __future__ import annotations

import os
import select
import sys

from skep.cli.noun.command import Call
from skep.cli.noun.words import Words


def tracelog(call: Call, words: Words) -> None:
    """Copy trace_pipe to standard output until Ctrl-C. JSON: a list of lines, as bpftool."""
    from skep.linux.links.tracefs import Tracefs

    words.end()
    with Tracefs() as tracefs:
        fd = tracefs.open("trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    rest, first = b"", True
    try:
        if call.json:
            call.write("[")
        while True:
            try:
                poller.poll(500)
                data = os.read(fd, 1 << 16)
            except BlockingIOError:
                continue
            if not call.json:
                call.write(data.decode(errors="backslashreplace"))
            else:
                from skep.cli.noun.jsontext import quoted

                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    call.write(("" if first else ",") + quoted(line.decode(errors="backslashreplace")))
                    first = False
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    finally:
        os.close(fd)
        if call.json:
            call.write("]\n")
