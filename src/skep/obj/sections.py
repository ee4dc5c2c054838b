"""Section names of programs: which type and attach type a name stands for.

The table is libbpf's convention (its version 1.7), row by row and in its order, then older names that
objects in the wild carry.
"""

from __future__ import annotations

from skep.plain import NamedTuple, once
from skep.uapi.enums import AttachType, ProgType
from skep.uapi.flags import BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.obj.spec import ProgramSpec

# Name (a trailing + takes more after a slash), program type, attach type, and
# btf: attaches by BTF id; sleepable; frags: multi-buffer XDP; attachable: the attach type is given at load,
# optional: but not to kernels that do not know it.
_TABLE = """
socket                  SOCKET_FILTER           -
sk_reuseport/migrate    SK_REUSEPORT            SK_REUSEPORT_SELECT_OR_MIGRATE attachable
sk_reuseport            SK_REUSEPORT            SK_REUSEPORT_SELECT            attachable
kprobe+                 KPROBE                  -
uprobe+                 KPROBE                  -
uprobe.s+               KPROBE                  -                              sleepable
kretprobe+              KPROBE                  -
uretprobe+              KPROBE                  -
uretprobe.s+            KPROBE                  -                              sleepable
kprobe.multi+           KPROBE                  TRACE_KPROBE_MULTI
kretprobe.multi+        KPROBE                  TRACE_KPROBE_MULTI
kprobe.session+         KPROBE                  TRACE_KPROBE_SESSION
uprobe.multi+           KPROBE                  TRACE_UPROBE_MULTI
uretprobe.multi+        KPROBE                  TRACE_UPROBE_MULTI
uprobe.session+         KPROBE                  TRACE_UPROBE_SESSION
uprobe.multi.s+         KPROBE                  TRACE_UPROBE_MULTI             sleepable
uretprobe.multi.s+      KPROBE                  TRACE_UPROBE_MULTI             sleepable
uprobe.session.s+       KPROBE                  TRACE_UPROBE_SESSION           sleepable
ksyscall+               KPROBE                  -
kretsyscall+            KPROBE                  -
usdt+                   KPROBE                  -                              usdt
usdt.s+                 KPROBE                  -                              usdt sleepable
tc/ingress              SCHED_CLS               TCX_INGRESS
tc/egress               SCHED_CLS               TCX_EGRESS
tcx/ingress             SCHED_CLS               TCX_INGRESS
tcx/egress              SCHED_CLS               TCX_EGRESS
tc                      SCHED_CLS               -
classifier              SCHED_CLS               -
action                  SCHED_ACT               -
netkit/primary          SCHED_CLS               NETKIT_PRIMARY
netkit/peer             SCHED_CLS               NETKIT_PEER
tracepoint+             TRACEPOINT              -
tp+                     TRACEPOINT              -
tracepoint.s+           TRACEPOINT              -                              sleepable
tp.s+                   TRACEPOINT              -                              sleepable
raw_tracepoint+         RAW_TRACEPOINT          -
raw_tp+                 RAW_TRACEPOINT          -
raw_tracepoint.s+       RAW_TRACEPOINT          -                              sleepable
raw_tp.s+               RAW_TRACEPOINT          -                              sleepable
raw_tracepoint.w+       RAW_TRACEPOINT_WRITABLE -
raw_tp.w+               RAW_TRACEPOINT_WRITABLE -
tp_btf+                 TRACING                 TRACE_RAW_TP                   btf
tp_btf.s+               TRACING                 TRACE_RAW_TP                   btf sleepable
fentry+                 TRACING                 TRACE_FENTRY                   btf
fmod_ret+               TRACING                 MODIFY_RETURN                  btf
fexit+                  TRACING                 TRACE_FEXIT                    btf
fentry.s+               TRACING                 TRACE_FENTRY                   btf sleepable
fmod_ret.s+             TRACING                 MODIFY_RETURN                  btf sleepable
fexit.s+                TRACING                 TRACE_FEXIT                    btf sleepable
fsession+               TRACING                 TRACE_FSESSION                 btf
fsession.s+             TRACING                 TRACE_FSESSION                 btf sleepable
fsession.multi+         TRACING                 TRACE_FSESSION_MULTI
fsession.multi.s+       TRACING                 TRACE_FSESSION_MULTI           sleepable
fentry.multi+           TRACING                 TRACE_FENTRY_MULTI
fexit.multi+            TRACING                 TRACE_FEXIT_MULTI
fentry.multi.s+         TRACING                 TRACE_FENTRY_MULTI             sleepable
fexit.multi.s+          TRACING                 TRACE_FEXIT_MULTI              sleepable
freplace+               EXT                     -                              btf
lsm+                    LSM                     LSM_MAC                        btf
lsm.s+                  LSM                     LSM_MAC                        btf sleepable
lsm_cgroup+             LSM                     LSM_CGROUP                     btf
iter+                   TRACING                 TRACE_ITER                     btf
iter.s+                 TRACING                 TRACE_ITER                     btf sleepable
syscall                 SYSCALL                 -                              sleepable
xdp.frags/devmap        XDP                     XDP_DEVMAP                     frags
xdp/devmap              XDP                     XDP_DEVMAP                     attachable
xdp.frags/cpumap        XDP                     XDP_CPUMAP                     frags
xdp/cpumap              XDP                     XDP_CPUMAP                     attachable
xdp.frags               XDP                     XDP                            frags
xdp                     XDP                     XDP                            attachable optional
perf_event              PERF_EVENT              -
lwt_in                  LWT_IN                  -
lwt_out                 LWT_OUT                 -
lwt_xmit                LWT_XMIT                -
lwt_seg6local           LWT_SEG6LOCAL           -
sockops                 SOCK_OPS                CGROUP_SOCK_OPS                attachable optional
sk_skb/stream_parser    SK_SKB                  SK_SKB_STREAM_PARSER           attachable optional
sk_skb/stream_verdict   SK_SKB                  SK_SKB_STREAM_VERDICT          attachable optional
sk_skb/verdict          SK_SKB                  SK_SKB_VERDICT                 attachable optional
sk_skb                  SK_SKB                  -
sk_msg                  SK_MSG                  SK_MSG_VERDICT                 attachable optional
lirc_mode2              LIRC_MODE2              LIRC_MODE2                     attachable optional
flow_dissector          FLOW_DISSECTOR          FLOW_DISSECTOR                 attachable optional
cgroup_skb/ingress      CGROUP_SKB              CGROUP_INET_INGRESS            attachable optional
cgroup_skb/egress       CGROUP_SKB              CGROUP_INET_EGRESS             attachable optional
cgroup/skb              CGROUP_SKB              -
cgroup/sock_create      CGROUP_SOCK             CGROUP_INET_SOCK_CREATE        attachable
cgroup/sock_release     CGROUP_SOCK             CGROUP_INET_SOCK_RELEASE       attachable
cgroup/sock             CGROUP_SOCK             CGROUP_INET_SOCK_CREATE        attachable optional
cgroup/post_bind4       CGROUP_SOCK             CGROUP_INET4_POST_BIND         attachable
cgroup/post_bind6       CGROUP_SOCK             CGROUP_INET6_POST_BIND         attachable
cgroup/bind4            CGROUP_SOCK_ADDR        CGROUP_INET4_BIND              attachable
cgroup/bind6            CGROUP_SOCK_ADDR        CGROUP_INET6_BIND              attachable
cgroup/connect4         CGROUP_SOCK_ADDR        CGROUP_INET4_CONNECT           attachable
cgroup/connect6         CGROUP_SOCK_ADDR        CGROUP_INET6_CONNECT           attachable
cgroup/connect_unix     CGROUP_SOCK_ADDR        CGROUP_UNIX_CONNECT            attachable
cgroup/sendmsg4         CGROUP_SOCK_ADDR        CGROUP_UDP4_SENDMSG            attachable
cgroup/sendmsg6         CGROUP_SOCK_ADDR        CGROUP_UDP6_SENDMSG            attachable
cgroup/sendmsg_unix     CGROUP_SOCK_ADDR        CGROUP_UNIX_SENDMSG            attachable
cgroup/recvmsg4         CGROUP_SOCK_ADDR        CGROUP_UDP4_RECVMSG            attachable
cgroup/recvmsg6         CGROUP_SOCK_ADDR        CGROUP_UDP6_RECVMSG            attachable
cgroup/recvmsg_unix     CGROUP_SOCK_ADDR        CGROUP_UNIX_RECVMSG            attachable
cgroup/getpeername4     CGROUP_SOCK_ADDR        CGROUP_INET4_GETPEERNAME       attachable
cgroup/getpeername6     CGROUP_SOCK_ADDR        CGROUP_INET6_GETPEERNAME       attachable
cgroup/getpeername_unix CGROUP_SOCK_ADDR        CGROUP_UNIX_GETPEERNAME        attachable
cgroup/getsockname4     CGROUP_SOCK_ADDR        CGROUP_INET4_GETSOCKNAME       attachable
cgroup/getsockname6     CGROUP_SOCK_ADDR        CGROUP_INET6_GETSOCKNAME       attachable
cgroup/getsockname_unix CGROUP_SOCK_ADDR        CGROUP_UNIX_GETSOCKNAME        attachable
cgroup/sysctl           CGROUP_SYSCTL           CGROUP_SYSCTL                  attachable
cgroup/getsockopt       CGROUP_SOCKOPT          CGROUP_GETSOCKOPT              attachable
cgroup/setsockopt       CGROUP_SOCKOPT          CGROUP_SETSOCKOPT              attachable
cgroup/dev              CGROUP_DEVICE           CGROUP_DEVICE                  attachable optional
struct_ops+             STRUCT_OPS              -
struct_ops.s+           STRUCT_OPS              -                              sleepable
sk_lookup               SK_LOOKUP               SK_LOOKUP                      attachable
netfilter               NETFILTER               NETFILTER
"""

#: names of before the convention, and those of other loaders
_OLD = """
xdp_prog                     XDP                     XDP
sockfilter                   SOCKET_FILTER           -
sk_filter                    SOCKET_FILTER           -
cgroup_skb                   CGROUP_SKB              -
cgroup/dev_skb               CGROUP_SKB              -
tracing+                     TRACING                 TRACE_FENTRY btf
"""


class Section(NamedTuple):
    """What a section name means. ``rest`` is what follows the prefix and its slash."""

    prefix: str
    type: ProgType
    attach_type: AttachType | None
    flags: frozenset[str]
    rest: str = ""

    @property
    def sleepable(self) -> bool:
        return "sleepable" in self.flags


def lookup(name: str) -> Section | None:
    """The meaning of a section name, None when it stands for no program type.

    A leading "?" (not loaded unless asked for) is ignored. A row with "+" matches its name alone or
    followed by a slash and anything, a row without only itself; the first match counts.
    """
    name = name.removeprefix("?")
    for row in _rows():
        if not row.prefix.endswith("+"):
            if name == row.prefix:
                return row
            continue
        prefix = row.prefix[:-1]
        if name == prefix or name.startswith(prefix + "/"):
            return row._replace(prefix=prefix, rest=name[len(prefix) + 1 :])
    return None


def before(name: str) -> Section | None:
    """The meaning of a name as libbpf before 1.0 read it: the longest of the table's that it starts with.

    "xdp_pass", "socket1", "cgroup/sock2", "tc/tail": what follows must not be a letter.
    """
    name = name.removeprefix("?")
    best: Section | None = None
    for row in _rows():
        prefix = row.prefix
        if (
            name.startswith(prefix)
            and not name[len(prefix) : len(prefix) + 1].isalpha()
            and (best is None or len(prefix) > len(best.prefix))
        ):
            best = row
    return best


def apply(program: ProgramSpec, meaning: Section) -> None:
    """Make a program what a section name means."""
    program.type = meaning.type
    program.attach_type = meaning.attach_type
    program.hook = meaning.prefix
    program.attach_to = meaning.rest
    program.sleepable = meaning.sleepable
    program.flags = BPF_F_SLEEPABLE if meaning.sleepable else 0
    if "frags" in meaning.flags:
        program.flags |= BPF_F_XDP_HAS_FRAGS


@once
def _rows() -> tuple[Section, ...]:
    return tuple(_row(line.split()) for line in (_TABLE + _OLD).splitlines() if line)


def _row(fields: list[str]) -> Section:
    name, prog, attach, *flags = fields
    return Section(name, ProgType[prog], None if attach == "-" else AttachType[attach], frozenset(flags))
