// Programs whose links the tests look at; on hooks that nothing reaches while they run.
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))

typedef unsigned long long u64;

struct bpf_iter_meta;
struct task_struct;
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

SEC("tp_btf/sched_process_hang")
int typed(u64 *ctx)
{
	return 0;
}

SEC("raw_tp/sched_process_hang")
int raw(u64 *ctx)
{
	return 0;
}

SEC("tracepoint/sched/sched_process_hang")
int plain(void *ctx)
{
	return 0;
}

SEC("iter/task")
int tasks(struct bpf_iter__task *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
