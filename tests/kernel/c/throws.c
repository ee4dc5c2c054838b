/* Exceptions (Linux 6.7), and a kernel function that no kernel has. */
#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
#define __ksym __attribute__((section(".ksyms")))
#define __weak __attribute__((weak))
#define CALLBACK(name) __attribute__((btf_decl_tag("exception_callback:" #name)))

extern void bpf_throw(__u64 cookie) __ksym;
extern int bpf_no_such_kfunc(int x) __weak __ksym;
extern int bpf_nor_this_one(int x) __weak __ksym;

__attribute__((noinline)) int caught(__u64 cookie)
{
	return cookie + 1;
}

static __attribute__((noinline)) int deeper(struct __sk_buff *skb)
{
	bpf_throw(41);
	return 0;
}

SEC("tc") CALLBACK(caught)
int throws(struct __sk_buff *skb)
{
	return deeper(skb) + 7;
}

SEC("?tc") CALLBACK(nowhere)
int lost(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

SEC("?tc")
int guarded(struct __sk_buff *skb)
{
	if (bpf_nor_this_one)
		return bpf_nor_this_one(1);
	return 5;
}

SEC("?tc")
int unguarded(struct __sk_buff *skb)
{
	return bpf_nor_this_one(1) + bpf_no_such_kfunc(2);
}
char LICENSE[] SEC("license") = "GPL";
