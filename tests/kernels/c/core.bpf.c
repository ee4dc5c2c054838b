/* Built once, relocated in every kernel: reads task_struct through CO-RE, counts, fills a ring or an array. */
typedef unsigned int u32;
typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))

struct task_struct {
  int pid, tgid;
  struct task_struct *real_parent;
  char comm[16];
} CORE;

static void *(*get_current_task)(void) = (void *)35;
static long (*probe_read_kernel)(void *, u32, const void *) = (void *)113;

volatile const u32 only = 0;
u64 hits = 0;
u32 tgid = 0, parent = 0, comm_size = 0;
char comm[16] = "";

SEC("raw_tp/sys_enter") int count(void *ctx) {
  struct task_struct *task = get_current_task(), *up = 0;
  u32 id = 0;
  probe_read_kernel(&id, sizeof id, __builtin_preserve_access_index(&task->tgid));
  if (id != only) return 0;
  tgid = id;
  probe_read_kernel(&up, sizeof up, __builtin_preserve_access_index(&task->real_parent));
  probe_read_kernel((void *)&parent, sizeof parent, __builtin_preserve_access_index(&up->tgid));
  probe_read_kernel((void *)comm, sizeof comm, __builtin_preserve_access_index(&task->comm));
  comm_size = __builtin_preserve_field_info(task->comm, 1);
  __sync_fetch_and_add(&hits, 1);
  return 0;
}
char _license[] SEC("license") = "GPL";
