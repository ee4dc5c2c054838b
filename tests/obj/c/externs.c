/* What only the kernel can fill in: configuration, symbols typed and untyped, kernel functions. */
#include "bpf.h"

enum libbpf_tristate { TRI_NO = 0, TRI_YES = 1, TRI_MODULE = 2 };

extern int LINUX_KERNEL_VERSION __kconfig;
extern u32 CONFIG_HZ __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_NET __kconfig;
extern char CONFIG_CC_VERSION_TEXT[20] __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[40] __kconfig;
extern u64 CONFIG_NO_SUCH_OPTION __kconfig __weak;
extern _Bool LINUX_HAS_BPF_COOKIE __kconfig;

struct rq { u32 nr_running; };
extern const struct rq runqueues_missing __ksym __weak; /* kernels without KALLSYMS_ALL have no typed one */
extern const void init_task_missing __ksym __weak;
extern const void schedule __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern void bpf_no_such_function(int) __ksym __weak;

u64 out[8];

SEC("tp_btf/sched_switch") int prog(void *ctx)
{
	out[0] = LINUX_KERNEL_VERSION + CONFIG_HZ + CONFIG_BPF_SYSCALL + CONFIG_NET + CONFIG_NO_SUCH_OPTION;
	out[1] = CONFIG_DEFAULT_HOSTNAME[1] + CONFIG_CC_VERSION_TEXT[2] + LINUX_HAS_BPF_COOKIE;
	out[2] = (u64)&runqueues_missing;
	out[3] = (u64)&schedule;
	out[4] = (u64)&init_task_missing;
	if (bpf_no_such_function)
		bpf_no_such_function(1);
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	return 0;
}

LICENSE;
