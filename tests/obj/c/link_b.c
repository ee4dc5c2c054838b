#include "bpf.h"

struct shared { u32 a; u64 b; };
struct task_struct { int tgid; char comm[16]; } core;

extern struct { __uint(type, HASH); __uint(max_entries, 32); __type(key, u32); __type(value, struct shared); } table SEC(".maps");
struct { __uint(type, ARRAY); __uint(max_entries, 4); __type(key, u32); __type(value, u32); } own_b SEC(".maps");

extern int counter;
extern u32 CONFIG_HZ __kconfig;
const volatile int limit = 11;
int zero_of_b;
static int private_value = 100;
u64 big[3] = { 1, 2, 3 };

static __noinline int local_helper(int x) { private_value += 2; return x - private_value; }
int overridden(int x) { return local_helper(x) + 1000; }

__noinline int helper_b(struct shared *s, int n)
{
	if (!s)
		return 0;
	u32 key = 1;
	struct shared *v = bpf_map_lookup_elem(&table, &key);
	if (v)
		v->b += s->a;
	return local_helper(n) + counter + big[n & 1];
}

SEC("socket") int second(void *ctx)
{
	struct shared s = { .b = 4 };
	u32 key = 3;
	u32 *v = bpf_map_lookup_elem(&own_b, &key);
	if (v)
		*v += 1;
	return helper_b(&s, CONFIG_HZ);
}

SEC("raw_tp/sys_enter") int third(void *ctx)
{
	struct task_struct *current = (void *)bpf_get_current_task();
	int tgid = 0;
	bpf_probe_read_kernel(&tgid, 4, &current->tgid);
	return tgid;
}

LICENSE;
