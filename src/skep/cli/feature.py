"""`skep feature`: what the running kernel can do, found by trying."""

from __future__ import annotations

import os
import socket

from skep.cli.noun import names
from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words
from skep.errors import KernelError, SkepError
from skep.uapi.enums import MapType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    #: title, key, rows: (JSON name, value, words in text)
    Section = tuple[str, str, Iterator[tuple[str, Any, str]]]


VERBS = {"probe": "skep.cli.feature:probe", "list_builtins": "skep.cli.feature:list_builtins"}

USAGE = """\
usage: skep feature probe [{ kernel | dev NAME }] [full] [unprivileged] [macros [prefix PREFIX]]
       skep feature list_builtins { prog_types | map_types | attach_types | link_types | helpers }

full: helpers, too, that leave a word in the kernel's log when a program that has them is loaded;
unprivileged: as a user without capabilities; macros: as C preprocessor macros.
"""

_PRIVILEGED_SYSCTL = "/proc/sys/kernel/unprivileged_bpf_disabled"
_JIT = "/proc/sys/net/core/bpf_jit_"
#: what the values mean: key -> (path, words by value, the words around other values)
_SYSCTLS = {
    "unprivileged_bpf_disabled": (
        _PRIVILEGED_SYSCTL,
        (
            "bpf() syscall for unprivileged users is enabled",
            "bpf() syscall restricted to privileged users (without recovery)",
            "bpf() syscall restricted to privileged users (admin can change)",
        ),
        "bpf() syscall restriction has unknown value {}",
    ),
    "bpf_jit_enable": (
        f"{_JIT}enable",
        (
            "JIT compiler is disabled",
            "JIT compiler is enabled",
            "JIT compiler is enabled with debugging traces in kernel logs",
        ),
        "JIT-compiler status has unknown value {}",
    ),
    "bpf_jit_harden": (
        f"{_JIT}harden",
        (
            "JIT compiler hardening is disabled",
            "JIT compiler hardening is enabled for unprivileged users",
            "JIT compiler hardening is enabled for all users",
        ),
        "JIT hardening status has unknown value {}",
    ),
    "bpf_jit_kallsyms": (
        f"{_JIT}kallsyms",
        (
            "JIT compiler kallsyms exports are disabled",
            "JIT compiler kallsyms exports are enabled for root",
        ),
        "JIT kallsyms exports status has unknown value {}",
    ),
    "bpf_jit_limit": (
        f"{_JIT}limit",
        (),
        "Global memory limit for JIT compiler for unprivileged users is {} bytes",
    ),
}
_CONFIG = """
BPF BPF_SYSCALL HAVE_EBPF_JIT BPF_JIT BPF_JIT_ALWAYS_ON DEBUG_INFO_BTF DEBUG_INFO_BTF_MODULES CGROUPS
CGROUP_BPF CGROUP_NET_CLASSID SOCK_CGROUP_DATA BPF_EVENTS KPROBE_EVENTS UPROBE_EVENTS TRACING FTRACE_SYSCALLS
FUNCTION_ERROR_INJECTION BPF_KPROBE_OVERRIDE NET XDP_SOCKETS LWTUNNEL_BPF NET_ACT_BPF NET_CLS_BPF NET_CLS_ACT
NET_SCH_INGRESS XFRM IP_ROUTE_CLASSID IPV6_SEG6_BPF BPF_LIRC_MODE2 BPF_STREAM_PARSER NETFILTER_XT_MATCH_BPF
BPFILTER BPFILTER_UMH TEST_BPF HZ
"""
#: helpers whose use the kernel writes to its log: trace_printk, probe_write_user, trace_vprintk
_LOUD = frozenset((6, 36, 177))
_OFFLOAD_PROGS = (ProgType.SCHED_CLS, ProgType.XDP)
_OFFLOAD_MAPS = (MapType.HASH, MapType.ARRAY)
_RETURN_0 = bytes((0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0))
_MISC = {
    "have_large_insn_limit": ("Large program size limit", "large programs (over 4096 instructions)"),
    "have_bounded_loops": ("Bounded loop support", "bounded loops"),
    "have_v2_isa_extension": ("ISA extension v2", "ISA v2 (JLT, JLE, …)"),
    "have_v3_isa_extension": ("ISA extension v3", "ISA v3 (32-bit jumps)"),
    "have_v4_isa_extension": ("ISA extension v4", "ISA v4 (sign extension, …)"),
}


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("feature", VERBS, USAGE, argv)


def probe(call: Call, words: Words) -> None:
    device: int | None = None
    full = unprivileged = macros = False
    prefix = ""
    while words:
        if words.accept("kernel"):
            continue
        if words.accept("dev"):
            name = words.take("NAME")
            try:
                device = socket.if_nametoindex(name)
            except OSError:
                raise SkepError(f"no interface {name}") from None
        elif words.accept("full"):
            full = True
        elif words.accept("unprivileged"):
            unprivileged = True
        elif words.accept("macros"):
            macros = True
        elif macros and words.accept("prefix"):
            prefix = words.take("PREFIX")
        else:
            raise Usage(f"expected kernel, dev, full, unprivileged or macros, got {words.peek()!r}")
    if macros and call.json:
        raise Usage("macros are no JSON")
    if unprivileged:
        _drop_capabilities()
    sections = _device(call, device) if device is not None else _kernel(call, full)
    if macros:
        from skep.cli.feature_macros import macros as as_macros
        from skep.uapi.helpers import helpers

        asked = [
            f"bpf_{row.name}" for number, row in helpers().items() if number and (full or number not in _LOUD)
        ]
        for text in as_macros(sections, prefix, asked):
            call.write(text)
        return
    if call.json:
        call.emit({key: {name: value for name, value, _ in rows} for _, key, rows in sections})
        return
    for number, (title, _, rows) in enumerate(sections):
        call.write(("\n" if number else "") + f"Scanning {title}...\n")
        for _, _, line in rows:
            call.write(line + "\n")
    call.write("\n")


def _drop_capabilities() -> None:
    """Go on without any capability; they do not come back."""
    from skep.linux.calls import Pinned, syscall

    pinned = Pinned()
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    number = {"x86_64": 126}.get(os.uname().machine, 91)
    _, code = syscall(number, pinned(header), pinned(bytes(24)))
    if code:
        raise KernelError(code, f"dropping capabilities: {os.strerror(code)}", cmd="capset")


def _kernel(call: Call, full: bool) -> Iterator[Section]:
    from skep.linux.features import features

    found = features()
    yield "system configuration", "system_config", _system()
    yield "system call availability", "syscall_config", _syscall(call)
    yield "eBPF program types", "program_types", _types("program_type", "prog_type", found.prog_types())
    yield "eBPF map types", "map_types", _types("map_type", "map_type", found.map_types())
    yield "eBPF helper functions", "helpers", _helpers(found, full)
    yield "miscellaneous eBPF features", "misc", _misc(found, "all" in call.options)
    if "all" in call.options:
        yield "eBPF link types", "link_types", _types("link_type", "link_type", found.link_types())
        yield "BTF kinds", "btf_kinds", _types("BTF kind", "btf_kind", found.btf_kinds())


def _available(there: bool) -> str:
    return "available" if there else "NOT available"


def _system() -> Iterator[tuple[str, Any, str]]:
    for name, (path, meanings, otherwise) in _SYSCTLS.items():
        try:
            with open(path, encoding="ascii") as file:
                value = int(file.read())
        except (OSError, ValueError):
            yield name, -1, f"Unable to retrieve {name}"
            continue
        yield name, value, meanings[value] if 0 <= value < len(meanings) else otherwise.format(value)
    config = _config()
    for word in _CONFIG.split():
        found = config.get(f"CONFIG_{word}")
        text = f"set to {found}" if found is not None else "not set"
        yield f"CONFIG_{word}", found, f"CONFIG_{word} is {text}"


def _config() -> dict[str, str]:
    """The kernel's build options; values as written, ``"y"`` as y. Empty when nothing tells."""
    out: dict[str, str] = {}
    try:
        path = f"/boot/config-{os.uname().release}"
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        else:
            import gzip

            with gzip.open("/proc/config.gz", "rt", encoding="utf-8", errors="replace") as packed:
                text = packed.read()
    except OSError:
        return out
    for line in text.splitlines():
        name, mark, value = line.partition("=")
        if mark and name.startswith("CONFIG_"):
            out[name] = value
    return out


def _syscall(call: Call) -> Iterator[tuple[str, Any, str]]:
    try:
        call.kernel.get_next_id("prog", 0xFFFFFFFE)
        there = True
    except KernelError as error:
        import errno

        there = error.errno != errno.ENOSYS
    yield "have_bpf_syscall", there, f"bpf() syscall is {_available(there)}"


def _types(noun: str, key: str, rows: Any) -> Iterator[tuple[str, Any, str]]:
    for name, _, there in rows:
        short = name.lower().removeprefix("bpf_").removeprefix(f"{key}_")
        yield f"have_{short}_{key}", there, f"eBPF {noun} {short} is {_available(there)}"


def _helpers(found: Any, full: bool) -> Iterator[tuple[str, Any, str]]:
    from skep.uapi.helpers import helpers

    known = helpers()
    for kind in ProgType:
        if not kind.value:
            continue
        name = names.prog_type(kind)
        numbers = [n for n in known if n and (full or n not in _LOUD)]
        have = [f"bpf_{known[n].name}" for n in numbers if found.helper(kind, n)]
        text = f"eBPF helpers supported for program type {name}:" + "".join(f"\n\t- {row}" for row in have)
        if not have:
            text += (
                "\n\tProgram type not supported"
                if not found.prog_type(kind)
                else ("\n\tCould not determine which helpers are available")
            )
        yield f"{name}_available_helpers", have, text


def _misc(found: Any, everything: bool) -> Iterator[tuple[str, Any, str]]:
    for name, (title, key) in _MISC.items():
        there = found.misc(key)
        yield name, there, f"{title} is {_available(there)}"
    if everything:
        asked = {key for _, key in _MISC.values()}
        for row in found.miscellaneous():
            if row.name not in asked:
                yield row.name, row.there, f"{row.name} is {_available(row.there)}"


# --- what a network card takes -----------------------------------------------------------------


def _device(call: Call, index: int) -> Iterator[Section]:
    """Offload: the types that cards can take, asked with the interface's index."""
    loads = {kind: _offloads(call, kind, _RETURN_0, index) for kind in _OFFLOAD_PROGS}
    rows = [(names.prog_type(kind), there) for kind, there in loads.items()]
    maps = [(names.map_type(kind), _offload_map(call, kind, index)) for kind in _OFFLOAD_MAPS]
    yield "system call availability", "syscall_config", _syscall(call)
    yield (
        "eBPF program types",
        "program_types",
        (
            (f"have_{name}_prog_type", there, f"eBPF program_type {name} is {_available(there)}")
            for name, there in rows
        ),
    )
    yield (
        "eBPF map types",
        "map_types",
        (
            (f"have_{name}_map_type", there, f"eBPF map_type {name} is {_available(there)}")
            for name, there in maps
        ),
    )
    yield "eBPF helper functions", "helpers", _offload_helpers(call, loads, index)
    # bpftool asks these of socket filters, which no card takes; so it says no, and so do we.
    yield (
        "miscellaneous eBPF features",
        "misc",
        ((name, False, f"{title} is {_available(False)}") for name, (title, _) in list(_MISC.items())[:4]),
    )


def _offloads(call: Call, kind: ProgType, code: bytes, index: int) -> bool:
    try:
        fd, _ = call.kernel.prog_load(kind, code, "GPL", prog_ifindex=index)
    except KernelError:
        return False
    call.kernel.close(fd)
    return True


def _offload_map(call: Call, kind: MapType, index: int) -> bool:
    try:
        call.kernel.close(call.kernel.map_create(kind, 4, 4, 1, map_ifindex=index))
    except KernelError:
        return False
    return True


def _offload_helpers(call: Call, loads: dict[ProgType, bool], index: int) -> Iterator[tuple[str, Any, str]]:
    from skep.uapi.helpers import helpers

    for kind, there in loads.items():
        have = []
        for number, row in helpers().items() if there else ():
            code = bytes((0x85, 0, 0, 0)) + number.to_bytes(4, "little") + _RETURN_0[8:]
            try:
                fd, _ = call.kernel.prog_load(kind, code, "GPL", prog_ifindex=index)
                call.kernel.close(fd)
            except KernelError as error:
                if "invalid func" in error.log or "unknown func" in error.log:
                    continue
            have.append(f"bpf_{row.name}")
        name = names.prog_type(kind)
        text = f"eBPF helpers supported for program type {name}:" + "".join(f"\n\t- {one}" for one in have)
        yield f"{name}_available_helpers", have, text


def list_builtins(call: Call, words: Words) -> None:
    """The names that skep itself knows, one a line."""
    from skep.uapi.enums import AttachType, LinkType

    if words.accept("helpers"):
        from skep.uapi.helpers import helpers

        rows = [f"bpf_{row.name}" for number, row in helpers().items() if number]
    else:
        for word, kinds in (
            ("prog_types", ProgType),
            ("map_types", MapType),
            ("attach_types", AttachType),
            ("link_types", LinkType),
        ):
            if words.accept(word):
                rows = [known.name.lower() for known in kinds if known or word == "attach_types"]
                break
        else:
            raise Usage(f"expected a group, got {words.peek()!r}")
    words.end()
    if call.json:
        call.emit(rows)
    else:
        call.write("".join(f"{row}\n" for row in rows))
