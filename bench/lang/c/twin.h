/* What the twins need of the kernel's and libbpf's headers, so that they build anywhere. */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define MAP(name, kind, K, V, n, f)                                                                           \
    struct { int (*type)[kind]; K *key; V *value; int (*max_entries)[n]; int (*map_flags)[f]; } name SEC(".maps")
#define ntohs __builtin_bswap16
#define ntohl __builtin_bswap32
#define BPF_NOEXIST 1

struct xdp_md { __u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct __sk_buff { __u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority; };
struct ethhdr { __u8 dest[6], source[6]; __be16 proto; } __attribute__((packed));
struct iphdr {
    __u8 ihl : 4, version : 4, tos;
    __be16 tot_len, id, frag_off;
    __u8 ttl, protocol;
    __u16 check;
    __be32 saddr, daddr;
};
struct ipv6hdr { __u8 first[4]; __be16 payload_len; __u8 nexthdr, hop_limit, saddr[16], daddr[16]; };
struct tcphdr { __be16 source, dest; __be32 seq, ack_seq; __u16 res1 : 4, doff : 4, fin : 1, syn : 1, rst : 1, psh : 1, ack : 1, urg : 1, ece : 1, cwr : 1; __be16 window; __u16 check; __be16 urg_ptr; };
struct icmphdr { __u8 type, code; __u16 checksum; __u32 rest; };
struct bpf_spin_lock { __u32 val; };

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_tail_call)(void *ctx, void *map, __u32 index) = (void *)12;
static long (*bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;

char _license[] SEC("license") = "GPL";
