"""Members of kernel structs that programs may write: few, by the kind of program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.errors import BtfError
from skep.uapi.enums import ProgType

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env
    from skep.verifier.ptr import Ptr

_Table = dict[str, tuple[str, ...]]
_TCP: Final[_Table] = {
    "sock": ("sk_pacing_rate", "sk_pacing_status"),
    "tcp_sock": (
        "inet_conn.icsk_inet.sk.sk_pacing_rate",
        "inet_conn.icsk_inet.sk.sk_pacing_status",
        "inet_conn.icsk_ca_priv",
        "inet_conn.icsk_ack.pending",
        "snd_cwnd",
        "snd_cwnd_cnt",
        "snd_cwnd_stamp",
        "snd_ssthresh",
        "ecn_flags",
        "app_limited",
    ),
}
_SCHED: Final[_Table] = {"task_struct": ("scx.slice", "scx.dsq_vtime", "scx.disallow")}
_CONNTRACK: Final[_Table] = {"nf_conn": ("mark",), "nf_conn___init": ("mark",)}
_STRUCT_OPS: Final[dict[str, _Table]] = {"tcp_congestion_ops": _TCP, "sched_ext_ops": _SCHED}


def check_struct_write(env: Env, btf: Btf, p: Ptr, off: int, size: int) -> None:
    """A store of ``size`` bytes at ``off`` of the struct that ``p`` points to."""
    subject = env.subject
    table: _Table = {}
    if subject.prog_type == ProgType.STRUCT_OPS and subject.struct_ops is not None:
        table = _STRUCT_OPS.get(subject.struct_ops[0], {})
    elif subject.prog_type in (ProgType.XDP, ProgType.SCHED_CLS, ProgType.SCHED_ACT):
        table = _CONNTRACK
    name = btf[p.aux].name
    if not table:
        env.reject("only read is supported")
    if name not in table:
        env.reject("only read is supported")
    for path in table[name]:
        place = _place(btf, p.aux, path)
        if place is None:
            continue
        start, end = place
        if start <= off < end:
            if off + size > end:
                env.reject(
                    f"write access at off {off} with size {size} beyond the member of {name} ended at {end}"
                )
            return
    env.reject(f"no write support to {name} at off {off}")


def _place(btf: Btf, id: int, path: str) -> tuple[int, int] | None:
    try:
        member, offset = btf.member(id, path)
        return offset // 8, offset // 8 + btf.size_of(member.type)
    except (BtfError, KeyError):
        return None
