/* Calls of a function outside the program. */
#include "bench.h"
u64 kernel(u8 *ctx, u64 len)
{
	u64 sum = 0;
	for (u64 i = 0; i < 200; i++)
		sum += helper(i, sum, ctx[0], len, 5);
	return sum;
}
