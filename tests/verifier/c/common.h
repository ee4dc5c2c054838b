/* Declarations that the programs here share: helpers by number, map syntax, network headers. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/icmpv6.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define swap16(x) __builtin_bswap16(x)
#define swap32(x) __builtin_bswap32(x)
#define NULL ((void *)0)

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static __u64 (*ktime_get_ns)(void) = (void *)5;
static __u32 (*get_prandom_u32)(void) = (void *)7;
static __u32 (*get_smp_processor_id)(void) = (void *)8;
static long (*skb_store_bytes)(void *skb, __u32 off, const void *from, __u32 len, __u64 flags) = (void *)9;
static long (*l3_csum_replace)(void *skb, __u32 off, __u64 from, __u64 to, __u64 size) = (void *)10;
static long (*l4_csum_replace)(void *skb, __u32 off, __u64 from, __u64 to, __u64 flags) = (void *)11;
static long (*tail_call)(void *ctx, void *map, __u32 index) = (void *)12;
static __u64 (*get_current_pid_tgid)(void) = (void *)14;
static long (*get_current_comm)(void *buf, __u32 size) = (void *)16;
static long (*redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static long (*perf_event_output)(void *ctx, void *map, __u64 flags, void *data, __u64 size) = (void *)25;
static long (*skb_load_bytes)(const void *skb, __u32 off, void *to, __u32 len) = (void *)26;
static __s64 (*csum_diff)(void *from, __u32 fs, void *to, __u32 ts, __u32 seed) = (void *)28;
static __u64 (*get_current_task)(void) = (void *)35;
static long (*skb_pull_data)(void *skb, __u32 len) = (void *)39;
static long (*fib_lookup)(void *ctx, void *params, int len, __u32 flags) = (void *)69;
static long (*probe_read_user)(void *dst, __u32 size, const void *from) = (void *)112;
static long (*probe_read_kernel)(void *dst, __u32 size, const void *from) = (void *)113;
static long (*probe_read_user_str)(void *dst, __u32 size, const void *from) = (void *)114;
static void *(*ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void (*ringbuf_discard)(void *data, __u64 flags) = (void *)133;

char LICENSE[] SEC("license") = "GPL";
