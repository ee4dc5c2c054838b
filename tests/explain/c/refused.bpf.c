/* One program for each mistake that people make most; every one must be refused by a kernel. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))

struct __sk_buff { u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end; };
struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct bpf_spin_lock { u32 val; };
struct value { u64 count; char name[16]; };
struct locked { struct bpf_spin_lock lock; u64 count; };

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static long (*bpf_get_current_comm)(void *buf, u32 size) = (void *)16;
static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static void *(*bpf_ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void *(*bpf_sk_lookup_tcp)(void *ctx, void *tuple, u32 size, u64 netns, u64 flags) = (void *)84;
static long (*bpf_sk_release)(void *sk) = (void *)86;
static long (*bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*bpf_skb_pull_data)(struct __sk_buff *skb, u32 len) = (void *)39;
static long (*bpf_xdp_adjust_head)(struct xdp_md *xdp, int delta) = (void *)44;
static long (*bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;

#define MAP(name, kind, K, V, n) \
    struct { int (*type)[kind]; K *key; V *value; int (*max_entries)[n]; } name SEC(".maps")
MAP(counts, 1, u32, struct value, 64);
MAP(slots, 2, u32, struct value, 4);
MAP(locks, 2, u32, struct locked, 1);
struct { int (*type)[27]; int (*max_entries)[4096]; } events SEC(".maps");

char _license[] SEC("license") = "GPL";

/* 1 a packet is read without comparing with data_end */
SEC("xdp") int no_bounds(struct xdp_md *ctx)
{
    u8 *data = (void *)(long)ctx->data;
    return data[12] == 8 ? 1 : 2;
}

/* 2 the check is too short for what is read */
SEC("xdp") int short_bounds(struct xdp_md *ctx)
{
    u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 14 > end)
        return 2;
    return *(u32 *)(data + 26) == 0x0100007f ? 1 : 2;
}

/* 3 the packet pointer is used after a helper moved the packet */
SEC("tc") int stale_packet(struct __sk_buff *ctx)
{
    u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 34 > end)
        return 0;
    bpf_skb_pull_data(ctx, 64);
    return data[23] == 6;
}

/* 4 a pointer is lost: arithmetic that keeps no type */
SEC("xdp") int lost_pointer(struct xdp_md *ctx)
{
    u64 data = ctx->data;
    u8 *end = (void *)(long)ctx->data_end;
    u8 *p = (u8 *)(data * 2);
    if (p + 4 > end)
        return 2;
    return *p;
}

/* 5 a map's value is used without testing the lookup */
SEC("xdp") int no_null_check(struct xdp_md *ctx)
{
    u32 key = 1;
    struct value *v = bpf_map_lookup_elem(&counts, &key);
    v->count++;
    return 2;
}

/* 6 an index nobody bounded */
SEC("xdp") int unbounded_index(struct xdp_md *ctx)
{
    u32 key = 1;
    struct value *v = bpf_map_lookup_elem(&slots, &key);
    if (!v)
        return 2;
    v->name[bpf_get_prandom_u32()] = 1;
    return 2;
}

/* 7 an index that is bounded too late by one */
SEC("xdp") int bound_off_by_one(struct xdp_md *ctx)
{
    u32 key = 1, i = bpf_get_prandom_u32();
    struct value *v = bpf_map_lookup_elem(&slots, &key);
    if (!v || i > 16)
        return 2;
    v->name[i] = 1;
    return 2;
}

/* 8 a size that may be negative or too big for the buffer */
SEC("kprobe/x") int variable_size(void *ctx)
{
    char buf[64];
    int size = bpf_get_prandom_u32();
    bpf_probe_read_kernel(buf, size, ctx);
    return buf[0];
}

/* 9 a buffer on the stack that was never written */
SEC("cgroup/skb") int uninitialised_stack(void *ctx)
{
    u64 key[2];
    u32 *p = (u32 *)key;
    p[0] = 1;
    asm volatile("" : "=m"(p[2]));
    return bpf_map_lookup_elem(&counts, &p[2]) ? 1 : 0;
}

/* 10 a register that was never set */
SEC("xdp") __attribute__((naked)) int uninitialised_register(void)
{
    asm volatile("r0 = r6; exit;");
}

/* 11 a number where a pointer belongs */
SEC("xdp") int wrong_argument(struct xdp_md *ctx)
{
    return bpf_map_lookup_elem(&counts, (void *)(long)ctx->rx_queue_index) ? 1 : 2;
}

/* 12 the stack is left */
SEC("xdp") int past_stack(struct xdp_md *ctx)
{
    u64 buf[4] = {};
    u64 i = bpf_get_prandom_u32() & 127;
    asm volatile("" : "+r"(i));
    buf[i] = 7;
    asm volatile("" :: "r"(&buf[0]) : "memory");
    return buf[0];
}

/* 13 the context is written where it may not be, or read askew */
SEC("xdp") int context_write(struct xdp_md *ctx)
{
    ctx->ingress_ifindex = 3;
    return 2;
}

SEC("tc") __attribute__((naked)) int context_beyond(void)
{
    asm volatile("r0 = *(u32 *)(r1 + 4000); exit;");
}

/* 14 the helper is not for this program type */
SEC("xdp") int helper_not_allowed(struct xdp_md *ctx)
{
    char comm[16] = {};
    bpf_skb_pull_data((void *)ctx, 3);
    return comm[0];
}

/* 15 a loop that does not end */
SEC("xdp") int endless(struct xdp_md *ctx)
{
    u64 n = 0;
    while (bpf_get_prandom_u32() != 5)
        n += bpf_ktime_get_ns();
    return n;
}

/* 16 too much work for the verifier */
SEC("xdp") int too_complex(struct xdp_md *ctx)
{
    u64 sum = 0;
#pragma clang loop unroll(disable)
    for (u32 i = 0; i < 2000000; i++)
        sum += bpf_ktime_get_ns();
    return sum;
}

/* 17 a reference that is never given back */
SEC("tc") int leaked_socket(struct __sk_buff *ctx)
{
    u32 tuple[3] = {};
    void *sk = bpf_sk_lookup_tcp(ctx, tuple, sizeof tuple, -1, 0);
    return sk ? 1 : 0;
}

SEC("tp/x/y") int leaked_record(void *ctx)
{
    u64 *e = bpf_ringbuf_reserve(&events, 16, 0);
    if (!e)
        return 0;
    *e = 1;
    if (bpf_get_prandom_u32() & 1)
        return 0;
    bpf_ringbuf_submit(e, 0);
    return 0;
}

/* 18 used after it was given back */
SEC("tp/x/y") int used_after_submit(void *ctx)
{
    u64 *e = bpf_ringbuf_reserve(&events, 16, 0);
    if (!e)
        return 0;
    bpf_ringbuf_submit(e, 0);
    return *e;
}

/* 19 a lock that is still held */
SEC("tc") int lock_held(struct __sk_buff *ctx)
{
    u32 key = 0;
    struct locked *v = bpf_map_lookup_elem(&locks, &key);
    if (!v)
        return 0;
    bpf_spin_lock(&v->lock);
    v->count++;
    return 0;
}

/* 20 an unaligned access in a map value (strict architectures) or a misaligned stack access */
SEC("xdp") __attribute__((naked)) int misaligned_stack(void)
{
    asm volatile("r1 = 0; *(u64 *)(r10 - 8) = r1; r0 = *(u64 *)(r10 - 7); exit;");
}

SEC("xdp") int oversized_value(struct xdp_md *ctx)
{
    u32 key = 1;
    struct value *v = bpf_map_lookup_elem(&counts, &key);
    if (!v)
        return 2;
    return ((u64 *)v)[3];
}

/* 21 a kernel address leaves the program */
SEC("tc") __attribute__((naked)) int wrong_return(void)
{
    asm volatile("r0 = r10; exit;");
}

/* 22 a return value out of range */
SEC("cgroup/skb") __attribute__((naked)) int return_range(void)
{
    asm volatile("r0 = 17; exit;");
}

/* 23 the stack of all frames together */
NOINLINE int big_frame(u64 *in)
{
    volatile char buf[300];
    buf[*in & 15] = 1;
    return buf[0];
}

SEC("xdp") int deep_stack(struct xdp_md *ctx)
{
    volatile char buf[300];
    u64 v = ctx->rx_queue_index;
    buf[v & 31] = 3;
    return big_frame(&v) + buf[1];
}

/* 24 two ways meet with different pointers */
SEC("xdp") __attribute__((naked)) int mixed_pointers(void)
{
    asm volatile(
        "r6 = r1; call 7; if r0 == 0 goto 1f; r6 = r10; r6 += -64; 1: r0 = *(u32 *)(r6 + 0); exit;");
}

/* 25 division of pointers, comparison of pointers */
SEC("xdp") __attribute__((naked)) int pointer_arithmetic(void)
{
    asm volatile("r1 *= 8; r0 = 0; exit;");
}

/* 26 code that is never reached; jump out of the program */
SEC("xdp") __attribute__((naked)) int unreachable(void)
{
    asm volatile("r0 = 0; exit; r0 = 1; exit;");
}

/* 27 a lookup with a key on the heap of another type: write to read-only data */
static const volatile u32 limits[4] = {1, 2, 3, 4};
SEC("xdp") int write_rodata(struct xdp_md *ctx)
{
    *(volatile u32 *)&limits[ctx->rx_queue_index & 3] = 5;
    return 2;
}

/* 28 a kernel pointer is followed without a helper */
SEC("kprobe/x") int raw_kernel_pointer(u64 *ctx)
{
    u64 *p = (void *)ctx[14];
    return *p;
}
