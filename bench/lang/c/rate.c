/* examples/rate.py as one would write it in C. */
#include "twin.h"

struct bucket { struct bpf_spin_lock lock; __u64 tokens, last, sent, dropped; };
const volatile __u64 rate = 1000000, burst = 65536;
MAP(buckets, 2, __u32, struct bucket, 1, 0);

#define MIN(a, b) ((a) < (b) ? (a) : (b))

SEC("tc") int limit(struct __sk_buff *ctx)
{
    __u32 zero = 0;
    struct bucket *bucket = bpf_map_lookup_elem(&buckets, &zero);
    if (!bucket)
        return 0;
    __u64 now = bpf_ktime_get_ns(), size = ctx->len;
    int allowed = 0;
    bpf_spin_lock(&bucket->lock);
    __u64 passed = bucket->last ? now - bucket->last : 0;
    __u64 tokens = bucket->tokens + MIN(passed, 1000000000) * rate / 1000000000;
    tokens = MIN(tokens, burst);
    bucket->last = now;
    if (tokens >= size) {
        tokens -= size;
        bucket->sent += size;
        allowed = 1;
    } else {
        bucket->dropped += size;
    }
    bucket->tokens = tokens;
    bpf_spin_unlock(&bucket->lock);
    return allowed ? 0 : 2;
}
