/* Calls a kernel over and over; a native helper; the clock. */
#include <stdint.h>
#include <time.h>
typedef uint64_t (*kernel_t)(void *, uint64_t, void *, uint64_t, void *);
uint64_t helper(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) { return (a ^ b >> 3) + c + d * e; }
uint64_t drive(kernel_t kernel, void *ctx, uint64_t len, void *state, uint64_t turns, double *nanoseconds)
{
	struct timespec start, end;
	uint64_t sum = 0;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint64_t i = 0; i < turns; i++)
		sum += kernel(ctx, len, ctx, len, state);
	clock_gettime(CLOCK_MONOTONIC, &end);
	*nanoseconds = (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
	return sum;
}
