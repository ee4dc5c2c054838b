#include <linux/bpf.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

enum xdp_rss_hash_type { XDP_RSS_L4 = 8 };
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash, enum xdp_rss_hash_type *type)
	__attribute__((section(".ksyms")));

SEC("xdp")
int hashed(struct xdp_md *ctx)
{
	__u32 hash = 0;
	enum xdp_rss_hash_type type = 0;

	bpf_xdp_metadata_rx_hash(ctx, &hash, &type);
	return XDP_PASS;
}

SEC("?xdp")
int plain(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("?socket")
int sock(struct __sk_buff *skb)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
