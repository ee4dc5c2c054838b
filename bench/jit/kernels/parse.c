/* Ethernet, IPv4 and TCP headers taken apart; the flow hashed as the kernel's jhash does. */
#include "bench.h"
static inline u32 rol(u32 x, int n) { return x << n | x >> (32 - n); }
#define FINAL(a, b, c) do { c ^= b; c -= rol(b, 14); a ^= c; a -= rol(c, 11); b ^= a; b -= rol(a, 25); \
	c ^= b; c -= rol(b, 16); a ^= c; a -= rol(c, 4); b ^= a; b -= rol(a, 14); c ^= b; c -= rol(b, 24); } while (0)
static inline u16 swap16(u16 v) { return __builtin_bswap16(v); }
u64 kernel(u8 *ctx, u64 len)
{
	u64 hash = 0;
	for (u64 at = 0; at + 64 <= len; at += 64) {
		u8 *p = ctx + at;
		if (swap16(*(u16 *)(p + 12)) != 0x0800)
			continue;
		u32 ihl = (p[14] & 15) * 4;
		if (p[14] >> 4 != 4 || ihl < 20 || at + 14 + ihl + 20 > len)
			continue;
		if (swap16(*(u16 *)(p + 20)) & 0x1fff)
			continue;
		if (p[23] != 6 && p[23] != 17)
			continue;
		u32 a = 0xdeadbeef + *(u32 *)(p + 26);
		u32 b = 0xdeadbeef + *(u32 *)(p + 30);
		u32 c = 0xdeadbeef + *(u32 *)(p + 14 + ihl);
		FINAL(a, b, c);
		hash = hash * 31 + c;
	}
	return hash;
}
