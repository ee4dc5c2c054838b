/* examples/firewall.py as one would write it in C. */
#include "twin.h"

struct lpm { __u32 prefixlen; __be32 address; };
MAP(blocked, 11, struct lpm, __u32, 10000, 1);
MAP(packets, 5, __be32, __u64, 65536, 0);

SEC("xdp") int firewall(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    if ((void *)(eth + 1) > end || eth->proto != ntohs(0x0800))
        return 2;
    struct iphdr *ip = (void *)(eth + 1);
    if ((void *)(ip + 1) > end)
        return 2;
    __be32 source = ip->saddr;
    __u64 *count = bpf_map_lookup_elem(&packets, &source);
    if (!count) {
        __u64 zero = 0;
        bpf_map_update_elem(&packets, &source, &zero, BPF_NOEXIST);
        count = bpf_map_lookup_elem(&packets, &source);
    }
    if (count)
        *count += 1;
    struct lpm key = {32, source};
    return bpf_map_lookup_elem(&blocked, &key) ? 1 : 2;
}
