/* USDT notes of every form of argument, and a probe whose semaphore guards it. Built and called by test_usdt.py. */
unsigned short gate_semaphore __attribute__((section(".probes"), visibility("default")));

/* As SystemTap lays it out: address, base, semaphore; provider, name, arguments. */
#define NOTE(name, semaphore, args, ...)                                                                      \
  __asm__ volatile("990: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f,994f-993f,3\n" \
                   "991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b\n.8byte 0\n.8byte " semaphore "\n"   \
                   ".asciz \"app\"\n.asciz \"" name "\"\n.asciz \"" args "\"\n994: .balign 4\n.popsection\n" ::__VA_ARGS__)

struct row {
  long wide;
  int narrow;
  short table[8];
};

__attribute__((noinline)) void numbers(int n, unsigned char byte) {
  long wide = n * 100000L;
  NOTE("numbers", "0", "-4@%0 -8@%1 1@%2 -4@$-9 8@$4294967296 -2@%w0", "r"(n), "r"(wide), "r"(byte));
}

__attribute__((noinline)) void memory(struct row *row, long index, const char *text) {
  NOTE("memory", "0", "-8@0(%0) -4@8(%0) -2@12(%0,%1,2) 8@%2", "r"(row), "r"(index), "r"(text));
}

/* One probe, two places, its argument in different registers. */
__attribute__((noinline)) void either(int n) {
  if (n & 1)
    NOTE("either", "0", "-4@%0", "D"(n));
  else
    NOTE("either", "0", "-4@%0", "S"(n * 10));
}

__attribute__((noinline)) int gate(int n) {
  if (!gate_semaphore) return 0;
  NOTE("gate", "gate_semaphore", "-4@%0", "r"(n));
  return 1;
}

void fire(int n) {
  struct row row = {-1234567890123L, -77, {0, 1, 2, -3, 4, 5, 6, 7}};
  numbers(n, 200);
  static const char text[] = "a text of the process";
  (void)*(const volatile char *)text; /* a page that nobody has touched is not there for a program */
  memory(&row, 3, text);
  either(n);
  either(n + 1);
}
