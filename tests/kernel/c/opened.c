/* An opensnoop-like tool: a tracepoint, a ring buffer, globals. */
#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
static void *(*reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*submit)(void *data, __u64 flags) = (void *)132;
static __u64 (*pid_tgid)(void) = (void *)14;
static long (*get_comm)(void *buf, __u32 size) = (void *)16;
static long (*user_str)(void *dst, __u32 size, const void *src) = (void *)114;

struct event { __u32 pid; char comm[16]; char path[44]; };
struct event *unused_event;

struct { __uint(type, 27); __uint(max_entries, 1 << 16); } events SEC(".maps");

const volatile __u32 only_pid = 0;
__u64 counter = 0;
__u64 lost = 0;
__u32 limit = 7;

struct enter { __u64 common; long nr; __u64 args[6]; };

SEC("tracepoint/syscalls/sys_enter_openat")
int opened(struct enter *ctx)
{
	__u32 pid = pid_tgid() >> 32;
	if (pid != only_pid)
		return 0;
	counter++;
	struct event *e = reserve(&events, sizeof(*e), 0);
	if (!e) { __sync_fetch_and_add(&lost, 1); return 0; }
	e->pid = pid;
	get_comm(e->comm, sizeof(e->comm));
	user_str(e->path, sizeof(e->path), (void *)ctx->args[1]);
	submit(e, 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
