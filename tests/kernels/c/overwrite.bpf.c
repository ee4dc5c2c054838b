/* A ring buffer that keeps the newest records (Linux 6.19). */
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
typedef unsigned int u32;
typedef unsigned long long u64;
static long (*output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;

struct { __uint(type, 27); __uint(map_flags, 1 << 19); __uint(max_entries, 4096); } ring SEC(".maps");
u64 number = 0;

SEC("tc")
int write(void *ctx)
{
	u64 data[4] = { number, number, number, number };
	number++;
	output(&ring, data, sizeof(data), 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
