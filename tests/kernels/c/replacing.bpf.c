/* Takes the place of verdict() in another program. */
#define SEC(name) __attribute__((section(name), used))
struct __sk_buff {
  unsigned int len;
};
SEC("freplace/verdict") int other(struct __sk_buff *skb) { return 44; }
char _license[] SEC("license") = "GPL";
