/* One map of most kinds, with types of most kinds. */
#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*tail_call)(void *ctx, void *map, __u32 index) = (void *)12;
static __u32 (*get_cpu)(void) = (void *)8;

enum color { RED, GREEN = 5, BLUE = -1 };
struct point { __s32 x, y; };
struct key { __u32 id; char name[8]; };
union either { __u64 word; struct { __u32 low, high; }; __u8 bytes[8]; };
struct value {
	__u8 flag;
	__s16 small;
	__u64 count;
	struct point at;
	struct point path[3];
	enum color color;
	char text[10];
	__u8 raw[6];
	_Bool yes;
	__u32 bits : 3, more : 7;
	__s32 signed_bits : 5;
	union either either;
	struct { __u16 inner_a; __u16 inner_b; };
	union { __u32 u_word; __u8 u_byte; };
	__u64 grid[2][2];
	void *pointer;
};
struct wider { double real; __int128 wide; float single; };

#define MAP(NAME, TYPE, KEY, VALUE, COUNT, FLAGS) \
	struct { __uint(type, TYPE); __type(key, KEY); __type(value, VALUE); \
		 __uint(max_entries, COUNT); __uint(map_flags, FLAGS); } NAME SEC(".maps")
MAP(table, 1, struct key, struct value, 64, 0);
MAP(wider, 1, __u32, struct wider, 4, 0);
MAP(numbers, 1, __u32, __s64, 1000, 0);
MAP(slots, 2, __u32, __u64, 10, 0);
MAP(per_cpu, 5, __u32, __u32, 10, 0);
MAP(per_cpu_slots, 6, __u32, struct point, 4, 0);
MAP(recent, 9, __u32, __u32, 16, 0);
struct prefix { __u32 prefixlen; __u8 address[4]; };
MAP(routes, 11, struct prefix, __u32, 16, 1);
struct { __uint(type, 22); __type(value, struct point); __uint(max_entries, 3); } fifo SEC(".maps");
struct { __uint(type, 23); __type(value, __u32); __uint(max_entries, 3); } lifo SEC(".maps");
struct { __uint(type, 30); __type(value, __u32); __uint(max_entries, 100); } bloom SEC(".maps");
struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 5000); } ring SEC(".maps");

struct inner { __uint(type, 2); __type(key, __u32); __type(value, __u64); __uint(max_entries, 2); };
struct inner first SEC(".maps");
struct inner second SEC(".maps");
struct {
	__uint(type, 12); __type(key, __u32); __uint(max_entries, 4);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [1] = &first, [3] = &second } };

int target(void *ctx);
int other(void *ctx);
struct {
	__uint(type, 3); __type(key, __u32); __uint(max_entries, 4);
	__array(values, int (void *));
} programs SEC(".maps") = { .values = { [2] = (void *)&target } };

SEC("xdp") int target(void *ctx) { return 42; }
SEC("xdp") int other(void *ctx) { return 43; }
SEC("xdp") int jump(void *ctx) { tail_call(ctx, &programs, 2); return 1; }

volatile const __u32 factor = 3;
volatile __u32 total = 0;
volatile struct point where = { 1, 2 };
volatile __u32 custom SEC(".data.mine") = 8;

SEC("xdp") int use(void *ctx)
{
	__u32 key = 0;
	__u64 *slot = lookup(&slots, &key);
	if (!slot)
		return 0;
	*slot += factor;
	total += factor;
	custom++;
	where.x += 10;
	__u32 *mine = lookup(&per_cpu, &key);
	if (mine)
		*mine += 1;
	return *slot;
}
#ifndef ALL_LOAD /* bpftool cannot pin what is not loaded */
SEC("?xdp") int sleeping(void *ctx) { return 7; }
#endif
char LICENSE[] SEC("license") = "GPL";
