/* BPF-to-BPF calls, one of them with memory of the caller's stack. */
#include "bench.h"
static noinline u64 mix(u64 a, u64 b)
{
	a ^= b * 0x9e3779b97f4a7c15ull;
	return a << 13 | a >> 51;
}
static noinline u64 step(u64 state, u64 round)
{
	return mix(mix(state, round), round >> 1) + 1;
}
static noinline void keep(u64 *slots, u64 index, u64 value) { slots[index & 7] += value; }
u64 kernel(u8 *ctx, u64 len)
{
	u64 slots[8] = {0};
	u64 state = ctx[0];
	for (u64 i = 0; i < 200; i++) {
		state = step(state, i);
		keep(slots, i, state);
	}
	for (int i = 0; i < 8; i++)
		state ^= slots[i];
	return state;
}
