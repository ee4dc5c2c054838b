// A bit of everything that the commands show.
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

static void *(*bpf_map_lookup_elem)(void *, const void *) = (void *)1;
static long (*bpf_map_update_elem)(void *, const void *, const void *, u64) = (void *)2;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;

enum colour { RED, GREEN = 7, BLUE = -1 };

struct inner {
	u16 a;
	char c;
	_Bool flag;
};

struct key {
	u32 id;
	u8 bytes[4];
};

struct value {
	u64 count;
	int delta;
	enum colour colour;
	char name[8];
	char letters[3];
	struct inner pair[2];
	unsigned low : 3;
	unsigned high : 9;
	union {
		u32 word;
		u8 part[4];
	};
	void *where;
	u64 : 0;
	__int128 wide;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct key);
	__type(value, struct value);
} typed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u64);
} each_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");

const char bpf_metadata_author[] SEC(".rodata") = "someone";
const int bpf_metadata_version SEC(".rodata") = 3;
u32 counter = 5;
u64 sum;

static __attribute__((noinline)) int sub(u32 x)
{
	u32 zero = 0;
	u64 *v = bpf_map_lookup_elem(&each_cpu, &zero);
	if (v)
		*v += x;
	return x * 3;
}

SEC("xdp")
int xdp_with_a_long_name(struct xdp_md *ctx)
{
	struct key k = { .id = 1 };
	struct value *v = bpf_map_lookup_elem(&typed, &k);
	if (v)
		v->count++;
	counter++;
	sum += bpf_ktime_get_ns();
	return sub(counter) ? XDP_PASS : XDP_DROP;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	return 1;
}

SEC("socket")
int sock(struct __sk_buff *skb)
{
	return skb->len;
}

char LICENSE[] SEC("license") = "GPL";
