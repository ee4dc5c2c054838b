/* Reads a USDT probe's arguments the way usdt.bpf.h does: by the specs that the loader fills in. */
#define SEC(name) __attribute__((section(name), used))
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
struct arg {
  u64 value;
  u32 kind;
  short reg;
  char is_signed, shift;
};
struct spec {
  struct arg args[12];
  u64 cookie;
  short count;
};
struct {
  int (*type)[2];
  int (*max_entries)[16];
  int *key;
  struct spec *value;
} __bpf_usdt_specs SEC(".maps");
static void *(*lookup)(void *, const void *) = (void *)1;
static u64 (*attach_cookie)(void *) = (void *)174;
static long (*probe_read_kernel)(void *, u32, const void *) = (void *)113;
s64 seen[3] = {};
u64 cookie = 0;
u32 hits = 0;

static __attribute__((always_inline)) void take(void *ctx, struct spec *spec, int n) {
  struct arg *arg = &spec->args[n];
  u64 value = arg->value;
  if ((arg->kind & 0xff) == 1) probe_read_kernel(&value, 8, ctx + (arg->reg & 0x1ff));
  value <<= arg->shift & 63;
  seen[n] = arg->is_signed ? (s64)value >> (arg->shift & 63) : (s64)(value >> (arg->shift & 63));
}

SEC("usdt") int probe(void *ctx) {
  int id = attach_cookie(ctx);
  struct spec *spec = lookup(&__bpf_usdt_specs, &id);
  if (!spec) return 0;
  take(ctx, spec, 0);
  take(ctx, spec, 1);
  take(ctx, spec, 2);
  cookie = spec->cookie;
  __sync_fetch_and_add(&hits, 1);
  return 0;
}
char _license[] SEC("license") = "GPL";
