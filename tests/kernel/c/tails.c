/* Records that end in a flexible array. */
#include <linux/types.h>
#include <linux/bpf.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
static long (*output)(void *ring, void *data, __u64 size, __u64 flags) = (void *)130;

struct message { __u32 number; __u16 kind; char text[]; };
struct point { __u32 x; __u16 y; };
struct points { __u8 count; struct point all[]; };
struct raw { __u64 id; __u8 data[]; };
struct message *unused_message;
struct points *unused_points;
struct raw *unused_raw;

struct { __uint(type, 27); __uint(max_entries, 1 << 16); } ring SEC(".maps");
char buffer[64] = "\7\0\0\0\1\0hello, world and all that";

SEC("tc")
int write(struct __sk_buff *skb)
{
	output(&ring, buffer, skb->len & 63, 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
