"""`skep filter -r IN --pcapng -w OUT`: matches copied as pcapng, with everything that belongs to them."""

from __future__ import annotations

import sys
import time

from skep.cli.filter.options import Arguments
from skep.errors import SkepError
from skep.tap.input import Input
from skep.tap.prepare import Recipe


def run(args: Arguments, paths: list[str], request: Recipe, write: str) -> int:
    """Copy what matches. Sections, interfaces, comments and all other blocks are kept."""
    from skep.capture import PcapngWriter
    from skep.capture.packet import Packet
    from skep.cli.filter.offline import announce, not_an_input, printer, progress_bar, told

    started = time.monotonic()
    limit, each = args.groups[0].limit, bool(args.flag("unbuffered"))
    status = seen = matched = 0
    shown = printer(args)
    writer: PcapngWriter | None = None
    try:
        for path in paths:
            with Input(path, request) as source:
                announce(source)
                if writer is None:
                    not_an_input(write, paths)
                    writer = PcapngWriter(write)
                bar = None if shown is not None else progress_bar(args, source)
                if bar is not None:
                    source.watch(bar.at)
                try:
                    for item in source.items():
                        if not isinstance(item, Packet):
                            writer.write(item)
                            continue
                        seen += 1
                        if source.judge(item):
                            matched += 1
                            writer.write(item)
                            if each:
                                writer.flush()
                            if shown is not None:
                                shown.packet(item.data, item.wirelen, item.linktype, item.time_ns)
                            if matched == limit:
                                break
                except SkepError as error:
                    print(f"skep filter: {error}", file=sys.stderr)
                    status = 1
                finally:
                    if bar is not None:
                        bar.close()
            if matched == limit:
                break
    finally:
        if writer is not None:
            writer.close()
        told(args, seen, matched, time.monotonic() - started)
    return status
