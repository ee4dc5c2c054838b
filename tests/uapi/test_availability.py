"""Which program may call which helper, held against the running kernel."""

from __future__ import annotations

import os
import random

import pytest

from skep.errors import KernelError
from skep.isa import Insn, encode
from skep.linux.kernel import LinuxKernel
from skep.uapi import availability
from skep.uapi.enums import AttachType, ProgType
from skep.uapi.helpers import helpers
from tests.support import oracles

SEED = int(os.environ.get("SKEP_SEED", "518"))
#: types that need something to attach to before a call is looked at
BY_BTF = (ProgType.TRACING, ProgType.LSM, ProgType.STRUCT_OPS, ProgType.EXT)
REFUSED = ("invalid func ", "unknown func ", "program of this type cannot use helper ")
#: what depends on how a kernel was built: infrared, SEG6, XFRM, cgroup classes, lockdown
BY_CONFIG = {
    "rc_repeat", "rc_keydown", "rc_pointer_rel", "lwt_seg6_store_bytes", "lwt_seg6_action",
    "lwt_seg6_adjust_srh",
    "skb_get_xfrm_state", "get_cgroup_classid", "skb_cgroup_classid", "override_return", "get_route_realm",
    "probe_read", "probe_read_str", "probe_read_kernel", "probe_read_kernel_str", "probe_write_user",
    "tcp_raw_gen_syncookie_ipv4", "tcp_raw_gen_syncookie_ipv6", "tcp_raw_check_syncookie_ipv4",
    "tcp_raw_check_syncookie_ipv6", "tcp_gen_syncookie", "tcp_check_syncookie",
}  # fmt: skip


def may_call(kernel: LinuxKernel, kind: int, attach: int, number: int) -> bool | None:
    """None: the type itself is not there."""
    attr = (
        {"kern_version": kernel.version[0] << 16 | kernel.version[1] << 8} if kind == ProgType.KPROBE else {}
    )
    code = encode([Insn(0x85, imm=number), Insn(0xB7), Insn(0x95)])
    flags = 16 if kind == ProgType.SYSCALL else 0
    try:
        fd, _ = kernel.prog_load(
            kind, code, "GPL", expected_attach_type=attach, prog_flags=flags, log_level=1, **attr
        )
    except KernelError as error:
        if "(85) call" not in error.log:
            return None
        return not any(text in error.log for text in REFUSED)
    kernel.close(fd)
    return True


@pytest.mark.live
def test_the_running_kernel_allows_what_the_table_says() -> None:
    oracles.bpf()
    kernel = LinuxKernel()
    rng = random.Random(SEED)
    contexts = [(kind, attach) for kind, found in availability._table()[1].items() for attach in found]
    known = helpers()
    pairs = [(c, n) for c in contexts for n in known if c[0] not in BY_BTF]
    compared = 0
    for (kind, attach), number in rng.sample(pairs, 2500):
        answer = may_call(kernel, kind, attach, number)
        if answer is None:
            continue
        name = known[number].name
        said = availability.allowed(kind, number, attach, kernel.version)
        where = f"seed {SEED}: {ProgType(kind).name} {AttachType(attach).name} {name}"
        if answer:
            assert said, f"{where}: the kernel allows it"
        elif said:
            assert name in BY_CONFIG, f"{where}: the kernel refuses it"
        compared += 1
    print(f"{compared} pairs of program and helper compared")
    assert compared > 2000


def test_versions() -> None:
    assert availability.since(ProgType.XDP, 44) == "4.10"  # xdp_adjust_head
    assert availability.since(ProgType.SOCKET_FILTER, 1) == "3.19"
    assert availability.since(ProgType.KPROBE, 1) == "4.1"
    assert availability.since(ProgType.XDP, 67) is None  # get_stack
    assert availability.allowed(ProgType.XDP, 25, kernel=(4, 8))
    assert not availability.allowed(ProgType.XDP, 25, kernel=(4, 7))
    assert availability.since(ProgType.CGROUP_SOCK_ADDR, 64, AttachType.CGROUP_INET4_CONNECT) == "4.17"
    assert availability.since(ProgType.CGROUP_SOCK_ADDR, 64, AttachType.CGROUP_INET4_BIND) is None
    assert ProgType.XDP in availability.types_with(44)
    assert availability.types_with(10_000) == []


def test_no_helper_is_older_than_itself_or_its_program() -> None:
    from skep.uapi.enums import SINCE

    known = helpers()
    for kind, attach_types in availability._table()[1].items():
        for attach in attach_types:
            for number in known:
                found = availability.first(kind, number, attach)
                if found is not None:
                    assert found >= availability._version(known[number].since)
                    assert found >= availability._version(SINCE[ProgType(kind).c_name])


def test_an_xdp_program_needs_no_attach_type() -> None:
    """libbpf gives every XDP program BPF_XDP, which kernels before 5.9 do not look at."""
    from skep.verifier.facts.context import place_since

    for helper in (1, 23, 44, 51):
        assert availability.first(ProgType.XDP, helper, AttachType.XDP) == availability.first(
            ProgType.XDP, helper, 0
        )
    assert availability.first(ProgType.XDP, 51, AttachType.XDP) == (4, 14)  # bpf_redirect_map
    assert place_since(ProgType.XDP, AttachType.XDP, 4, 4) == (4, 8)  # data_end
    assert place_since(ProgType.XDP, AttachType.XDP, 20, 4) is None  # egress_ifindex: devmap's programs
    assert place_since(ProgType.XDP, AttachType.XDP_DEVMAP, 20, 4) == (5, 8)
