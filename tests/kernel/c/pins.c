#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#ifndef ENTRIES
#define ENTRIES 8
#endif
static long (*update)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
struct { __uint(type, 1); __uint(max_entries, ENTRIES); __type(key, __u32); __type(value, __u64);
	 __uint(pinning, 1); } shared SEC(".maps");
SEC(SECTION) int count(void *ctx)
{
	__u32 key = KEY;
	__u64 value = KEY;
	update(&shared, &key, &value, 0);
	return 1;
}
char LICENSE[] SEC("license") = "GPL";
