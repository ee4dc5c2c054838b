/* A string literal: clang puts it into .rodata.str1.1, which the program here does not even read. */
#define SEC(name) __attribute__((section(name), used))
static long (*print)(const char *text, unsigned int size, ...) = (void *)6;

SEC("tc")
int plain(void *ctx)
{
	return 7;
}

SEC("tc")
int printing(void *ctx)
{
	const char *text = "unlikely";
	if (*(volatile int *)ctx == 12345678)
		print(text, 9);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
