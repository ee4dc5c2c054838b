/* The smallest program. */
#include "bench.h"
u64 kernel(u8 *ctx, u64 len) { return 7; }
