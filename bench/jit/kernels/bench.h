/* Shared by the kernels. Each defines
 *     uint64_t kernel(uint8_t *ctx, uint64_t len)
 * and is compiled for BPF and for the host from the same text.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define noinline __attribute__((noinline))
#ifdef __bpf__
static u64 (*const helper)(u64, u64, u64, u64, u64) = (void *)1;
#define NOUNROLL
#else
extern u64 helper(u64, u64, u64, u64, u64);
#define NOUNROLL
#endif
