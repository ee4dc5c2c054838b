/* Programs of several hooks and one map, for what goes wrong with their handles. */
#include <linux/bpf.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

struct { __uint(type, 1); __uint(max_entries, 4); __type(key, int); __type(value, long); } numbers SEC(".maps");
int hits;

SEC("xdp") int first(struct xdp_md *ctx) { hits++; return 2; }
SEC("xdp") int second(struct xdp_md *ctx) { return 2; }
SEC("tc") int classifier(struct __sk_buff *ctx) { return 0; }
SEC("socket") int filter(struct __sk_buff *ctx) { return 0; }
SEC("raw_tp/sys_enter") int raw(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
