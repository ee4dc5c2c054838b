"""`skep perf`: programs on perf events and tracepoints, by the processes that hold them."""

from __future__ import annotations

import os

from skep.cli.noun.command import Call
from skep.cli.noun.words import Words
from skep.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

VERBS = {"show": "skep.cli.perf:show", "list": "skep.cli.perf:show"}

USAGE = "usage: skep perf { show | list }"

#: enum bpf_task_fd_type; the first two have a name only, the next two a function or an address
_KINDS = ("raw_tracepoint", "tracepoint", "kprobe", "kretprobe", "uprobe", "uretprobe")


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("perf", VERBS, USAGE, argv)


def show(call: Call, words: Words) -> None:
    """What BPF_TASK_FD_QUERY (Linux 4.18) says of every descriptor of every process.

    Raises:
        KernelError: it may not be asked.
    """
    words.end()
    found = list(_found(call))
    if call.json:
        call.emit([row for _, row in found])
    else:
        call.write("".join(line for line, _ in found))


def _found(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    """(line of text, JSON row) of each."""
    refused: KernelError | None = None
    asked = False
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            fds = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
        except OSError:
            continue  # ended meanwhile, or another user's
        for fd in fds:
            try:
                answer = call.kernel.task_fd_query(pid, fd)
            except KernelError as error:
                # most descriptors are of other kinds; those of processes that end are gone
                if isinstance(error, PermissionError) or error.errno in (1, 13):
                    refused = refused or error
                continue
            asked = True
            yield _row(pid, fd, answer)
    if refused is not None and not asked:
        raise refused


def _row(pid: int, fd: int, answer: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    row: dict[str, Any] = {"pid": pid, "fd": fd, "prog_id": answer["prog_id"]}
    line = f"pid {pid}  fd {fd}: prog_id {answer['prog_id']}  "
    number, name = answer["fd_type"], answer["name"]
    if number >= len(_KINDS):  # newer than this table
        return f"{line}type {number}  {name}\n", row | {"fd_type": number}
    kind = row["fd_type"] = _KINDS[number]
    if number < 2:
        row["tracepoint"] = name
        return f"{line}{kind}  {name}\n", row
    if number < 4 and not name:
        row["addr"] = answer["probe_addr"]
        return f"{line}{kind}  addr {answer['probe_addr']}\n", row
    what = "func" if number < 4 else "filename"
    row |= {what: name, "offset": answer["probe_offset"]}
    return f"{line}{kind}  {what} {name}  offset {answer['probe_offset']}\n", row
