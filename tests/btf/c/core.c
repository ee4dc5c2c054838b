/* CO-RE relocations of every kind that clang writes. */
#define CORE __attribute__((preserve_access_index))
struct task { int pid; struct { long start; } CORE t; unsigned bits : 5; unsigned more : 11; char comm[16]; } CORE;
struct other { int a; };
enum state { RUN = 1, STOP = 7 };
typedef struct task task_t;
static int (*probe_read)(void *, int, const void *) = (void *)4;
__attribute__((section("raw_tp"))) int first(struct task *p) {
	int v = 0;
	probe_read(&v, 4, &p->pid);
	v += p->t.start + p->comm[3];
	v += __builtin_preserve_field_info(p->bits, 0) + __builtin_preserve_field_info(p->bits, 1);
	v += __builtin_preserve_field_info(p->more, 2) + __builtin_preserve_field_info(p->more, 3);
	v += __builtin_preserve_field_info(p->more, 4) + __builtin_preserve_field_info(p->more, 5);
	return v;
}
__attribute__((section("raw_tp"))) int second(void *ctx) {
	int v = __builtin_btf_type_id(*(struct other *)0, 0) + __builtin_btf_type_id(*(task_t *)0, 1);
	v += __builtin_preserve_type_info(*(struct other *)0, 0) + __builtin_preserve_type_info(*(struct other *)0, 1);
	v += __builtin_preserve_type_info(*(struct other *)0, 2);
	v += __builtin_preserve_enum_value(*(enum state *)STOP, 0);
	v += __builtin_preserve_enum_value(*(enum state *)STOP, 1);
	return v;
}
