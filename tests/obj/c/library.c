/* What a compiler leaves to memcpy and its like, with sizes known at run time only. */
#include "bpf.h"

void *memcpy(void *, const void *, u64);
void *memmove(void *, const void *, u64);
void *memset(void *, int, u64);
int memcmp(const void *, const void *, u64);

struct call { u32 to, from, size, byte; s64 result; u8 buffer[128]; };
struct { __uint(type, ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct call); } calls SEC(".maps");

#define PROGRAM(name, expression) SEC("socket") int name(void *ctx) { \
	u32 zero = 0; struct call *c = bpf_map_lookup_elem(&calls, &zero); if (!c) return -1; \
	u32 to = c->to, from = c->from, size = c->size; \
	if (to > 32 || from > 32 || size > 96) return -2; \
	u8 *d = c->buffer + to, *s = c->buffer + from; \
	c->result = expression; return 7; }

PROGRAM(copy, (u8 *)memcpy(d, s, size) - c->buffer)
PROGRAM(move, (u8 *)memmove(d, s, size) - c->buffer)
PROGRAM(fill, (u8 *)memset(d, c->byte, size) - c->buffer)
PROGRAM(compare, memcmp(d, s, size))

SEC("socket") int stack(void *ctx)
{
	u64 one[20], two[20];
	memset(one, 0x5a, sizeof(one));
	memcpy(two, one, sizeof(two));
	two[3] ^= 1;
	return memcmp(one, two, 24) == 0 && memcmp(one, two, 25) != 0;
}

LICENSE;
