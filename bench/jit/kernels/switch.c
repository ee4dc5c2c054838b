/* A small bytecode interpreter: one switch for each byte of the context. */
#include "bench.h"
u64 kernel(u8 *ctx, u64 len)
{
	u64 acc = 1, other = 2;
	for (u64 i = 0; i < len; i++) {
		switch (ctx[i] & 31) {
		case 0: acc += 1; break;
		case 1: acc -= other; break;
		case 2: acc ^= 0x5555; break;
		case 3: acc <<= 1; break;
		case 4: acc >>= 1; break;
		case 5: other = acc; break;
		case 6: acc *= 3; break;
		case 7: acc |= 16; break;
		case 8: acc &= ~7ull; break;
		case 9: other += acc; break;
		case 10: acc = acc * 31 + i; break;
		case 11: other ^= i; break;
		case 12: acc = -acc; break;
		case 13: other >>= 3; break;
		case 14: acc += other >> 2; break;
		case 15: acc ^= acc >> 7; break;
		case 16: other += 1000; break;
		case 17: acc -= 77; break;
		case 18: acc ^= other; break;
		case 19: other *= 5; break;
		default: break;
		}
	}
	return acc ^ other;
}
