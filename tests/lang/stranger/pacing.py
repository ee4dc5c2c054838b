"""tc EDT pacing per flow, as in the edt examples of the kernel; and a token bucket in an LPM."""

from skep import bpf
from skep.bpf import be32, u32, u64
from skep.net import ethhdr, iphdr

NSEC_PER_SEC = 1_000_000_000
TIME_HORIZON_NS = 2000 * 1000 * 1000
ECN_HORIZON_NS = 5000000
flow_map = bpf.Hash(u32, u64, max_entries=65535)
throttle_rate_bps: u64 = bpf.const(5 * 1000 * 1000)


@bpf.struct
class Limit:
    lock: bpf.SpinLock
    rate: u64
    tokens: u64
    last: u64


limits = bpf.Hash(be32, Limit, max_entries=1024)
nets = bpf.LpmTrie(bpf.lpm(be32), be32, max_entries=1024)


@bpf.tc
def throttle(skb: bpf.SkBuff) -> int:
    key = 0
    now = bpf.ktime_get_ns()
    delay_ns = u64(skb.len) * NSEC_PER_SEC // throttle_rate_bps
    last = flow_map.lookup(key)
    next_tstamp = last.value + delay_ns if last else 0
    tstamp = skb.tstamp
    if tstamp < now:
        tstamp = now
    if next_tstamp <= tstamp:
        if flow_map.update(key, tstamp, bpf.BPF_ANY):
            return bpf.TC_ACT_SHOT
        return bpf.TC_ACT_OK
    if next_tstamp - now >= TIME_HORIZON_NS:
        return bpf.TC_ACT_SHOT
    if next_tstamp - now >= ECN_HORIZON_NS:
        bpf.skb_ecn_set_ce()
    if flow_map.update(key, next_tstamp, bpf.BPF_EXIST):
        return bpf.TC_ACT_SHOT
    skb.tstamp = next_tstamp
    return bpf.TC_ACT_OK


@bpf.tcx_ingress
def police(skb: bpf.SkBuff) -> int:
    pkt = skb.packet()
    eth, ip = pkt.take(ethhdr), pkt.take(iphdr)
    if eth is None or ip is None:
        return bpf.TCX_PASS
    group = nets.get(ip.saddr)
    if group is None:
        return bpf.TCX_PASS
    limit = limits.get(group)
    if limit is None:
        return bpf.TCX_PASS
    now = bpf.ktime()
    verdict = bpf.TCX_DROP
    with limit.lock:
        elapsed = min(u64(now - limit.last), NSEC_PER_SEC)
        limit.tokens = min(limit.tokens + elapsed * limit.rate // NSEC_PER_SEC, limit.rate)
        limit.last = now
        if limit.tokens >= skb.len:
            limit.tokens -= skb.len
            verdict = bpf.TCX_PASS
    return verdict
