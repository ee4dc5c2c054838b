/* A TCP congestion control that never opens its window: struct_ops. */
#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
struct sock; struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	__u32 flags;
	char name[16];
};
__u64 asked = 0;
SEC("struct_ops/fixed_ssthresh") __u32 fixed_ssthresh(__u64 *ctx) { __sync_fetch_and_add(&asked, 1); return 7; }
SEC("struct_ops/fixed_avoid") void fixed_avoid(__u64 *ctx) { __sync_fetch_and_add(&asked, 1); }
SEC("struct_ops/fixed_undo") __u32 fixed_undo(__u64 *ctx) { return 7; }
#ifndef SECTION
#define SECTION ".struct_ops"
#endif
SEC(SECTION) struct tcp_congestion_ops fixed = {
	.ssthresh = (void *)fixed_ssthresh, .cong_avoid = (void *)fixed_avoid, .undo_cwnd = (void *)fixed_undo,
	.name = "skep_fixed",
};
char LICENSE[] SEC("license") = "GPL";
