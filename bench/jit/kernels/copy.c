/* The first half of the context copied over the second, byte by byte. */
#include "bench.h"
u64 kernel(u8 *ctx, u64 len)
{
	u64 half = len / 2;
	for (u64 i = 0; i < half; i++)
		ctx[half + i] = ctx[i];
	return half;
}
