// Records of three buffers, bpf_printk, maps and globals, for the processes of one test.
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

static void *(*bpf_map_lookup_elem)(void *, const void *) = (void *)1;
static long (*bpf_map_update_elem)(void *, const void *, const void *, u64) = (void *)2;
static long (*bpf_trace_printk)(const char *, u32, ...) = (void *)6;
static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_get_current_comm)(void *, u32) = (void *)16;
static long (*bpf_perf_event_output)(void *, void *, u64, void *, u64) = (void *)25;
static long (*bpf_ringbuf_output)(void *, void *, u64, u64) = (void *)130;

enum colour { RED, GREEN };

struct event {
	u32 pid;
	u32 number;
	enum colour colour;
	char comm[16];
	u8 raw[4];
};

struct sample {
	u64 number;
	u32 low : 3;
	u32 high : 29;
};

struct event *unused_event;
struct sample *unused_sample;

const volatile u32 wanted;
u32 seen;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u64);
} counts SEC(".maps");

SEC("raw_tp/sys_enter")
int enter(void *ctx)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	if (pid != wanted)
		return 0;
	struct event e = { .pid = pid, .number = ++seen, .colour = GREEN, .raw = { 1, 2, 3, 4 } };
	bpf_get_current_comm(e.comm, sizeof(e.comm));
	bpf_ringbuf_output(&events, &e, sizeof(e), 0);
	struct sample s = { .number = seen, .low = 5, .high = 77 };
	bpf_perf_event_output(ctx, &samples, 0xffffffffULL, &s, sizeof(s));
	u64 one = 1, *count = bpf_map_lookup_elem(&counts, &pid);
	if (count)
		*count += 1;
	else
		bpf_map_update_elem(&counts, &pid, &one, 0);
	return 0;
}

SEC("?raw_tp/sys_enter")
int printing(void *ctx)
{
	static const char text[] = "hello from %d";
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	if (pid == wanted)
		bpf_trace_printk(text, sizeof(text), pid);
	return 0;
}

SEC("xdp")
int drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("perf_event")
int sampled(void *ctx)
{
	return 0;
}

SEC("cgroup_skb/egress")
int block(struct __sk_buff *skb)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
