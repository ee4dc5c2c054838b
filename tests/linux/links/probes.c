/* What the tests of uprobes and USDT attach to: functions, versions of one, static ones, probes with notes. */
int skep_word;

__attribute__((noinline)) int twice(int n) { return 2 * n; }
__attribute__((noinline)) int target_a(int n) { return n + 1; }
__attribute__((noinline)) int target_b(int n) { return n + 2; }
static __attribute__((noinline)) int hidden(int n) { return n * 3 + skep_word; }

__attribute__((noinline)) int versioned_1(int n) { return n + 100; }
__attribute__((noinline)) int versioned_2(int n) { return n + 200; }
__asm__(".symver versioned_1, versioned@SKEP_1");
__asm__(".symver versioned_2, versioned@@SKEP_2");

unsigned short skep_gate_semaphore __attribute__((section(".probes")));

/* A note as SystemTap lays it out: address, base, semaphore; provider, name, arguments. */
#define NOTE(name, semaphore, args, ...)                                                                      \
  __asm__ volatile("990: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f,994f-993f,3\n" \
                   "991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b\n.8byte 0\n.8byte " semaphore "\n"   \
                   ".asciz \"skep\"\n.asciz \"" name "\"\n.asciz \"" args "\"\n994: .balign 4\n.popsection\n" ::__VA_ARGS__)

int fire(int n) {
  long wide = n * 1000L;
  NOTE("open", "0", "-4@%0 8@%1 -4@$7", "r"(n), "r"(wide));
  if (skep_gate_semaphore) NOTE("gate", "skep_gate_semaphore", "-4@%0", "r"(n));
  return hidden(n);
}
