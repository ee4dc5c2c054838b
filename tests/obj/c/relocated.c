/* CO-RE relocations of every kind against the kernel's types; answers go to a map, by number. */
#include "bpf.h"

u64 out[64];

struct list_head { struct list_head *next; } core;
struct task_struct {
	int pid, tgid;
	char comm[16];
	struct task_struct *real_parent;
	struct list_head tasks;
	u32 sched_reset_on_fork : 1;
	u64 start_time;
	int nothing_of_this_name;
} core;
struct task_struct___other { int tgid; u64 also_missing; } core;
struct sk_buff {
	u8 cloned : 1, nohdr : 1, pkt_type : 3, ip_summed : 2;
	u32 len;
	u16 protocol;
	unsigned char *data;
} core;
struct iphdr { u8 version : 4, ihl : 4; u8 ttl; u32 saddr; } core;
struct no_such_struct { int a; } core;
struct pid { u32 level; struct { u32 x; } numbers[1]; } core;
struct upid { int nr; } core;
struct file { void *private_data; } core;
union fwd_or_union { int i; } core;
typedef int pid_t;
enum bpf_map_type___mine { BPF_MAP_TYPE_HASH___mine = 77, BPF_MAP_TYPE_NEVER___mine = 78, BPF_MAP_TYPE_RINGBUF = 79 };
enum bpf_func_id { BPF_FUNC_map_lookup_elem = 50 };
struct list_head___match { struct list_head *next, *prev; } core;
struct list_head___mismatch { struct list_head *next; int prev; } core;
struct hlist_node { struct hlist_node *next, **pprev; } core;

#define info(field, kind) __builtin_preserve_field_info(field, kind)
#define type_info(type, kind) __builtin_preserve_type_info(*(typeof(type) *)0, kind)
#define enum_info(type, value, kind) __builtin_preserve_enum_value(*(typeof(type) *)value, kind)
#define type_id(type, kind) __builtin_btf_type_id(*(typeof(type) *)0, kind)

#define task ((struct task_struct *)0)
#define skb ((struct sk_buff *)0)
#define ip ((struct iphdr *)0)

SEC("raw_tp/sys_enter") int infos(void *ctx)
{
	int i = 0;
#define all(field) do { if (info(field, 2)) { \
		out[i++ & 63] = info(field, 0); out[i++ & 63] = info(field, 1); out[i++ & 63] = info(field, 3); \
		out[i++ & 63] = info(field, 4); out[i++ & 63] = info(field, 5); } } while (0)
	all(task->pid);
	out[i++ & 63] = info(task->comm, 0);
	out[i++ & 63] = info(task->comm, 1);
	all(task->sched_reset_on_fork);
	all(skb->cloned);
	all(skb->pkt_type);
	all(skb->ip_summed);
	all(skb->len);
	all(ip->ihl);
	all(ip->version);
	out[i++ & 63] = info(task->nothing_of_this_name, 2);
	out[i++ & 63] = info(((struct no_such_struct *)0)->a, 2);
	out[i++ & 63] = info(((struct task_struct___other *)0)->also_missing, 2);
	out[i++ & 63] = info(((struct task_struct___other *)0)->tgid, 0);
	return 0;
}

SEC("raw_tp/sys_enter") int types(void *ctx)
{
	int i = 0;
	out[i++ & 63] = type_info(struct task_struct, 0);
	out[i++ & 63] = type_info(struct task_struct, 1);
	out[i++ & 63] = type_info(struct no_such_struct, 0);
	out[i++ & 63] = type_info(struct no_such_struct, 1);
	out[i++ & 63] = type_info(pid_t, 0);
	out[i++ & 63] = type_info(pid_t, 1);
	out[i++ & 63] = type_info(enum bpf_func_id, 1);
#if __clang_major__ > 14
	out[i++ & 63] = type_info(struct list_head___match, 2);
	out[i++ & 63] = type_info(struct list_head___mismatch, 2);
	out[i++ & 63] = type_info(struct hlist_node, 2);
	out[i++ & 63] = type_info(struct file, 2);
#endif
	out[i++ & 63] = type_id(struct sk_buff, 0);
	out[i++ & 63] = type_id(struct sk_buff, 1);
	out[i++ & 63] = type_id(struct no_such_struct, 1);
	return 0;
}

SEC("raw_tp/sys_enter") int enums(void *ctx)
{
	int i = 0;
	out[i++ & 63] = enum_info(enum bpf_map_type___mine, BPF_MAP_TYPE_HASH___mine, 0);
	out[i++ & 63] = enum_info(enum bpf_map_type___mine, BPF_MAP_TYPE_HASH___mine, 1);
	out[i++ & 63] = enum_info(enum bpf_map_type___mine, BPF_MAP_TYPE_NEVER___mine, 0);
	if (enum_info(enum bpf_map_type___mine, BPF_MAP_TYPE_NEVER___mine, 0))
		out[i++ & 63] = enum_info(enum bpf_map_type___mine, BPF_MAP_TYPE_NEVER___mine, 1);
	out[i++ & 63] = enum_info(enum bpf_map_type___mine, BPF_MAP_TYPE_RINGBUF, 1);
	out[i++ & 63] = enum_info(enum bpf_func_id, BPF_FUNC_map_lookup_elem, 1);
	return 0;
}

SEC("raw_tp/sys_enter") int reads(void *ctx)
{
	struct task_struct *current = (void *)bpf_get_current_task(), *parent;
	int i = 0;
	bpf_probe_read_kernel(&out[0], 4, &current->pid);
	bpf_probe_read_kernel(&parent, 8, &current->real_parent);
	bpf_probe_read_kernel(&out[1], 4, &parent->tgid);
	bpf_probe_read_kernel(&out[2], 4, &current->comm[3]);
	bpf_probe_read_kernel(&out[3], 8, &current->tasks.next);
	bpf_probe_read_kernel(&out[4], 8, &current[2].start_time);
	if (info(task->nothing_of_this_name, 2))
		bpf_probe_read_kernel(&out[5], 4, &current->nothing_of_this_name);
	return 0;
}

SEC("tp_btf/sched_switch") int direct(u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];
	out[6] = prev->pid;
	out[7] = prev->start_time;
	out[8] = prev->real_parent->tgid;
	return 0;
}

LICENSE;
