/* Linked with link_b.c: definitions here, declarations there, and the other way round. */
#include "bpf.h"

struct shared { u32 a; u64 b; };
struct only_here { struct shared s; struct only_here *next; };

struct { __uint(type, HASH); __uint(max_entries, 32); __type(key, u32); __type(value, struct shared); } table SEC(".maps");
struct { __uint(type, ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, u64); } own_a SEC(".maps");

int counter = 5;
static int private_value = 1;
extern const volatile int limit;
extern int zero_of_b;
extern int helper_b(struct shared *s, int n);
__weak int overridden(int x) { return x + 1; }
const volatile int option __weak = 3;

struct task_struct { int pid; } core;

static __noinline int local_helper(int x) { private_value++; return x * 3 + private_value; }

SEC("socket") int first(void *ctx)
{
	struct shared s = { .a = counter };
	u32 key = 0;
	struct shared *v = bpf_map_lookup_elem(&table, &key);
	if (v)
		counter += v->b;
	zero_of_b++;
	return helper_b(&s, limit) + overridden(2) + local_helper(3) + option;
}

LICENSE;
