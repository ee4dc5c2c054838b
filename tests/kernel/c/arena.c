/* Global variables in an arena (clang 19). */
#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __ulong(name, val) enum { ___bpf_concat_##name = val } name
#ifndef PAGES
#define PAGES 16
#endif
#define __arena __attribute__((address_space(1)))

struct {
#ifdef NO_ARENA
	__uint(type, 27);
#else
	__uint(type, 33);
#endif
	__uint(map_flags, 1 << 10);
	__uint(max_entries, PAGES);
#ifdef AT
	__ulong(map_extra, AT);
#endif
} arena SEC(".maps");

__u64 __arena count = 40;
__u64 __arena sums[600] = { 1, 2, 3 };
__u64 plain = 5;

SEC("syscall")
int bump(void *ctx)
{
	count += plain;
	sums[599] = count;
	return sums[2];
}
char LICENSE[] SEC("license") = "GPL";
