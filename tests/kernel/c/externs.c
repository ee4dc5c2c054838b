/* What only the running kernel can fill in. */
#include <linux/types.h>
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __kconfig SEC(".kconfig")
#define __ksym SEC(".ksyms")
#define __weak __attribute__((weak))
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct task_struct { int tgid; struct task_struct *real_parent; };
struct no_such_struct { int no_such_field; };
#pragma clang attribute pop
static __u64 (*current_task)(void) = (void *)35;
static __u64 (*pid_tgid)(void) = (void *)14;
static long (*read_kernel)(void *dst, __u32 size, const void *src) = (void *)113;

extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern unsigned CONFIG_HZ __kconfig __weak;
extern _Bool CONFIG_NO_SUCH_THING __kconfig __weak;
extern const void bpf_prog_put __ksym;
extern const void no_such_symbol __ksym __weak;
extern const int bpf_prog_active __ksym __weak;
extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;
extern void no_such_kfunc(void) __ksym __weak;

struct { __uint(type, 29); __uint(map_flags, 1); __type(key, int); __type(value, __u64); } storage SEC(".maps");

volatile const __u32 only_pid = 0;
volatile const _Bool use_missing = 0;
__u64 version = 0, address = 0, missing = 1, seen = 0, parent = 0, hz = 0;
__u32 flags = 0;
int field_there = 1, struct_there = 1;

SEC("raw_tp/sys_enter") int untyped(void *ctx)
{
	if (pid_tgid() >> 32 != only_pid)
		return 0;
	version = LINUX_KERNEL_VERSION;
	hz = CONFIG_HZ;
	flags = CONFIG_BPF_SYSCALL | CONFIG_NO_SUCH_THING << 1;
	address = (__u64)&bpf_prog_put;
	missing = (__u64)&no_such_symbol;
	struct_there = __builtin_preserve_type_info(*(struct no_such_struct *)0, 0);
	field_there = __builtin_preserve_field_info(((struct no_such_struct *)0)->no_such_field, 2);
	if (use_missing)
		no_such_kfunc();
	return 0;
}

SEC("tp_btf/sys_enter") int typed(__u64 *ctx)
{
	if (pid_tgid() >> 32 != only_pid)
		return 0;
	struct task_struct *task = bpf_task_from_pid(only_pid);
	if (!task)
		return 0;
	seen = task->tgid;
	parent = task->real_parent->tgid;
	bpf_task_release(task);
	return 0;
}
SEC("iter/task") int tasks(void *ctx) { return 0; }

SEC("?xdp") int refused(void *ctx) { return *(volatile int *)(long)(only_pid + 5); }
SEC("?raw_tp/sys_enter") int unrelocated(void *ctx)
{
	struct no_such_struct s;
	struct no_such_struct *p = (void *)current_task();
	int value = 0;
	read_kernel(&value, 4, &p->no_such_field);
	return value;
}
SEC("?tp_btf/no_such_tracepoint") int nowhere(void *ctx) { return 0; }
SEC("?fentry") int unsaid(void *ctx) { return 0; }
SEC("?fentry/no_such_function") int nothing(void *ctx) { return 0; }
SEC("?freplace/target") int replacing(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
