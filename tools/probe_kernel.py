"""Ask the running kernel which helpers each type of program may call and what it may read of its context.

    python tools/probe_kernel.py OUT.json [coarse|helpers|kfuncs]

`coarse` asks about 4 and 8 bytes at a time and single bytes at multiples of four, for slow machines;
`helpers` leaves contexts out, `kfuncs` asks which kernel functions each type may call instead. Run as root in every kernel of interest; tools/gen_verifier.py puts the answers together. Nothing is attached:
programs of a few instructions are loaded and closed. A context is `PROG_TYPE/ATTACH_TYPE`; helpers are a list of
numbers (the prototype's own test of the attach point is not looked at), and context accesses are rows
[offset, size, "r" or "w", what a read yields].
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from skep.btf import Btf
from skep.errors import KernelError
from skep.linux.kernel import LinuxKernel
from skep.uapi.enums import SINCE
from skep.uapi.enums import AttachType as A
from skep.uapi.enums import ProgType as P
from skep.uapi.helpers import helpers

# ruff: noqa: E501 (what is written out stays whole)
HELPERS = 215
CONTEXT_BYTES = 272
_SLEEPABLE = 16
_EXIT = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
#: prog type -> attach types that may matter; types that are not named have 0 alone
ATTACH = {
    P.KPROBE: [0, A.TRACE_KPROBE_MULTI, A.TRACE_KPROBE_SESSION, A.TRACE_UPROBE_MULTI, A.TRACE_UPROBE_SESSION],
    P.CGROUP_SKB: [A.CGROUP_INET_INGRESS, A.CGROUP_INET_EGRESS],
    P.CGROUP_SOCK: [A.CGROUP_INET_SOCK_CREATE, A.CGROUP_INET_SOCK_RELEASE, A.CGROUP_INET4_POST_BIND, A.CGROUP_INET6_POST_BIND],
    P.CGROUP_SOCK_ADDR: [a for a in A if re.match(r"CGROUP_(INET[46]_(BIND|CONNECT|GET)|UDP|UNIX)", a.name)],
    P.CGROUP_SOCKOPT: [A.CGROUP_GETSOCKOPT, A.CGROUP_SETSOCKOPT],
    P.CGROUP_DEVICE: [A.CGROUP_DEVICE],
    P.CGROUP_SYSCTL: [A.CGROUP_SYSCTL],
    P.SOCK_OPS: [A.CGROUP_SOCK_OPS],
    P.SK_LOOKUP: [A.SK_LOOKUP],
    P.NETFILTER: [A.NETFILTER],
    P.SK_SKB: [0, A.SK_SKB_STREAM_PARSER, A.SK_SKB_STREAM_VERDICT, A.SK_SKB_VERDICT],
    P.SK_MSG: [A.SK_MSG_VERDICT],
    P.SK_REUSEPORT: [A.SK_REUSEPORT_SELECT, A.SK_REUSEPORT_SELECT_OR_MIGRATE],
    P.XDP: [0, A.XDP, A.XDP_DEVMAP, A.XDP_CPUMAP],
    P.TRACING: [A.TRACE_RAW_TP, A.TRACE_FENTRY, A.TRACE_FEXIT, A.MODIFY_RETURN, A.TRACE_ITER, A.TRACE_FSESSION],
    P.LSM: [A.LSM_MAC, A.LSM_CGROUP],
}  # fmt: skip
#: attach type -> the function (BTF kind 12) or typedef (8) to attach to
TARGETS = {
    A.TRACE_RAW_TP: ("btf_trace_sched_process_fork", 8),
    A.TRACE_FENTRY: ("bpf_fentry_test1", 12),
    A.TRACE_FEXIT: ("bpf_fentry_test1", 12),
    A.TRACE_FSESSION: ("bpf_fentry_test1", 12),
    A.MODIFY_RETURN: ("bpf_modify_return_test", 12),
    A.TRACE_ITER: ("bpf_iter_task", 12),
    A.LSM_MAC: ("bpf_lsm_file_open", 12),
    A.LSM_CGROUP: ("bpf_lsm_socket_bind", 12),
}
#: structs whose members may call functions of their own, and how these begin
STRUCTS = {"sched_ext_ops": ("scx_bpf_",), "Qdisc_ops": ("bpf_qdisc_", "bpf_kfree_skb", "bpf_skb_get_hash")}
_BTF_CONTEXT = (P.TRACING, P.LSM, P.STRUCT_OPS, P.EXT)
_REFUSED = ("invalid func ", "unknown func ", "program of this type cannot use helper ")


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("=BBhi", code, dst | src << 4, off, imm)


def version_of(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


class Prober:
    def __init__(self) -> None:
        self.kernel = LinuxKernel()
        self.btf = Btf.kernel() if os.path.exists("/sys/kernel/btf/vmlinux") else None
        major, minor = self.kernel.version
        self.version = major << 16 | minor << 8

    def target(self, name: str, kind: int) -> int:
        """The id of a type of the kernel's, 0 without it."""
        return (self.btf.find(name, kind) if self.btf else None) or 0

    def contexts(self) -> list[tuple[P, int, dict[str, Any]]]:
        out = []
        for kind in P:
            if kind in (P.UNSPEC, P.EXT):
                continue
            for attach in ATTACH.get(kind, [0]):
                if attach and version_of(SINCE.get(A(attach).c_name, "3.0")) > self.kernel.version:
                    continue
                attr: dict[str, Any] = {"expected_attach_type": int(attach)}
                if kind == P.KPROBE:
                    attr["kern_version"] = self.version
                if kind == P.SYSCALL:
                    attr["prog_flags"] = _SLEEPABLE
                if kind in (P.TRACING, P.LSM):
                    attr["attach_btf_id"] = self.target(*TARGETS[A(attach)])
                if kind == P.STRUCT_OPS:
                    attr["attach_btf_id"] = self.target("tcp_congestion_ops", 4)
                    attr["expected_attach_type"] = 1
                out.append((kind, int(attach), attr))
        return out

    def load(self, kind: int, code: bytes, attr: dict[str, Any], level: int = 1) -> tuple[bool, str, int]:
        try:
            fd, log = self.kernel.prog_load(kind, code, "GPL", log_level=level, **attr)
        except KernelError as error:
            return False, error.log, error.errno or 0
        self.kernel.close(fd)
        return True, log, 0

    def works(self, kind: P, attr: dict[str, Any]) -> bool:
        ok, log, _ = self.load(kind, _EXIT, attr)
        # A return value that this hook forbids, or a struct_ops member that returns nothing, shows the type too.
        return ok or "(b7) r0 = 0" in log

    def helpers(self, kind: P, attr: dict[str, Any]) -> list[int]:
        flags = [0] if kind not in (P.TRACING, P.LSM, P.KPROBE) else [0, _SLEEPABLE]
        out = []
        known = helpers()
        for number in range(1, HELPERS):
            if number in known and version_of(known[number].since) > self.kernel.version:
                continue
            for flag in flags:
                more = attr | {"prog_flags": attr.get("prog_flags", 0) | flag}
                ok, log, _ = self.load(kind, insn(0x85, imm=number) + _EXIT, more)
                if ok or ("(85) call" in log and not any(text in log for text in _REFUSED)):
                    out.append(number)
                    break
        return out

    def context(self, kind: P, attr: dict[str, Any], coarse: bool) -> list[list[Any]]:
        rows: list[list[Any]] = []
        for off in range(0, CONTEXT_BYTES, 4 if coarse else 1):
            for size, code in ((8, 0x18), (4, 0x00), (2, 0x08), (1, 0x10)):
                if off % size or (coarse and size == 2):
                    continue
                read = insn(0x61 | code, 0, 1, off) + _EXIT
                ok, log, _ = self.load(kind, read, attr, 2)
                if ok or "processed 2" in log or "processed 3" in log:
                    rows.append([off, size, "r", loaded(log)])
                write = insn(0xB7, 0) + insn(0x63 | code, 1, 0, off) + insn(0x95)
                ok, log, _ = self.load(kind, write, attr, 2)
                if ok or "processed 3" in log:
                    rows.append([off, size, "w", ""])
        return rows

    def kfunc_names(self) -> list[tuple[str, int]]:
        """(name, id) of the kernel's functions for programs: those it tags, or of an old one those we know."""
        assert self.btf is not None
        tagged = [row[2] for _, row in self.btf.items() if row[0] == 17 and row[1] == "bpf_kfunc"]
        if tagged:
            return [(self.btf[id][1], id) for id in tagged]
        lines = (Path(__file__).parent / "data" / "kfuncs.txt").read_text().splitlines()
        found = [(line.split()[0], self.btf.find(line.split()[0], 12)) for line in lines]
        return [(name, id) for name, id in found if id]

    def members(self, struct: str) -> list[tuple[str, int]]:
        """(name, index) of the functions in a struct of the kernel's that programs can make."""
        id = self.target(struct, 4)
        if self.btf is None or not id or not self.target(f"bpf_struct_ops_{struct}", 4):
            return []
        found = []
        for index, member in enumerate(self.btf[id][3]):
            kind = self.btf[self.btf.resolve(member[1])]
            if kind[0] == 2 and self.btf[self.btf.resolve(kind[2])][0] == 13:
                found.append((member[0], index))
        return found

    def kfuncs(
        self,
        kind: P,
        attr: dict[str, Any],
        known: frozenset[str] = frozenset(),
        start: tuple[str, ...] = ("",),
    ) -> list[str]:
        """The functions, of those that begin so, that the kind may call; those of ``known`` are not asked."""
        out = []
        for name, id in self.kfunc_names():
            if name in known or not name.startswith(start):
                continue
            ok, log, _ = self.load(kind, insn(0x85, 0, 2, 0, id) + _EXIT, attr)
            if ok or (log and "is not allowed" not in log and "(85) call" in log):
                out.append(name)
        return out

    def objects(self) -> dict[str, list[list[Any]]]:
        """What may be read and written of sockets and flow keys: a program each that has one in r0."""
        null_test = insn(0x55, 0, 0, 1) + insn(0x95)
        sockopt = (P.CGROUP_SOCKOPT, {"expected_attach_type": int(A.CGROUP_SETSOCKOPT)})
        xsk = self.kernel.map_create(17, 4, 4, 1)
        ways: dict[str, tuple[P, dict[str, Any], bytes]] = {
            "flow_keys": (P.FLOW_DISSECTOR, {}, insn(0x79, 0, 1, 144)),
            "sock": (*sockopt, insn(0x79, 0, 1, 0)),
            "tcp_sock": (*sockopt, insn(0x79, 1, 1, 0) + insn(0x85, imm=96) + null_test),
            "sock_common": (P.SCHED_CLS, {}, insn(0x79, 0, 1, 168) + insn(0x55, 0, 0, 2) + _EXIT),
            "xdp_sock": (
                P.XDP,
                {},
                insn(0x62, 10, 0, -4)
                + insn(0xBF, 2, 10)
                + insn(0x07, 2, imm=-4)
                + struct.pack("=BBhiBBhi", 0x18, 1 | 1 << 4, 0, xsk, 0, 0, 0, 0)
                + insn(0x85, imm=1)
                + null_test,
            ),
        }
        out: dict[str, list[list[Any]]] = {}
        for name, (kind, attr, start) in ways.items():
            rows = out[name] = []
            steps = len(start) // 8
            for off in range(CONTEXT_BYTES):
                for size, code in ((8, 0x18), (4, 0x00), (2, 0x08), (1, 0x10)):
                    if self.load(kind, start + insn(0x61 | code, 0, 0, off) + _EXIT, attr)[0]:
                        rows.append([off, size, "r", "scalar"])
                    write = start + insn(0xB7, 1) + insn(0x63 | code, 0, 1, off) + _EXIT
                    if self.load(kind, write, attr)[0]:
                        rows.append([off, size, "w", ""])
            print(name, steps, len(rows), flush=True)
        self.kernel.close(xsk)
        return out


def loaded(log: str) -> str:
    """What the first instruction put in R0."""
    for line in log.splitlines():
        m = re.search(r"\bR0(?:_\w+)?=(\S+)", line)
        if m and "(b7)" not in line.split(";")[0][:8]:
            return "scalar" if m[1].startswith(("inv", "scalar")) else re.split(r"[(]", m[1])[0]
    return "?"


def main(path: str, how: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    prober = Prober()
    out: dict[str, Any] = {"release": os.uname().release, "contexts": {}}
    asked: set[P] = set()
    for kind, attach, attr in prober.contexts():
        if how == "kfuncs":
            found: dict[str, Any]
            more = kind in asked and kind in (P.KPROBE, P.TRACING)
            if (kind not in asked or more) and prober.works(kind, attr):
                asked.add(kind)
                before = frozenset(out["contexts"][kind.name]["kfuncs"]) if more else frozenset()
                found = {"kfuncs": prober.kfuncs(kind, attr, before)}
                key = f"{kind.name}/{A(attach).name}" if more else kind.name
                out["contexts"][key] = found
                print(key, len(found["kfuncs"]), flush=True)
            continue
        if not prober.works(kind, attr):
            print("no", kind.name, attach, prober.load(kind, _EXIT, attr)[1:], flush=True)
            continue
        found = {"helpers": prober.helpers(kind, attr)}
        if kind not in _BTF_CONTEXT and how != "helpers":
            found["access"] = prober.context(kind, attr, how == "coarse")
        name = A(attach).name if attach else "0"
        out["contexts"][f"{kind.name}/{name}"] = found
        print(kind.name, name, len(found["helpers"]), len(found.get("access", [])), flush=True)
        Path(path).write_text(json.dumps(out))
    if how == "kfuncs":
        base = frozenset(out["contexts"].get("STRUCT_OPS", {}).get("kfuncs", ()))
        for struct_name, start in STRUCTS.items():
            for member, index in prober.members(struct_name):
                attr = {"attach_btf_id": prober.target(struct_name, 4), "expected_attach_type": index}
                found = {"kfuncs": prober.kfuncs(P.STRUCT_OPS, attr, base, start)}
                out["contexts"][f"STRUCT_OPS/{struct_name}.{member}"] = found
                print(struct_name, member, len(found["kfuncs"]), flush=True)
    if not how:
        out["objects"] = prober.objects()
    Path(path).write_text(json.dumps(out))


if __name__ == "__main__":
    main(sys.argv[1], "".join(sys.argv[2:3]))
