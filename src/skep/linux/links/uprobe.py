"""uprobes and uretprobes: one place of a program or library, "PATH:FUNCTION+OFFSET", by a perf event."""

from __future__ import annotations

from skep.kernel.link import Link
from skep.linux.links.common import bad
from skep.linux.links.elfsym import find_binary, function_offset
from skep.linux.links.kprobe import split
from skep.linux.links.probe import attach_probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


def attach(
    kernel: Kernel,
    program: Program,
    binary: str | None = None,
    function: str | None = None,
    *,
    offset: int = 0,
    pid: int = -1,
    ret: bool | None = None,
    cookie: int = 0,
    ref_ctr_offset: int = 0,
    legacy: bool | None = None,
    link: bool | None = None,
) -> Link:
    """Attach to ``function`` of ``binary``; by default what the section says.

    Args:
        binary: a path, or the name of a program or library ("libc.so.6") to look for; "PATH:FUNCTION+OFF"
            says both.
        function: a name, of the dynamic or full symbol table, or of installed debugging symbols, possibly
            with a version ("malloc@GLIBC_2.2.5").
        offset: bytes into the function; without one into the file.
        pid: one process (0: this one); -1: all.
        ret: at the function's return; by default what the section says.
        cookie: what bpf_get_attach_cookie() gives the program (Linux 5.15).
        ref_ctr_offset: file offset of a counter to raise while attached (a USDT semaphore).
        legacy: True insists on tracefs (uprobe_events), False on the perf PMU; None takes what is there.
        link: True insists on a bpf_link, False on the perf event's ioctl.

    Raises:
        KernelError: no such file, function, or process.
    """
    path, name, more = place(program, binary, function)
    is_ret = program.spec.hook.startswith("uret") if ret is None else ret
    offset += more
    if name:
        offset += function_offset(path, name)
    elif not offset:
        bad(f"{program.name}: give a function or an offset: attach('{path}', 'main')")
    target = f"{'uretprobe' if is_ret else 'uprobe'} {path}:{name or hex(offset)}"
    return attach_probe(
        kernel,
        program,
        "uprobe",
        path,
        offset,
        ret=is_ret,
        target=target,
        pid=_pid(pid),
        cookie=cookie,
        ref_ctr_offset=ref_ctr_offset,
        legacy=legacy,
        link=link,
    )


def place(program: Program, binary: str | None, function: str | None) -> tuple[str, str, int]:
    """(path, function or "", offset) of what was given, or of the section."""
    text = binary or program.spec.attach_to
    if function is None and ":" in text:
        binary, _, function = text.rpartition(":")
    binary = binary or text
    if not binary:
        bad(f"{program.name}: give the binary to probe: attach('/bin/bash', 'readline')")
    path = find_binary(binary)
    if not function:
        return path, "", 0
    if function[0].isdigit():
        try:
            return path, "", int(function, 0)
        except ValueError:
            bad(f"{program.name}: {function!r} is neither a function nor an offset")
    return path, *split(function)


def _pid(pid: int) -> int:
    if pid == 0:
        from os import getpid

        return getpid()
    return pid
