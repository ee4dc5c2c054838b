/* examples/packets.py as one would write it in C. */
#include "twin.h"

struct traffic { __u64 packets, bytes; };
MAP(traffic, 6, __u32, struct traffic, 256, 0);

SEC("xdp") int count(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    __u32 protocol = 255;
    if ((void *)(eth + 1) > end)
        return 2;
    if (eth->proto == ntohs(0x0800)) {
        struct iphdr *ip = (void *)(eth + 1);
        if ((void *)(ip + 1) <= end)
            protocol = ip->protocol;
    } else if (eth->proto == ntohs(0x86dd)) {
        struct ipv6hdr *ip = (void *)(eth + 1);
        if ((void *)(ip + 1) <= end)
            protocol = ip->nexthdr;
    }
    struct traffic *row = bpf_map_lookup_elem(&traffic, &protocol);
    if (row) {
        row->packets++;
        row->bytes += end - data;
    }
    return 2;
}
