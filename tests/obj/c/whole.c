/* Maps of all declarations, global data of all sections, subprograms, tail calls, callbacks. */
#include "bpf.h"

struct key { u32 pid; u16 port; u16 pad; };
struct value { u64 count; char name[16]; };

struct { __uint(type, HASH); __uint(max_entries, 64); __type(key, struct key); __type(value, struct value); } counts SEC(".maps");
struct { __uint(type, HASH); __uint(max_entries, 7); __uint(key_size, 8); __uint(value_size, 12); __uint(map_flags, 1); } sized SEC(".maps");
struct { __uint(type, RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BLOOM_FILTER); __uint(max_entries, 100); __type(value, u64); __uint(map_extra, 3); } bloom SEC(".maps");
struct inner { __uint(type, ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u32); } one SEC(".maps"), two SEC(".maps");
struct { __uint(type, ARRAY_OF_MAPS); __uint(max_entries, 3); __type(key, u32); __array(values, struct inner); } nested SEC(".maps") = { .values = { [0] = &one, [2] = &two } };

SEC("socket") int tail(void *ctx) { return 17; }
struct { __uint(type, PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __array(values, int(void *)); } jumps SEC(".maps") = { .values = { [3] = (void *)&tail } };

int zero_a, zero_b[5];
static volatile int hidden_zero;
int start = 0x1234;
long long wide = -5;
const volatile int limit = 9;
const volatile char text[] = "read only text";
int custom SEC(".data.custom") = 99;
const volatile int fixed SEC(".rodata.fixed") = 77;
#ifdef OWN_BSS /* libbpf 1.1 does not know it */
int own_zero SEC(".bss.own");
#else
int own_zero;
#endif

static __noinline int deep(int a, struct key *k)
{
	struct value *v = bpf_map_lookup_elem(&counts, k);
	if (v)
		v->count += a;
	zero_b[2]++;
	return a * 2 + limit;
}

__noinline int global_sub(int a)
{
	struct key k = { .pid = a };
	return deep(a + start, &k) + custom;
}

static __noinline int each(u32 i, int *sum)
{
	*sum += i + fixed;
	return i > 10;
}

SEC("socket") int main_prog(void *ctx)
{
	int sum = 0;
	bpf_loop(20, each, &sum, 0);
	hidden_zero++;
	zero_a = sum + text[sum & 7];
	own_zero += wide;
	return global_sub(sum) + global_sub(2);
}

SEC("socket") int jumper(void *ctx)
{
	u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&nested, &zero);
	if (inner) {
		u32 *v = bpf_map_lookup_elem(inner, &zero);
		if (v)
			*v += 1;
	}
	bpf_tail_call(ctx, &jumps, 3);
	return deep(1, &(struct key){ .pid = 3 });
}

#ifdef OPTIONAL /* bpftool 7.1 fails to pin it */
SEC("?socket") int optional(void *ctx)
{
	u64 key = 1;
	return bpf_map_lookup_elem(&sized, &key) != 0;
}
#endif

LICENSE;
