/* examples/dispatch.py as one would write it in C. */
#include "twin.h"

__u64 echoes, opened, others;
int icmp(struct xdp_md *ctx);
int tcp(struct xdp_md *ctx);

struct {
    int (*type)[3];
    int (*key_size)[4];
    int (*max_entries)[256];
    int (*values[])(struct xdp_md *);
} handlers SEC(".maps") = {.values = {[1] = icmp, [6] = tcp}};

SEC("xdp") int icmp(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct icmphdr *header = data + sizeof(struct ethhdr) + sizeof(struct iphdr);
    if ((void *)(header + 1) <= end && header->type == 8)
        __sync_fetch_and_add(&echoes, 1);
    return 2;
}

SEC("xdp") int tcp(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct tcphdr *header = data + sizeof(struct ethhdr) + sizeof(struct iphdr);
    if ((void *)(header + 1) <= end && header->syn && !header->ack)
        __sync_fetch_and_add(&opened, 1);
    return 2;
}

SEC("xdp") int dispatch(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    if ((void *)(eth + 1) > end || eth->proto != ntohs(0x0800))
        return 2;
    struct iphdr *ip = (void *)(eth + 1);
    if ((void *)(ip + 1) > end)
        return 2;
    bpf_tail_call(ctx, &handlers, ip->protocol);
    __sync_fetch_and_add(&others, 1);
    return 2;
}
