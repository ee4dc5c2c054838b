/* The Internet checksum of the whole context. */
#include "bench.h"
u64 kernel(u8 *ctx, u64 len)
{
	u64 sum = 0;
	u64 i;
	for (i = 0; i + 1 < len; i += 2)
		sum += *(u16 *)(ctx + i);
	if (i < len)
		sum += ctx[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}
