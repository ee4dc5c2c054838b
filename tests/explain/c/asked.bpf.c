/* Mistakes that people ask about, each with an answer of its own (tests/explain/test_asked.py). */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

struct __sk_buff { u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end; };
struct task_struct { int pid; int prio; } __attribute__((preserve_access_index));
struct bpf_spin_lock { u32 val; };
struct locked { struct bpf_spin_lock lock; u64 count; };
struct named { char name[64]; };

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_skb_load_bytes)(void *skb, u32 off, void *to, u32 len) = (void *)26;
static u64 (*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
static long (*bpf_ringbuf_output)(void *ringbuf, void *data, u64 size, u64 flags) = (void *)130;
static void *(*bpf_ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static long (*bpf_snprintf)(char *out, u32 size, const char *format, u64 *data, u32 len) = (void *)165;
static long (*bpf_loop)(u32 count, void *callback, void *data, u64 flags) = (void *)181;

#define MAP(name, kind, K, V, n) \
    struct { int (*type)[kind]; K *key; V *value; int (*max_entries)[n]; } name SEC(".maps")
MAP(locks, 2, u32, struct locked, 1);
MAP(names, 2, u32, struct named, 1);
struct { int (*type)[27]; int (*max_entries)[4096]; } events SEC(".maps");

SEC("kprobe/x") int task_followed(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();
    return task->pid == 1;
}

SEC("kprobe/x") int mask_too_wide(u64 *ctx)
{
    char small[100];
    bpf_probe_read_kernel(small, ctx[13] & 0xff, (void *)ctx[14]);
    return small[0];
}

SEC("tc") int negative_index(struct __sk_buff *skb)
{
    u32 zero = 0;
    int index = (int)skb->mark;
    struct named *found = bpf_map_lookup_elem(&names, &zero);
    if (found && index < 64)
        found->name[index] = 1;
    return 0;
}

SEC("tc") int call_under_lock(struct __sk_buff *skb)
{
    u32 zero = 0;
    struct locked *found = bpf_map_lookup_elem(&locks, &zero);
    if (!found)
        return 0;
    bpf_spin_lock(&found->lock);
    found->count = bpf_ktime_get_ns();
    bpf_spin_unlock(&found->lock);
    return 0;
}

SEC("socket") int packet_in_a_socket_filter(struct __sk_buff *skb)
{
    u8 *data = (void *)(long)skb->data;
    return *data;
}

SEC("tc") int format_on_the_stack(struct __sk_buff *skb)
{
    char format[8] = "%d", out[16];
    u64 values[1] = {1};
    return bpf_snprintf(out, 16, format, values, 8);
}

SEC("tc") int record_of_any_size(struct __sk_buff *skb)
{
    void *record = bpf_ringbuf_reserve(&events, skb->len, 0);
    if (record)
        bpf_ringbuf_submit(record, 0);
    return 0;
}

SEC("tp_btf/sched_switch") int kernel_written(u64 *ctx)
{
    struct task_struct *next = (void *)ctx[2];
    next->prio = 1;
    return 0;
}

static long two(u32 index, void *data)
{
    return 2;
}

SEC("tc") int callback_returns_two(struct __sk_buff *skb)
{
    bpf_loop(10, two, 0, 0);
    return 0;
}

SEC("cgroup_skb/ingress") int length_returned(struct __sk_buff *skb)
{
    return skb->len;
}

SEC("xdp") int helper_of_another_type(u32 *ctx)
{
    char four[4];
    return bpf_skb_load_bytes(ctx, 0, four, 4) < 0;
}

__attribute__((noinline)) int first_byte(struct __sk_buff *skb, char *text)
{
    return *text;
}

SEC("tc") int context_optimised_away(struct __sk_buff *skb)
{
    char one = 1;
    return first_byte(skb, &one);
}

SEC("tc") int variable_header(struct __sk_buff *skb)
{
    u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    if (data + 34 > end)
        return 0;
    u8 *next = data + 14 + (data[14] & 15) * 4;
    if (next > end)
        return 0;
    return next[3];
}

char LICENSE[] SEC("license") = "GPL";

struct xdp_md { u32 data, data_end; };
SEC("tc") int context_of_another_type(struct xdp_md *xdp)
{
    u8 *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
    return data + 1 > end ? 0 : data[0];
}

SEC("xdp") int packet_where_another_type_has_it(struct __sk_buff *skb)
{
    u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    return data + 1 > end ? 0 : data[0];
}

SEC("kprobe/x") int length_beyond_the_stack(u64 *ctx)
{
    u64 small = ctx[0];
    return bpf_ringbuf_output(&events, &small, sizeof(small) + 1, 0);
}

SEC("tc") int never_set(struct __sk_buff *skb)
{
    u64 mark;
    asm volatile("call 5\n%0 = r3" : "=r"(mark) : : "r0", "r1", "r2", "r3", "r4", "r5");
    return mark;
}

const volatile u8 table[16] = {1, 2, 3};
SEC("tc") int past_a_global(struct __sk_buff *skb)
{
    return *(volatile u8 *)((u8 *)table + 16);
}

SEC("tc") int packet_written(struct __sk_buff *skb)
{
    u8 *data = (void *)(long)skb->data;
    data[6] = 1;
    return 0;
}

/* what is advised is put in place of MOST, and must do */
#ifndef MOST
#define MOST (~0u)
#endif
struct listed { u64 first; u32 list[30]; };
MAP(lists, 2, u32, struct listed, 1);
SEC("tc") int index_without_bound(struct __sk_buff *skb)
{
    u32 zero = 0, index = skb->mark;
    struct listed *found = bpf_map_lookup_elem(&lists, &zero);
    if (!found || index > MOST)
        return 0;
    return found->list[index];
}

SEC("tc") int submitted_twice(struct __sk_buff *skb)
{
    u64 *record = bpf_ringbuf_reserve(&events, 8, 0);
    if (!record)
        return 0;
    *record = skb->len;
    bpf_ringbuf_submit(record, 0);
    bpf_ringbuf_submit(record, 0);
    return 0;
}

struct bpf_iter__task { void *meta; struct task_struct *task; };
SEC("iter/task") int task_of_an_iterator(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    return task->pid == 1;
}

SEC("tc") int record_not_submitted(struct __sk_buff *skb)
{
    u64 *record = bpf_ringbuf_reserve(&events, 8, 0);
    if (record)
        *record = skb->len;
    return 0;
}

SEC("tc") int number_for_a_map(struct __sk_buff *skb)
{
    u32 zero = 0;
    return bpf_map_lookup_elem((void *)77, &zero) ? 1 : 0;
}
