/* A classifier whose verdict another program replaces. */
#define SEC(name) __attribute__((section(name), used))
struct __sk_buff {
  unsigned int len;
};
__attribute__((noinline)) int verdict(struct __sk_buff *skb) {
  volatile int answer = 3;
  return answer;
}
SEC("tc") int entry(struct __sk_buff *skb) { return verdict(skb); }
char _license[] SEC("license") = "GPL";
