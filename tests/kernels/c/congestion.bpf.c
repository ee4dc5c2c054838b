/* A TCP congestion control: a struct of functions that the kernel calls. */
#define SEC(name) __attribute__((section(name), used))
typedef unsigned int u32;
struct sock;
struct tcp_congestion_ops {
  u32 (*ssthresh)(struct sock *sk);
  void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
  u32 (*undo_cwnd)(struct sock *sk);
  void (*init)(struct sock *sk);
  char name[16];
};
u32 inits = 0, acks = 0;
SEC("struct_ops/skep_init") void skep_init(unsigned long long *ctx) { __sync_fetch_and_add(&inits, 1); }
SEC("struct_ops/skep_avoid") void skep_avoid(unsigned long long *ctx) { __sync_fetch_and_add(&acks, 1); }
SEC("struct_ops/skep_ssthresh") u32 skep_ssthresh(unsigned long long *ctx) { return 2; }
SEC("struct_ops/skep_undo") u32 skep_undo(unsigned long long *ctx) { return 10; }
SEC(".struct_ops") struct tcp_congestion_ops skep_cc = {
    .ssthresh = (void *)skep_ssthresh,
    .cong_avoid = (void *)skep_avoid,
    .undo_cwnd = (void *)skep_undo,
    .init = (void *)skep_init,
    .name = "skep_cc",
};
char _license[] SEC("license") = "GPL";
