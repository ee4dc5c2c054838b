/* Records of a length, kind and number that the caller chooses, driven by BPF_PROG_TEST_RUN. */
#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*perf_output)(void *ctx, void *map, __u64 flags, void *data, __u64 size) = (void *)25;
static long (*output)(void *ring, void *data, __u64 size, __u64 flags) = (void *)130;
static void *(*reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*submit)(void *data, __u64 flags) = (void *)132;
static void (*discard)(void *data, __u64 flags) = (void *)133;
static long (*drain)(void *map, void *callback, void *ctx, __u64 flags) = (void *)209;
static long (*dynptr_read)(void *dst, __u32 len, const void *src, __u32 offset, __u64 flags) = (void *)201;

struct record { __u64 number; __u32 tag; char name[12]; };
struct record *unused_record;
struct bpf_dynptr { __u64 opaque[2]; } __attribute__((aligned(8)));

struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, 31); __uint(max_entries, 4096); } orders SEC(".maps");
struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");

__u64 number = 0, lost = 0, sum = 0, drained = 0;
__u32 count = 1, length = sizeof(struct record), discard_every = 0;
__u8 scratch[1024];

SEC("tc") int typed(void *ctx)
{
	for (__u32 i = 0; i < 512 && i < count; i++) {
		struct record *r = reserve(&ring, sizeof(*r), 0);
		number++;
		if (!r) { lost++; continue; }
		r->number = number;
		r->tag = number & 0xff;
		__builtin_memcpy(r->name, "a record\0\0\0", 12);
		if (discard_every && number % discard_every == 0)
			discard(r, 0);
		else
			submit(r, 0);
	}
	return 0;
}

SEC("tc") int varied(void *ctx)
{
	__u64 n = length;
	if (n > sizeof(scratch))
		return 1;
	number++;
	if (output(&ring, scratch, n, 0))
		lost++;
	return 0;
}

SEC("tc") int perfed(void *ctx)
{
	for (__u32 i = 0; i < 512 && i < count; i++) {
		struct record r = { .number = ++number, .tag = 5, .name = "perf" };
		perf_output(ctx, &perf, 0xffffffffULL, &r, sizeof(r));
	}
	return 0;
}

SEC("tc") int perf_varied(void *ctx)
{
	__u64 n = length;
	if (n > sizeof(scratch))
		return 1;
	for (__u32 i = 0; i < 512 && i < count; i++) {
		__builtin_memcpy(scratch, &number, sizeof(number));
		number++;
		perf_output(ctx, &perf, 0xffffffffULL, scratch, n);
	}
	return 0;
}

static long take(void *dynptr, void *ctx)
{
	struct record r;
	if (dynptr_read(&r, sizeof(r), dynptr, 0, 0) == 0) {
		sum += r.number;
		drained++;
	}
	return 0;
}

SEC("tc") int order(void *ctx)
{
	drain(&orders, take, 0, 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
