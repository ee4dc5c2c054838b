/* Trial division. */
#include "bench.h"
u64 kernel(u8 *ctx, u64 len)
{
	u32 count = 0, limit = ctx[0] + 400;
	for (u32 n = 3; n < limit; n += 2) {
		int prime = 1;
		for (u32 d = 3; d * d <= n; d += 2)
			if (n % d == 0) { prime = 0; break; }
		count += prime;
	}
	return count;
}
