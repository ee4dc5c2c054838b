// Records whose types only local variables have: in a ring buffer, and in a perf buffer with their ends left out.
#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int(*name)[val]

static __u64 (*pid_tgid)(void) = (void *)14;
static long (*comm)(void *, __u32) = (void *)16;
static long (*perf_event_output)(void *, void *, __u64, void *, __u64) = (void *)25;
static long (*ringbuf_output)(void *, void *, __u64, __u64) = (void *)130;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} events SEC(".maps");

const volatile int only_pid = 0;

// as long as a record, in BTF, and the name of something of the kernel's
struct task_struct {
	char bytes[24];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	int (*key);
	struct task_struct (*value);
} other SEC(".maps");

struct ring_record {
	__u64 number;
	char comm[16];
};

struct event {
	__u32 pid;
	__s32 negative;
	char text[100];
};

SEC("tracepoint/syscalls/sys_enter_getppid")
int enter(void *ctx)
{
	struct ring_record record = {.number = 7};
	struct event event = {.negative = -5, .text = "short"};

	event.pid = pid_tgid() >> 32;
	if (event.pid != only_pid)
		return 0;
	comm(record.comm, sizeof(record.comm));
	ringbuf_output(&rings, &record, sizeof(record), 0);
	perf_event_output(ctx, &events, 0xffffffff, &event, 16);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
