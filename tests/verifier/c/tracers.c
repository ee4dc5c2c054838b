/* What tracing tools do: arguments of a new process, latency histograms, files opened, stacks, rates; loops with
 * bounded indexes, ring buffers, per-CPU scratch, constants set before the load. */
#include "common.h"

struct sys_enter { __u64 pad, id, args[6]; };
struct sys_exit { __u64 pad, id; __s64 ret; };

#define ARGS 60
#define ARG 128
struct execution { __u32 pid, ppid, uid; __s32 ret, args, size; char comm[16], text[(ARGS + 1) * ARG]; };
struct opened { __u64 time; __u32 pid, tid; __s32 ret, flags; char comm[16], path[255]; };
struct histogram { __u32 slots[27]; char comm[16]; };
struct start { __u64 time; const char *path; __s32 flags; };

struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, struct execution);
	__uint(max_entries, 1024); } executions SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, struct start);
	__uint(max_entries, 10240); } starts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, struct histogram);
	__uint(max_entries, 1024); } histograms SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(key_size, 4); __uint(value_size, 127 * 8);
	__uint(max_entries, 1024); } stacks SEC(".maps");

static long (*get_stackid)(void *ctx, void *map, __u64 flags) = (void *)27;

const volatile __u32 only_pid, only_uid = -1, most_args = 20;
const volatile _Bool failed_only, with_comm = 1, milliseconds;
static struct execution empty;
__u64 lost;

INLINE _Bool wanted(__u32 pid) { return !only_pid || pid == only_pid; }

SEC("tracepoint/syscalls/sys_enter_execve")
int exec_enter(struct sys_enter *ctx)
{
	__u64 both = get_current_pid_tgid();
	__u32 pid = both >> 32;
	const char **args = (const char **)ctx->args[1];
	const char *arg;
	struct execution *event;
	long count;

	if (!wanted(pid))
		return 0;
	if (map_update(&executions, &pid, &empty, BPF_NOEXIST))
		return 0;
	event = map_lookup(&executions, &pid);
	if (!event)
		return 0;
	event->pid = pid;
	event->args = event->size = 0;
	count = probe_read_user_str(event->text, ARG, (const char *)ctx->args[0]);
	if (count > 0 && count <= ARG)
		event->size += count;
	else
		event->text[0] = 0, event->size++;
	event->args++;
#pragma unroll
	for (int i = 1; i < ARGS && i < 60; i++) {
		if (i >= most_args)
			break;
		if (probe_read_user(&arg, sizeof(arg), &args[i]) || !arg)
			return 0;
		if (event->size > ARGS * ARG)
			return 0;
		if (event->size < 0)
			return 0;
		count = probe_read_user_str(&event->text[event->size], ARG, arg);
		if (count < 0 || count > ARG)
			return 0;
		event->args++;
		event->size += count;
	}
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exec_exit(struct sys_exit *ctx)
{
	__u32 pid = get_current_pid_tgid() >> 32;
	struct execution *event = map_lookup(&executions, &pid);
	__u64 size;

	if (!event)
		return 0;
	if (failed_only && ctx->ret >= 0)
		goto out;
	event->ret = ctx->ret;
	get_current_comm(event->comm, sizeof(event->comm));
	size = sizeof(*event) - sizeof(event->text) + (event->size & 8191);
	if (size <= sizeof(*event))
		perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, event, size);
out:
	map_delete(&executions, &pid);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_openat")
int open_enter(struct sys_enter *ctx)
{
	__u64 both = get_current_pid_tgid();
	__u32 tid = (__u32)both;
	struct start start = {};

	if (!wanted(both >> 32))
		return 0;
	start.time = ktime_get_ns();
	start.path = (const char *)ctx->args[1];
	start.flags = (__s32)ctx->args[2];
	map_update(&starts, &tid, &start, 0);
	return 0;
}

INLINE __u64 log2_of(__u64 value)
{
	__u64 shift, result;

	result = (value > 0xffffffff) << 5;
	value >>= result;
	shift = (value > 0xffff) << 4;
	value >>= shift;
	result |= shift;
	shift = (value > 0xff) << 3;
	value >>= shift;
	result |= shift;
	shift = (value > 0xf) << 2;
	value >>= shift;
	result |= shift;
	shift = (value > 0x3) << 1;
	value >>= shift;
	result |= shift;
	return result | value >> 1;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int open_exit(struct sys_exit *ctx)
{
	__u64 both = get_current_pid_tgid();
	__u32 tid = (__u32)both, pid = both >> 32;
	struct start *start = map_lookup(&starts, &tid);
	struct histogram *histogram, fresh = {};
	struct opened *event;
	__u64 delta, slot;

	if (!start)
		return 0;
	delta = ktime_get_ns() - start->time;
	delta /= milliseconds ? 1000000 : 1000;
	histogram = map_lookup(&histograms, &pid);
	if (!histogram) {
		map_update(&histograms, &pid, &fresh, BPF_NOEXIST);
		histogram = map_lookup(&histograms, &pid);
		if (!histogram)
			goto out;
		if (with_comm)
			get_current_comm(histogram->comm, sizeof(histogram->comm));
	}
	slot = log2_of(delta);
	if (slot >= 27)
		slot = 26;
	__sync_fetch_and_add(&histogram->slots[slot], 1);
	if (failed_only && ctx->ret >= 0)
		goto out;
	event = ringbuf_reserve(&ring, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		goto out;
	}
	event->time = ktime_get_ns();
	event->pid = pid;
	event->tid = tid;
	event->ret = ctx->ret;
	event->flags = start->flags;
	get_current_comm(event->comm, sizeof(event->comm));
	if (probe_read_user_str(event->path, sizeof(event->path), start->path) < 0) {
		ringbuf_discard(event, 0);
		goto out;
	}
	ringbuf_submit(event, 0);
out:
	map_delete(&starts, &tid);
	return 0;
}

SEC("raw_tracepoint/sched_switch")
int switched(struct bpf_raw_tracepoint_args *ctx)
{
	struct { __u32 pid; __s32 user, kernel; char comm[16]; } key = {};
	__u64 both = get_current_pid_tgid(), now = ktime_get_ns();
	char text[48];
	__u32 hash = 2166136261u;
	long count;

	if (!wanted(both >> 32))
		return 0;
	key.pid = both >> 32;
	key.kernel = get_stackid(ctx, &stacks, 0);
	key.user = get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	get_current_comm(key.comm, sizeof(key.comm));
	__builtin_memcpy(text, key.comm, 16);
	for (int i = 0; i < 16; i++) {
		if (!text[i])
			break;
		hash = (hash ^ text[i]) * 16777619;
	}
	count = probe_read_kernel(text + 16, hash & 31, (void *)ctx->args[1]);
	perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &key, sizeof(key));
	return count > 0 ? (int)now : 0;
}

struct node { __u32 next; __u32 value; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, struct node);
	__uint(max_entries, 1024); } nodes SEC(".maps");

NOINLINE __u32 walk(__u32 at, __u32 most)
{
	__u32 sum = 0;

	for (__u32 i = 0; i < 64 && i < most; i++) {
		struct node *node = map_lookup(&nodes, &at);

		if (!node)
			break;
		sum += node->value;
		at = node->next;
	}
	return sum;
}

SEC("kprobe/skep_walk")
int walker(void *ctx)
{
	return walk(get_prandom_u32() & 1023, 50) + walk(7, get_prandom_u32());
}
