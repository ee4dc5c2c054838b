/* Integer logarithm of 64 numbers by shifting. */
#include "bench.h"
u64 kernel(u8 *ctx, u64 len)
{
	u64 sum = 0;
	for (u64 i = 0; i + 8 <= len && i < 512; i += 8) {
		u64 v = *(u64 *)(ctx + i);
		u64 log = 0;
		if (v >> 32) { v >>= 32; log += 32; }
		if (v >> 16) { v >>= 16; log += 16; }
		if (v >> 8) { v >>= 8; log += 8; }
		while (v > 1) { v >>= 1; log++; }
		sum += log;
	}
	return sum;
}
