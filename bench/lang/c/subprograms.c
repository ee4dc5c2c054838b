/* examples/subprograms.py as one would write it in C. */
#include "twin.h"

__u64 right, wrong;

static __attribute__((noinline)) __u32 folded(__u64 total)
{
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    return total;
}

static __attribute__((noinline)) __u32 word(__u32 high, __u32 low)
{
    return high << 8 | low;
}

SEC("xdp") int verify(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    if ((void *)(eth + 1) > end || eth->proto != ntohs(0x0800))
        return 2;
    struct iphdr *ip = (void *)(eth + 1);
    if ((void *)(ip + 1) > end || ip->ihl != 5)
        return 2;
    __u64 total = word(ip->version << 4 | ip->ihl, ip->tos) + ntohs(ip->tot_len) + ntohs(ip->id) + ntohs(ip->frag_off);
    total += word(ip->ttl, ip->protocol) + ntohs(ip->check);
    __u32 saddr = ntohl(ip->saddr), daddr = ntohl(ip->daddr);
    total += (saddr >> 16) + (saddr & 0xffff) + (daddr >> 16) + (daddr & 0xffff);
    if (folded(total) == 0xffff)
        __sync_fetch_and_add(&right, 1);
    else
        __sync_fetch_and_add(&wrong, 1);
    return 2;
}
