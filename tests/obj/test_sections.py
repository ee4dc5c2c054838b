"""Section names against libbpf's own answer."""

from __future__ import annotations

import ctypes
import ctypes.util

import pytest

from skep.obj.guess import by_name
from skep.obj.sections import _rows, lookup
from skep.uapi.enums import AttachType, ProgType
from tests.support.oracles import absent

#: rows that came after libbpf 1.1, the oldest one the tests may find
AFTER_1_1 = {
    "tc/ingress", "tc/egress",
    "netfilter", "tcx/ingress", "tcx/egress", "netkit/primary", "netkit/peer", "uprobe.multi+",
    "uretprobe.multi+", "uprobe.multi.s+", "uretprobe.multi.s+", "usdt.s+", "uprobe.s+", "uretprobe.s+",
    "tp_btf.s+", "cgroup/connect_unix",
    "cgroup/sendmsg_unix", "cgroup/recvmsg_unix", "cgroup/getpeername_unix", "cgroup/getsockname_unix",
    "kprobe.session+", "uprobe.session+", "uprobe.session.s+", "tracepoint.s+", "tp.s+", "raw_tracepoint.s+",
    "raw_tp.s+", "fsession+", "fsession.s+", "fsession.multi+", "fsession.multi.s+", "fentry.multi+",
    "fexit.multi+", "fentry.multi.s+", "fexit.multi.s+", "struct_ops.s+", "sk_skb/verdict",
}  # fmt: skip


def libbpf() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libbpf.so.1")
    except OSError:
        absent("libbpf.so.1")


def test_every_row_is_libbpfs() -> None:
    library = libbpf()
    library.libbpf_set_print(None)
    compared = 0
    for row in _rows()[:116]:
        name = row.prefix.replace("+", "/x")
        prog, attach = ctypes.c_int(), ctypes.c_int()
        answer = library.libbpf_prog_type_by_name(name.encode(), ctypes.byref(prog), ctypes.byref(attach))
        if answer:
            assert row.prefix in AFTER_1_1, f"libbpf does not know {name}"
            continue
        ours = lookup(name)
        assert ours is not None
        assert ours.type == prog.value, name
        assert (ours.attach_type or 0) == attach.value, name
        compared += 1
    assert compared >= 80


@pytest.mark.parametrize(
    ("name", "prog", "attach", "rest"),
    [
        ("xdp", ProgType.XDP, AttachType.XDP, ""),
        ("?tp_btf/sched_switch", ProgType.TRACING, AttachType.TRACE_RAW_TP, "sched_switch"),
        ("tracepoint/syscalls/sys_enter_execve", ProgType.TRACEPOINT, None, "syscalls/sys_enter_execve"),
        ("uprobe//usr/bin/bash:readline", ProgType.KPROBE, None, "/usr/bin/bash:readline"),
        ("kprobe.multi/tcp_*", ProgType.KPROBE, AttachType.TRACE_KPROBE_MULTI, "tcp_*"),
        ("classifier", ProgType.SCHED_CLS, None, ""),
    ],
)
def test_examples(name: str, prog: ProgType, attach: AttachType | None, rest: str) -> None:
    section = lookup(name)
    assert section is not None
    assert (section.type, section.attach_type, section.rest) == (prog, attach, rest)


def test_sleepable_and_flags() -> None:
    section = lookup("lsm.s/file_open")
    assert section is not None and section.sleepable and "btf" in section.flags
    frags = lookup("xdp.frags")
    assert frags is not None and "frags" in frags.flags


@pytest.mark.parametrize("name", ["", "?", "xdpx", "kprobes/x", "socket/x", ".text", "maps", "kprobe"[:-1]])
def test_no_section(name: str) -> None:
    assert lookup(name) is None


def test_guesses() -> None:
    for section, function, want in (
        ("prog", "xdp_drop", ProgType.XDP),
        ("prog", "handle", ProgType.SCHED_CLS),
        (".text", "my_socket_filter", ProgType.SOCKET_FILTER),
    ):
        found = by_name(section, function)
        assert found is not None and found.type == want
    assert by_name(".text", "helper") is None
