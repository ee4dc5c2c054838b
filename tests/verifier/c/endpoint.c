/* The datapath of one container: parse, connection tracking with NAT, policy, service lookup with backends,
 * checksum repair, events; IPv4 and IPv6, TCP, UDP and ICMP; tail calls between the stages. About what the
 * programs of a container network plugin do for each packet. */
#include "common.h"

#ifndef BACKENDS
#define BACKENDS 16
#endif

enum { DIR_EGRESS, DIR_INGRESS, DIR_SERVICE };
enum { CT_NEW, CT_ESTABLISHED, CT_REPLY, CT_RELATED };
enum { DROP_SHORT = -130, DROP_PROTO, DROP_POLICY, DROP_CT, DROP_SERVICE, DROP_CSUM, DROP_FRAG, DROP_TAIL };
enum { CALL_IPV4 = 1, CALL_IPV6, CALL_POLICY4, CALL_POLICY6 };

struct addr { union { struct { __u32 w[4]; }; struct { __u64 d[2]; }; __u8 b[16]; }; };

struct tuple4 { __be32 daddr, saddr; __be16 dport, sport; __u8 proto, flags; __u16 pad; };
struct tuple6 { struct addr daddr, saddr; __be16 dport, sport; __u8 proto, flags; __u16 pad; };

struct ct_entry {
	__u64 rx_packets, rx_bytes, tx_packets, tx_bytes;
	__u32 lifetime;
	__u16 rx_closing : 1, tx_closing : 1, nat46 : 1, lb_loopback : 1, seen_non_syn : 1, node_port : 1, rest : 10;
	__u16 rev_nat;
	__u16 backend_low;
	__u8 tx_flags, rx_flags;
	__u32 src_label, last_tx, last_rx;
};

struct service_key4 { __be32 address; __be16 dport; __u16 slot; __u8 proto, scope; __u16 pad; };
struct service_key6 { struct addr address; __be16 dport; __u16 slot; __u8 proto, scope; __u16 pad; };
struct service { __u32 backend; __u16 count, rev_nat; __u8 flags, flags2; __u16 affinity; };
struct backend4 { __be32 address; __be16 port; __u8 proto, state; };
struct backend6 { struct addr address; __be16 port; __u8 proto, state; };
struct nat4 { __be32 address; __be16 port; __u16 pad; };
struct nat6 { struct addr address; __be16 port; __u16 pad; };
struct policy_key { __u32 label; __be16 dport; __u8 proto, egress; };
struct policy { __be16 proxy_port; __u8 deny, auth; __u64 packets, bytes; };
struct identity { __u32 label, tunnel; __u16 flags, pad; };
struct lpm4 { __u32 bits; __be32 address; };
struct lpm6 { __u32 bits; struct addr address; };
struct event {
	__u8 type, reason; __u16 line; __u32 hash, length, src_label, dst_label, ifindex; struct addr saddr, daddr;
	__be16 sport, dport; __u32 pad; __u64 time;
};
struct metric_key { __s8 reason; __u8 direction; __u16 line; __u32 pad; };
struct metric { __u64 count, bytes; };

struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __type(key, struct tuple4); __type(value, struct ct_entry);
	__uint(max_entries, 65536); } ct4 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __type(key, struct tuple6); __type(value, struct ct_entry);
	__uint(max_entries, 65536); } ct6 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, struct service_key4); __type(value, struct service);
	__uint(max_entries, 4096); } services4 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, struct service_key6); __type(value, struct service);
	__uint(max_entries, 4096); } services6 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, struct backend4);
	__uint(max_entries, 4096); } backends4 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, struct backend6);
	__uint(max_entries, 4096); } backends6 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u16); __type(value, struct nat4);
	__uint(max_entries, 4096); } reverse4 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u16); __type(value, struct nat6);
	__uint(max_entries, 4096); } reverse6 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, struct policy_key); __type(value, struct policy);
	__uint(max_entries, 16384); } policies SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __type(key, struct lpm4); __type(value, struct identity);
	__uint(max_entries, 4096); __uint(map_flags, BPF_F_NO_PREALLOC); } identities4 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __type(key, struct lpm6); __type(value, struct identity);
	__uint(max_entries, 4096); __uint(map_flags, BPF_F_NO_PREALLOC); } identities6 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __type(key, struct metric_key); __type(value, struct metric);
	__uint(max_entries, 1024); } metrics SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(key_size, 4); __uint(value_size, 4);
	__uint(max_entries, 8); } calls SEC(".maps");

const volatile __u32 own_label = 1234;
const volatile __u32 own_ifindex = 7;
const volatile __u8 with_events = 1, with_policy = 1, with_services = 1, with_metrics = 1;

INLINE void count(int reason, __u8 direction, __u32 bytes, __u16 line)
{
	struct metric_key key = { .reason = (__s8)reason, .direction = direction, .line = line };
	struct metric *found, fresh = { 1, bytes };

	if (!with_metrics)
		return;
	found = map_lookup(&metrics, &key);
	if (found) {
		found->count++;
		found->bytes += bytes;
	} else {
		map_update(&metrics, &key, &fresh, 0);
	}
}

INLINE void tell(struct __sk_buff *skb, int reason, __u32 src, __u32 dst, const struct addr *saddr,
		 const struct addr *daddr, __be16 sport, __be16 dport, __u16 line)
{
	struct event event = {};

	if (!with_events)
		return;
	event.type = reason < 0 ? 1 : 2;
	event.reason = (__u8)-reason;
	event.line = line;
	event.hash = skb->hash;
	event.length = skb->len;
	event.src_label = src;
	event.dst_label = dst;
	event.ifindex = skb->ifindex;
	if (saddr)
		event.saddr = *saddr;
	if (daddr)
		event.daddr = *daddr;
	event.sport = sport;
	event.dport = dport;
	event.time = ktime_get_ns();
	perf_event_output(skb, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
}

INLINE int drop(struct __sk_buff *skb, int reason, __u8 direction, __u16 line)
{
	tell(skb, reason, own_label, 0, NULL, NULL, 0, 0, line);
	count(reason, direction, skb->len, line);
	return TC_ACT_SHOT;
}

INLINE _Bool ports(struct __sk_buff *skb, int off, __be16 *sport, __be16 *dport)
{
	struct { __be16 sport, dport; } both;

	if (skb_load_bytes(skb, off, &both, sizeof(both)) < 0)
		return 0;
	*sport = both.sport;
	*dport = both.dport;
	return 1;
}

INLINE __u32 lifetime(__u8 proto, __u8 flags, _Bool closing)
{
	if (proto == IPPROTO_TCP) {
		if (closing)
			return 10;
		return flags & 2 ? 60 : 21600;
	}
	return 60;
}

INLINE int follow(struct ct_entry *entry, __u8 proto, __u8 flags, __u8 direction, __u32 bytes)
{
	__u32 now = (__u32)(ktime_get_ns() / 1000000000);
	_Bool closing = proto == IPPROTO_TCP && (flags & 5);

	if (direction == DIR_INGRESS) {
		entry->rx_packets++;
		entry->rx_bytes += bytes;
		entry->rx_flags |= flags;
		entry->last_rx = now;
		if (closing)
			entry->rx_closing = 1;
	} else {
		entry->tx_packets++;
		entry->tx_bytes += bytes;
		entry->tx_flags |= flags;
		entry->last_tx = now;
		if (closing)
			entry->tx_closing = 1;
	}
	if (!(flags & 2))
		entry->seen_non_syn = 1;
	entry->lifetime = now + lifetime(proto, flags, entry->rx_closing && entry->tx_closing);
	return CT_ESTABLISHED;
}

#define TRACK(N)                                                                                             \
INLINE int track##N(struct __sk_buff *skb, struct tuple##N *tuple, int l4, __u8 direction,                \
		    struct ct_entry **out)                                                                    \
{                                                                                                            \
	struct ct_entry *entry, fresh = {};                                                                  \
	struct tuple##N back;                                                                                \
	__u8 flags = 0;                                                                                      \
	if (tuple->proto == IPPROTO_TCP) {                                                                   \
		if (skb_load_bytes(skb, l4 + 13, &flags, 1) < 0)                                             \
			return DROP_CT;                                                                      \
		if (!ports(skb, l4, &tuple->sport, &tuple->dport))                                           \
			return DROP_CT;                                                                      \
	} else if (tuple->proto == IPPROTO_UDP) {                                                            \
		if (!ports(skb, l4, &tuple->sport, &tuple->dport))                                           \
			return DROP_CT;                                                                      \
	} else if (tuple->proto == IPPROTO_ICMP || tuple->proto == IPPROTO_ICMPV6) {                         \
		struct { __u8 type, code; __u16 sum; __be16 id; } icmp;                                      \
		if (skb_load_bytes(skb, l4, &icmp, sizeof(icmp)) < 0)                                        \
			return DROP_CT;                                                                      \
		switch (icmp.type) {                                                                         \
		case 3: case 11: case 12: tuple->flags |= 4; break;                                          \
		case 0: case 129: tuple->sport = icmp.id; break;                                             \
		case 8: case 128: tuple->dport = icmp.id; break;                                             \
		default: break;                                                                              \
		}                                                                                            \
	} else {                                                                                             \
		return DROP_PROTO;                                                                           \
	}                                                                                                    \
	back = *tuple;                                                                                       \
	back.daddr = tuple->saddr;                                                                           \
	back.saddr = tuple->daddr;                                                                           \
	back.dport = tuple->sport;                                                                           \
	back.sport = tuple->dport;                                                                           \
	back.flags ^= 1;                                                                                     \
	entry = map_lookup(&ct##N, &back);                                                                   \
	if (entry) {                                                                                         \
		follow(entry, tuple->proto, flags, direction, skb->len);                                     \
		*out = entry;                                                                                \
		return tuple->flags & 4 ? CT_RELATED : CT_REPLY;                                             \
	}                                                                                                    \
	entry = map_lookup(&ct##N, tuple);                                                                   \
	if (entry) {                                                                                         \
		if ((entry->rx_closing || entry->tx_closing) && (flags & 2)) {                               \
			entry->rx_closing = entry->tx_closing = 0;                                           \
			entry->seen_non_syn = 0;                                                             \
		}                                                                                            \
		follow(entry, tuple->proto, flags, direction, skb->len);                                     \
		*out = entry;                                                                                \
		return CT_ESTABLISHED;                                                                       \
	}                                                                                                    \
	fresh.src_label = own_label;                                                                         \
	follow(&fresh, tuple->proto, flags, direction, skb->len);                                            \
	if (map_update(&ct##N, tuple, &fresh, 0) < 0)                                                        \
		return DROP_CT;                                                                              \
	*out = NULL;                                                                                         \
	return CT_NEW;                                                                                       \
}
TRACK(4)
TRACK(6)

INLINE __u32 pick(struct __sk_buff *skb, __u16 count)
{
	__u32 hash = skb->hash;

	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	return count ? 1 + hash % count : 0;
}

INLINE int serve4(struct __sk_buff *skb, struct tuple4 *tuple, int l3, int l4, int csum)
{
	struct service_key4 key = { .address = tuple->daddr, .dport = tuple->dport, .proto = tuple->proto };
	struct service *service = map_lookup(&services4, &key);
	struct backend4 *backend;
	__be32 old = tuple->daddr;
	__be16 old_port = tuple->dport;

	if (!service)
		return 0;
	if (!service->count)
		return DROP_SERVICE;
	for (int turn = 0; turn < BACKENDS; turn++) {
		key.slot = pick(skb, service->count) + turn;
		service = map_lookup(&services4, &key);
		if (!service)
			return DROP_SERVICE;
		backend = map_lookup(&backends4, &service->backend);
		if (!backend)
			continue;
		if (backend->state)
			continue;
		tuple->daddr = backend->address;
		tuple->dport = backend->port;
		if (skb_store_bytes(skb, l3 + 16, &tuple->daddr, 4, 0) < 0)
			return DROP_SHORT;
		if (l3_csum_replace(skb, l3 + 10, old, tuple->daddr, 4) < 0)
			return DROP_CSUM;
		if (csum && l4_csum_replace(skb, l4 + csum, old, tuple->daddr, BPF_F_PSEUDO_HDR | 4) < 0)
			return DROP_CSUM;
		if (backend->port != old_port && (tuple->proto == IPPROTO_TCP || tuple->proto == IPPROTO_UDP)) {
			if (l4_csum_replace(skb, l4 + csum, old_port, tuple->dport, 2) < 0)
				return DROP_CSUM;
			if (skb_store_bytes(skb, l4 + 2, &tuple->dport, 2, 0) < 0)
				return DROP_SHORT;
		}
		return service->rev_nat;
	}
	return DROP_SERVICE;
}

INLINE int serve6(struct __sk_buff *skb, struct tuple6 *tuple, int l3, int l4, int csum)
{
	struct service_key6 key = { .address = tuple->daddr, .dport = tuple->dport, .proto = tuple->proto };
	struct service *service = map_lookup(&services6, &key);
	struct backend6 *backend;
	struct addr old = tuple->daddr;
	__be16 old_port = tuple->dport;
	__s64 sum;

	if (!service)
		return 0;
	if (!service->count)
		return DROP_SERVICE;
	for (int turn = 0; turn < BACKENDS; turn++) {
		key.slot = pick(skb, service->count) + turn;
		service = map_lookup(&services6, &key);
		if (!service)
			return DROP_SERVICE;
		backend = map_lookup(&backends6, &service->backend);
		if (!backend || backend->state)
			continue;
		tuple->daddr = backend->address;
		tuple->dport = backend->port;
		if (skb_store_bytes(skb, l3 + 24, &tuple->daddr, 16, 0) < 0)
			return DROP_SHORT;
		sum = csum_diff(&old, 16, &tuple->daddr, 16, 0);
		if (csum && l4_csum_replace(skb, l4 + csum, 0, sum, BPF_F_PSEUDO_HDR) < 0)
			return DROP_CSUM;
		if (backend->port != old_port && (tuple->proto == IPPROTO_TCP || tuple->proto == IPPROTO_UDP)) {
			if (l4_csum_replace(skb, l4 + csum, old_port, tuple->dport, 2) < 0)
				return DROP_CSUM;
			if (skb_store_bytes(skb, l4 + 2, &tuple->dport, 2, 0) < 0)
				return DROP_SHORT;
		}
		return service->rev_nat;
	}
	return DROP_SERVICE;
}

INLINE int allowed(__u32 label, __be16 dport, __u8 proto, __u8 egress, __u32 bytes, __be16 *proxy)
{
	struct policy_key key = { .label = label, .dport = dport, .proto = proto, .egress = egress };
	struct policy *found;

	if (!with_policy)
		return 0;
	for (int round = 0; round < 6; round++) {
		switch (round) {
		case 1: key.label = 0; break;
		case 2: key.label = label; key.dport = 0; break;
		case 3: key.label = 0; break;
		case 4: key.label = label; key.proto = 0; break;
		case 5: key.label = 0; break;
		default: break;
		}
		found = map_lookup(&policies, &key);
		if (!found)
			continue;
		__sync_fetch_and_add(&found->packets, 1);
		__sync_fetch_and_add(&found->bytes, bytes);
		if (found->deny)
			return DROP_POLICY;
		*proxy = found->proxy_port;
		return 0;
	}
	return DROP_POLICY;
}

INLINE int csum_offset(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP: return 16;
	case IPPROTO_UDP: return 6;
	case IPPROTO_ICMPV6: return 2;
	default: return 0;
	}
}

INLINE int undo4(struct __sk_buff *skb, struct tuple4 *tuple, __u16 index, int l3, int l4, int csum)
{
	struct nat4 *nat = map_lookup(&reverse4, &index);
	__be32 old = tuple->saddr;

	if (!nat)
		return 0;
	if (nat->port && (tuple->proto == IPPROTO_TCP || tuple->proto == IPPROTO_UDP)) {
		__be16 port = nat->port;

		if (l4_csum_replace(skb, l4 + csum, tuple->sport, port, 2) < 0)
			return DROP_CSUM;
		if (skb_store_bytes(skb, l4, &port, 2, 0) < 0)
			return DROP_SHORT;
	}
	if (skb_store_bytes(skb, l3 + 12, &nat->address, 4, 0) < 0)
		return DROP_SHORT;
	if (l3_csum_replace(skb, l3 + 10, old, nat->address, 4) < 0)
		return DROP_CSUM;
	if (csum && l4_csum_replace(skb, l4 + csum, old, nat->address, BPF_F_PSEUDO_HDR | 4) < 0)
		return DROP_CSUM;
	return 0;
}

INLINE int undo6(struct __sk_buff *skb, struct tuple6 *tuple, __u16 index, int l3, int l4, int csum)
{
	struct nat6 *nat = map_lookup(&reverse6, &index);
	struct addr old = tuple->saddr, fresh;
	__s64 sum;

	if (!nat)
		return 0;
	fresh = nat->address;
	if (nat->port && (tuple->proto == IPPROTO_TCP || tuple->proto == IPPROTO_UDP)) {
		__be16 port = nat->port;

		if (l4_csum_replace(skb, l4 + csum, tuple->sport, port, 2) < 0)
			return DROP_CSUM;
		if (skb_store_bytes(skb, l4, &port, 2, 0) < 0)
			return DROP_SHORT;
	}
	if (skb_store_bytes(skb, l3 + 8, &fresh, 16, 0) < 0)
		return DROP_SHORT;
	sum = csum_diff(&old, 16, &fresh, 16, 0);
	if (csum && l4_csum_replace(skb, l4 + csum, 0, sum, BPF_F_PSEUDO_HDR) < 0)
		return DROP_CSUM;
	return 0;
}

INLINE int path4(struct __sk_buff *skb, __u8 direction)
{
	struct tuple4 tuple = {};
	struct ct_entry *entry = NULL;
	struct identity *identity;
	struct lpm4 lpm;
	struct addr saddr = {}, daddr = {};
	__u32 label = 2;
	__be16 proxy = 0;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	int state, verdict, l4, csum, back = 0;

	if ((void *)(ip + 1) > end) {
		if (skb_pull_data(skb, ETH_HLEN + sizeof(*ip)) < 0)
			return drop(skb, DROP_SHORT, direction, __LINE__);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		ip = data + ETH_HLEN;
		if ((void *)(ip + 1) > end)
			return drop(skb, DROP_SHORT, direction, __LINE__);
	}
	if (ip->ihl < 5)
		return drop(skb, DROP_SHORT, direction, __LINE__);
	if (ip->frag_off & swap16(0x3fff))
		return drop(skb, DROP_FRAG, direction, __LINE__);
	tuple.saddr = ip->saddr;
	tuple.daddr = ip->daddr;
	tuple.proto = ip->protocol;
	saddr.w[0] = ip->saddr;
	daddr.w[0] = ip->daddr;
	l4 = ETH_HLEN + ip->ihl * 4;
	csum = csum_offset(tuple.proto);
	lpm.bits = 32;
	lpm.address = direction == DIR_EGRESS ? ip->daddr : ip->saddr;
	if (with_services && direction == DIR_EGRESS) {
		if (tuple.proto == IPPROTO_TCP || tuple.proto == IPPROTO_UDP)
			if (!ports(skb, l4, &tuple.sport, &tuple.dport))
				return drop(skb, DROP_SHORT, direction, __LINE__);
		back = serve4(skb, &tuple, ETH_HLEN, l4, csum);
		if (back < 0)
			return drop(skb, back, direction, __LINE__);
		lpm.address = tuple.daddr;
	}
	identity = map_lookup(&identities4, &lpm);
	if (identity)
		label = identity->label;
	state = track4(skb, &tuple, l4, direction, &entry);
	if (state < 0)
		return drop(skb, state, direction, __LINE__);
	if (state == CT_NEW || state == CT_ESTABLISHED) {
		verdict = allowed(label, tuple.dport, tuple.proto, direction == DIR_EGRESS, skb->len, &proxy);
		if (verdict < 0) {
			if (state == CT_ESTABLISHED)
				map_delete(&ct4, &tuple);
			tell(skb, verdict, own_label, label, &saddr, &daddr, tuple.sport, tuple.dport, __LINE__);
			count(verdict, direction, skb->len, __LINE__);
			return TC_ACT_SHOT;
		}
	}
	if (entry && back > 0)
		entry->rev_nat = back;
	if (entry && state == CT_REPLY && entry->rev_nat) {
		verdict = undo4(skb, &tuple, entry->rev_nat, ETH_HLEN, l4, csum);
		if (verdict < 0)
			return drop(skb, verdict, direction, __LINE__);
	}
	tell(skb, state, own_label, label, &saddr, &daddr, tuple.sport, tuple.dport, __LINE__);
	count(0, direction, skb->len, __LINE__);
	if (proxy) {
		skb->mark = 0x200 | (__u32)proxy << 16;
		return TC_ACT_OK;
	}
	if (identity && identity->tunnel) {
		skb->cb[0] = identity->tunnel;
		skb->cb[1] = label;
		tail_call(skb, &calls, CALL_POLICY4);
		return drop(skb, DROP_TAIL, direction, __LINE__);
	}
	skb->mark = label << 16 | 0xf00;
	return direction == DIR_EGRESS ? redirect(own_ifindex, 0) : TC_ACT_OK;
}

INLINE int extensions(struct __sk_buff *skb, __u8 *proto)
{
	int off = ETH_HLEN + sizeof(struct ipv6hdr);
	struct { __u8 next, length; } header;

#pragma unroll
	for (int i = 0; i < 10; i++) {
		switch (*proto) {
		case IPPROTO_NONE:
			return DROP_PROTO;
		case IPPROTO_FRAGMENT:
			return DROP_FRAG;
		case IPPROTO_ROUTING: case IPPROTO_AH: case IPPROTO_DSTOPTS: case IPPROTO_HOPOPTS:
			if (skb_load_bytes(skb, off, &header, sizeof(header)) < 0)
				return DROP_SHORT;
			off += *proto == IPPROTO_AH ? (header.length + 2) << 2 : (header.length + 1) << 3;
			*proto = header.next;
			break;
		default:
			return off;
		}
	}
	return DROP_PROTO;
}

INLINE int path6(struct __sk_buff *skb, __u8 direction)
{
	struct tuple6 tuple = {};
	struct ct_entry *entry = NULL;
	struct identity *identity;
	struct lpm6 lpm;
	__u32 label = 2;
	__be16 proxy = 0;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = data + ETH_HLEN;
	int state, verdict, l4, csum, back = 0;
	__u8 proto;

	if ((void *)(ip + 1) > end) {
		if (skb_pull_data(skb, ETH_HLEN + sizeof(*ip)) < 0)
			return drop(skb, DROP_SHORT, direction, __LINE__);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		ip = data + ETH_HLEN;
		if ((void *)(ip + 1) > end)
			return drop(skb, DROP_SHORT, direction, __LINE__);
	}
	__builtin_memcpy(&tuple.saddr, &ip->saddr, 16);
	__builtin_memcpy(&tuple.daddr, &ip->daddr, 16);
	proto = ip->nexthdr;
	l4 = extensions(skb, &proto);
	if (l4 < 0)
		return drop(skb, l4, direction, __LINE__);
	tuple.proto = proto;
	csum = csum_offset(proto);
	lpm.bits = 128;
	if (with_services && direction == DIR_EGRESS) {
		if (proto == IPPROTO_TCP || proto == IPPROTO_UDP)
			if (!ports(skb, l4, &tuple.sport, &tuple.dport))
				return drop(skb, DROP_SHORT, direction, __LINE__);
		back = serve6(skb, &tuple, ETH_HLEN, l4, csum);
		if (back < 0)
			return drop(skb, back, direction, __LINE__);
	}
	lpm.address = direction == DIR_EGRESS ? tuple.daddr : tuple.saddr;
	identity = map_lookup(&identities6, &lpm);
	if (identity)
		label = identity->label;
	state = track6(skb, &tuple, l4, direction, &entry);
	if (state < 0)
		return drop(skb, state, direction, __LINE__);
	if (state == CT_NEW || state == CT_ESTABLISHED) {
		verdict = allowed(label, tuple.dport, tuple.proto, direction == DIR_EGRESS, skb->len, &proxy);
		if (verdict < 0) {
			if (state == CT_ESTABLISHED)
				map_delete(&ct6, &tuple);
			tell(skb, verdict, own_label, label, &tuple.saddr, &tuple.daddr, tuple.sport, tuple.dport,
			     __LINE__);
			count(verdict, direction, skb->len, __LINE__);
			return TC_ACT_SHOT;
		}
	}
	if (entry && back > 0)
		entry->rev_nat = back;
	if (entry && state == CT_REPLY && entry->rev_nat) {
		verdict = undo6(skb, &tuple, entry->rev_nat, ETH_HLEN, l4, csum);
		if (verdict < 0)
			return drop(skb, verdict, direction, __LINE__);
	}
	tell(skb, state, own_label, label, &tuple.saddr, &tuple.daddr, tuple.sport, tuple.dport, __LINE__);
	count(0, direction, skb->len, __LINE__);
	if (proxy) {
		skb->mark = 0x200 | (__u32)proxy << 16;
		return TC_ACT_OK;
	}
	if (identity && identity->tunnel) {
		skb->cb[0] = identity->tunnel;
		skb->cb[1] = label;
		tail_call(skb, &calls, CALL_POLICY6);
		return drop(skb, DROP_TAIL, direction, __LINE__);
	}
	skb->mark = label << 16 | 0xf00;
	return direction == DIR_EGRESS ? redirect(own_ifindex, 0) : TC_ACT_OK;
}

SEC("tc")
int entry(struct __sk_buff *skb)
{
	skb->cb[0] = skb->cb[1] = 0;
	switch (skb->protocol) {
	case swap16(ETH_P_IP): tail_call(skb, &calls, CALL_IPV4); break;
	case swap16(ETH_P_IPV6): tail_call(skb, &calls, CALL_IPV6); break;
	case swap16(ETH_P_ARP): return TC_ACT_OK;
	default: return drop(skb, DROP_PROTO, DIR_EGRESS, __LINE__);
	}
	return drop(skb, DROP_TAIL, DIR_EGRESS, __LINE__);
}

SEC("tc")
int egress4(struct __sk_buff *skb) { return path4(skb, DIR_EGRESS); }
SEC("tc")
int ingress4(struct __sk_buff *skb) { return path4(skb, DIR_INGRESS); }
SEC("tc")
int egress6(struct __sk_buff *skb) { return path6(skb, DIR_EGRESS); }
SEC("tc")
int ingress6(struct __sk_buff *skb) { return path6(skb, DIR_INGRESS); }

SEC("tc")
int whole(struct __sk_buff *skb)
{
	__u8 direction = skb->ingress_ifindex ? DIR_INGRESS : DIR_EGRESS;

	switch (skb->protocol) {
	case swap16(ETH_P_IP): return direction == DIR_EGRESS ? path4(skb, DIR_EGRESS) : path4(skb, DIR_INGRESS);
	case swap16(ETH_P_IPV6): return direction == DIR_EGRESS ? path6(skb, DIR_EGRESS) : path6(skb, DIR_INGRESS);
	default: return TC_ACT_OK;
	}
}
