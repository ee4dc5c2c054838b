# mypy: ignore-errors
from skep import bpf
from skep.bpf import u64

hist = bpf.Array(u64, 32)
bytes_acked = bpf.SkStorage(u64)


@bpf.sockops
def ops(ctx: bpf.SockOps) -> int:
    op = ctx.op
    if op == bpf.BPF_SOCK_OPS_TCP_CONNECT_CB:
        bpf.sock_ops_cb_flags_set(
            ctx.bpf_sock_ops_cb_flags | bpf.BPF_SOCK_OPS_STATE_CB_FLAG | bpf.BPF_SOCK_OPS_RTT_CB_FLAG
        )
    elif op == bpf.BPF_SOCK_OPS_RTT_CB:
        hist[min(bpf.log2(ctx.srtt_us >> 3), 31)] += 1
    elif op == bpf.BPF_SOCK_OPS_STATE_CB:
        if ctx.args[1] == bpf.BPF_TCP_CLOSE:
            sk = ctx.sk
            if sk:
                b = bytes_acked.create(sk)
                if b is not None:
                    b.value = ctx.bytes_acked
    elif op == bpf.BPF_SOCK_OPS_TIMEOUT_INIT:
        ctx.reply = 10
    elif op == bpf.BPF_SOCK_OPS_RWND_INIT:
        ctx.reply = 40
    if op == bpf.BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
        bpf.setsockopt(6, 13, "reno")
    return 1
