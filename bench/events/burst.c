/* 64-byte events, as many as the caller asks for, without a wake-up until a batch waits. */
#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
static void *(*reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*submit)(void *data, __u64 flags) = (void *)132;
static __u64 (*query)(void *ring, __u64 what) = (void *)134;
static __u64 (*pid_tgid)(void) = (void *)14;
static long (*output)(void *ctx, void *map, __u64 flags, void *data, __u64 size) = (void *)25;
static long (*loop)(__u32 count, void *callback, void *ctx, __u64 flags) = (void *)181;

struct event { __u64 at; __u64 number; __u32 pid; __u32 tid; __u64 words[5]; };
struct event *unused_event;
struct { __uint(type, 27); __uint(max_entries, 1 << 24); } events SEC(".maps");
struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); } samples SEC(".maps");

const volatile __u64 batch = 1 << 17;
__u64 number = 0;
__u64 lost = 0;

static int one(__u32 index, __u64 *id)
{
	struct event *e = reserve(&events, sizeof(*e), 0);
	if (!e) { lost++; return 0; }
	e->at = number;
	e->number = ++number;
	e->pid = *id >> 32;
	e->tid = *id;
	for (int w = 0; w < 5; w++) e->words[w] = w;
	submit(e, index & 63 ? 1 : query(&events, 0) >= batch ? 2 : 1);
	return 0;
}

struct request { __u64 count; };

SEC("syscall")
int burst(struct request *request)
{
	__u64 id = pid_tgid();
	loop(request->count, one, &id, 0);
	return 0;
}
struct sampling { void *ctx; __u64 id; };

static int sample(__u32 index, struct sampling *sampling)
{
	struct event e = { .at = number, .number = number + 1, .pid = sampling->id >> 32, .tid = sampling->id };
	for (int w = 0; w < 5; w++) e.words[w] = w;
	number++;
	output(sampling->ctx, &samples, 0xffffffffULL, &e, sizeof(e));
	return 0;
}

__u32 many = 0;

SEC("tc")
int burst_perf(void *ctx)
{
	struct sampling sampling = { ctx, pid_tgid() };
	loop(many, sample, &sampling, 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
