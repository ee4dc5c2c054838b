/* Kernel functions and variables, declared rightly and wrongly; of several flavours the one that fits is there. */
#define SEC(name) __attribute__((section(name), used))
#define __ksym __attribute__((section(".ksyms")))
#define __weak __attribute__((weak))
struct task_struct { int pid; };
struct rq { int nr_running; };

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __weak __ksym;
extern struct task_struct *bpf_task_acquire___short(void) __weak __ksym;
extern struct task_struct *bpf_task_acquire___long(struct task_struct *p, int more) __weak __ksym;
extern struct task_struct *bpf_task_acquire___other(int p) __weak __ksym;
extern struct task_struct *bpf_task_acquire___same(struct task_struct *task) __weak __ksym;
extern void bpf_task_release(struct task_struct *p, int more) __ksym;
extern const struct rq runqueues __ksym;
extern const int runqueues___wrong __ksym __weak;
extern const int bpf_prog_active __ksym;
extern const struct rq __per_cpu_offset __ksym;
int there = 0;

SEC("tc")
int which(void *ctx)
{
	there = !!bpf_task_acquire | !!bpf_task_acquire___short << 1 | !!bpf_task_acquire___long << 2
		| !!bpf_task_acquire___other << 3 | !!bpf_task_acquire___same << 4 | (&runqueues != 0) << 5;
	return 0;
}

SEC("?tp_btf/task_newtask")
int wrong(unsigned long long *ctx)
{
	bpf_task_release((void *)ctx[0], 1);
	return 0;
}

struct bpf_cpumask;
extern struct bpf_cpumask *bpf_cpumask_create(void) __ksym;
extern void bpf_cpumask_release(struct bpf_cpumask *mask) __ksym;
SEC("?tp_btf/task_newtask")
int declared(unsigned long long *ctx)
{
	struct bpf_cpumask *mask = bpf_cpumask_create();
	if (mask)
		bpf_cpumask_release(mask);
	return 0;
}

SEC("?tc")
int typed(void *ctx)
{
	return *(int *)&__per_cpu_offset;
}
char LICENSE[] SEC("license") = "GPL";
