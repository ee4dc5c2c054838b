/* An indirect jump through a table, in a function called by the program (Linux 6.19); in assembly, since the
 * compilers that make them are newer. */
#define SEC(name) __attribute__((section(name), used))

__attribute__((naked, noinline, used)) static int choose(void)
{
	asm volatile(".pushsection .jumptables,\"\",@progbits;"
		     "table:"
		     ".quad zero - .text; .quad one - .text; .quad two - .text; .quad one - .text;"
		     ".size table, 32; .global table; .popsection;"
		     "r1 &= 3; r1 <<= 3;"
		     "r0 = table ll;"
		     "r0 += r1;"
		     "r0 = *(u64 *)(r0 + 0);"
		     ".8byte 0x000000000000000d;" /* gotox r0 */
		     "zero: r0 = 10; exit;"
		     "one: r0 = 11; exit;"
		     "two: r0 = 12; exit;");
}

SEC("tc")
int jumps(unsigned int *skb)
{
	unsigned int choice = skb[0];
	int result;
	asm volatile("r1 = %1; call choose; %0 = r0" : "=r"(result) : "r"(choice) : "r0", "r1", "r2", "r3", "r4", "r5");
	return result;
}
char LICENSE[] SEC("license") = "GPL";
