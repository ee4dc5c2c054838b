/* Programs whose targets the command line names. */
#define SEC(name) __attribute__((section(name), used))
typedef unsigned long long u64;
u64 hits = 0;

SEC("?socket")
int filter(void *skb)
{
	__sync_fetch_and_add(&hits, 1);
	return 1 << 16;
}

SEC("?lwt_out")
int routed(void *skb)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}

SEC("?sk_reuseport")
int chosen(void *md)
{
	return 1;
}

SEC("?lirc_mode2")
int receiver(void *sample)
{
	return 0;
}

SEC("?freplace/sub")
int instead(int x)
{
	return x;
}
char LICENSE[] SEC("license") = "GPL";
