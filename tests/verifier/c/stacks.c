/* A profiler that walks an interpreter's frames: everything unrolled, as tracing tools did before loops.
 * With FRAMES=600 about 80,000 instructions. */
#include "common.h"

#ifndef FRAMES
#define FRAMES 600
#endif
#define NAMES 64

struct layout { __s64 current, frame, back, code, file, name, line, text; };
struct symbol { char file[NAMES], name[NAMES]; };
struct sample {
	__u32 pid, tid, depth, complete;
	__u64 time, thread;
	char comm[16];
	__s32 frames[FRAMES];
};

struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, struct layout);
	__uint(max_entries, 64); } layouts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, struct symbol); __type(value, __s32);
	__uint(max_entries, 16384); } symbols SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __type(key, __u32); __type(value, struct sample);
	__uint(max_entries, 1); } scratch SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __type(key, __u32); __type(value, __s32);
	__uint(max_entries, 1); } numbers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } events SEC(".maps");

INLINE _Bool frame_of(void *frame, const struct layout *layout, struct symbol *symbol, void **back)
{
	void *code = NULL, *file = NULL, *name = NULL;

	*back = NULL;
	if (probe_read_user(back, sizeof(*back), frame + layout->back))
		return 0;
	if (probe_read_user(&code, sizeof(code), frame + layout->code))
		return 0;
	if (!code)
		return 0;
	probe_read_user(&file, sizeof(file), code + layout->file);
	probe_read_user(&name, sizeof(name), code + layout->name);
	if (probe_read_user_str(symbol->file, sizeof(symbol->file), file + layout->text) < 0)
		return 0;
	if (probe_read_user_str(symbol->name, sizeof(symbol->name), name + layout->text) < 0)
		return 0;
	return 1;
}

INLINE __s32 number(const struct symbol *symbol)
{
	__s32 *found = map_lookup(&symbols, symbol), fresh;
	__u32 zero = 0;
	__s32 *counter;

	if (found)
		return *found;
	counter = map_lookup(&numbers, &zero);
	if (!counter)
		return -1;
	fresh = (*counter)++ * 64 + get_smp_processor_id();
	if (map_update(&symbols, symbol, &fresh, 0))
		return -1;
	return fresh;
}

SEC("raw_tracepoint/sys_enter")
int profile(void *ctx)
{
	__u64 both = get_current_pid_tgid();
	__u32 pid = both >> 32, zero = 0;
	struct layout *layout = map_lookup(&layouts, &pid);
	struct sample *sample;
	struct symbol symbol = {};
	void *frame = NULL, *back, *thread;

	if (!layout)
		return 0;
	sample = map_lookup(&scratch, &zero);
	if (!sample)
		return 0;
	sample->pid = pid;
	sample->tid = (__u32)both;
	sample->time = ktime_get_ns();
	sample->depth = 0;
	sample->complete = 0;
	get_current_comm(sample->comm, sizeof(sample->comm));
	thread = (void *)layout->current;
	probe_read_user(&frame, sizeof(frame), thread + layout->frame);
#ifdef LOOP
#pragma nounroll
#else
#pragma clang loop unroll(full)
#endif
	for (int i = 0; i < FRAMES; i++) {
		if (frame && frame_of(frame, layout, &symbol, &back)) {
			sample->frames[i] = number(&symbol);
			sample->depth = i + 1;
			frame = back;
		}
	}
	sample->complete = frame == NULL;
	perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, sample, sizeof(*sample));
	return 0;
}
