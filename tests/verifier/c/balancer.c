/* A layer-4 load balancer on XDP: parses VLANs, IPv4 and IPv6, ICMP errors, TCP and UDP; a connection cache, a
 * ring of servers found by hash, encapsulation by moving the packet's head, counters; written with subprograms. */
#include "common.h"

#define RING 65537
#define VLANS 2

static long (*xdp_adjust_head)(void *ctx, int delta) = (void *)44;

struct flow { union { __be32 src; __be32 src6[4]; }; union { __be32 dst; __be32 dst6[4]; }; __be16 sport, dport; __u8 proto; };
struct vip { union { __be32 address; __be32 address6[4]; }; __be16 port; __u8 proto; };
struct vip_meta { __u32 flags, number; };
struct server { union { __be32 address; __be32 address6[4]; }; __u8 flags; };
struct cached { __u32 server; __u64 seen; };
struct counts { __u64 packets, bytes; };
struct packet { struct flow flow; __u32 server; __u8 tos, flags; __u16 length; };
struct vlan { __be16 tag, proto; };

struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, struct vip); __type(value, struct vip_meta);
	__uint(max_entries, 512); } vips SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, __u32);
	__uint(max_entries, 512 * 64); } rings SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, struct server);
	__uint(max_entries, 4096); } servers SEC(".maps");
struct connections { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(key_size, sizeof(struct flow)); __uint(value_size, sizeof(struct cached));
	__uint(max_entries, 1000); };
struct connections fallback SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(key_size, 4); __uint(max_entries, 64);
	__array(values, struct connections); } caches SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __type(key, __u32); __type(value, struct counts);
	__uint(max_entries, 1024); } counters SEC(".maps");

volatile __u64 unknown_packets;
const volatile __be32 own_address = 0x0a00000a;
const volatile __u8 own_mac[6] = { 2, 0, 0, 0, 0, 1 }, next_mac[6] = { 2, 0, 0, 0, 0, 2 };

INLINE __u32 rotate(__u32 word, unsigned int by) { return word << (by & 31) | word >> (-by & 31); }

#define MIX(a, b, c)                                                                                         \
	a -= c; a ^= rotate(c, 4); c += b; b -= a; b ^= rotate(a, 6); a += c; c -= b; c ^= rotate(b, 8); b += a; \
	a -= c; a ^= rotate(c, 16); c += b; b -= a; b ^= rotate(a, 19); a += c; c -= b; c ^= rotate(b, 4); b += a;

NOINLINE __u32 hash_of(const __u32 *words, __u32 count, __u32 seed)
{
	__u32 a = 0xdeadbeef + seed, b = a, c = a + (count << 2);

	for (__u32 i = 0; i < 9; i += 3) {
		a += words[i];
		b += words[i + 1];
		c += words[i + 2];
		MIX(a, b, c)
	}
	return c;
}

NOINLINE int counted(__u32 index, __u64 bytes)
{
	struct counts *found = map_lookup(&counters, &index);

	if (!found)
		return -1;
	found->packets++;
	found->bytes += bytes;
	return 0;
}

INLINE int ports_of(void *data, void *end, int off, struct packet *packet, _Bool turned)
{
	struct udphdr *header = data + off;

	if ((void *)(header + 1) > end)
		return XDP_DROP;
	packet->flow.sport = turned ? header->dest : header->source;
	packet->flow.dport = turned ? header->source : header->dest;
	if (packet->flow.proto == IPPROTO_TCP) {
		struct tcphdr *tcp = data + off;

		if ((void *)(tcp + 1) > end)
			return XDP_DROP;
		packet->flags |= tcp->syn ? 2 : 0;
	}
	return -1;
}

INLINE int parse4(void *data, void *end, int off, struct packet *packet)
{
	struct iphdr *ip = data + off;

	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	if (ip->ihl != 5)
		return XDP_DROP;
	if (ip->frag_off & swap16(0x3fff))
		return XDP_DROP;
	packet->tos = ip->tos;
	packet->length = swap16(ip->tot_len);
	packet->flow.proto = ip->protocol;
	off += sizeof(*ip);
	if (ip->protocol == IPPROTO_ICMP) {
		__u8 *type = data + off;
		struct iphdr *inner = data + off + 8;

		if ((void *)(type + 8) > end)
			return XDP_DROP;
		if (*type == 8)
			return XDP_PASS;
		if (*type != 3 && *type != 11)
			return XDP_PASS;
		if ((void *)(inner + 1) > end)
			return XDP_DROP;
		if (inner->ihl != 5)
			return XDP_DROP;
		packet->flow.proto = inner->protocol;
		packet->flow.src = inner->daddr;
		packet->flow.dst = inner->saddr;
		packet->flags |= 1;
		off += 8 + sizeof(*inner);
	} else {
		packet->flow.src = ip->saddr;
		packet->flow.dst = ip->daddr;
	}
	if (packet->flow.proto != IPPROTO_TCP && packet->flow.proto != IPPROTO_UDP)
		return XDP_PASS;
	return ports_of(data, end, off, packet, packet->flags & 1);
}

INLINE int parse6(void *data, void *end, int off, struct packet *packet)
{
	struct ipv6hdr *ip = data + off;

	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	packet->tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	packet->length = swap16(ip->payload_len);
	packet->flow.proto = ip->nexthdr;
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return XDP_DROP;
	__builtin_memcpy(packet->flow.src6, &ip->saddr, 16);
	__builtin_memcpy(packet->flow.dst6, &ip->daddr, 16);
	off += sizeof(*ip);
	if (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP)
		return XDP_PASS;
	return ports_of(data, end, off, packet, 0);
}

NOINLINE int choose(struct packet *packet, struct vip_meta *meta, _Bool six, void *cache)
{
	struct cached *known, fresh = {};
	__u32 *at, key, hash;
	__u64 now;

	if (!packet || !meta || !cache)
		return -1;
	now = ktime_get_ns();
	known = map_lookup(cache, &packet->flow);
	if (known && !(packet->flags & 2)) {
		if (now - known->seen < 30000000000ull || packet->flow.proto == IPPROTO_TCP) {
			known->seen = now;
			packet->server = known->server;
			return 0;
		}
	}
	hash = hash_of((const __u32 *)&packet->flow, 9, six);
	key = (meta->number & 511) * 64 + hash % 64;
	at = map_lookup(&rings, &key);
	if (!at)
		return -1;
	packet->server = *at;
	fresh.server = *at;
	fresh.seen = now;
	if (!(meta->flags & 4))
		map_update(cache, &packet->flow, &fresh, 0);
	return 0;
}

INLINE __u16 fold(__u64 sum)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

INLINE int wrap4(struct xdp_md *ctx, struct packet *packet, struct server *server)
{
	void *data, *end;
	struct ethhdr *eth;
	struct iphdr *ip;
	__u64 sum = 0;

	if (xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	eth = data;
	ip = data + sizeof(*eth);
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	for (int i = 0; i < 6; i++) {
		eth->h_source[i] = own_mac[i];
		eth->h_dest[i] = next_mac[i];
	}
	eth->h_proto = swap16(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = packet->tos;
	ip->tot_len = swap16(packet->length + sizeof(*ip));
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = 64;
	ip->protocol = IPPROTO_IPIP;
	ip->check = 0;
	ip->saddr = own_address ^ packet->flow.src << 16;
	ip->daddr = server->address;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += ((__u16 *)ip)[i];
	ip->check = fold(sum);
	return XDP_TX;
}

SEC("xdp")
int balance(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet packet = {};
	struct ethhdr *eth = data;
	struct vip vip = {};
	struct vip_meta *meta;
	struct server *server;
	void *cache;
	__u32 cpu = get_smp_processor_id();
	int off = sizeof(*eth), answer;
	__be16 proto;
	_Bool six = 0;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	proto = eth->h_proto;
#pragma unroll
	for (int i = 0; i < VLANS; i++) {
		struct vlan *vlan = data + off;

		if (proto != swap16(ETH_P_8021Q) && proto != swap16(ETH_P_8021AD))
			break;
		if ((void *)(vlan + 1) > end)
			return XDP_DROP;
		proto = vlan->proto;
		off += sizeof(*vlan);
	}
	if (proto == swap16(ETH_P_IP)) {
		answer = parse4(data, end, off, &packet);
		vip.address = packet.flow.dst;
	} else if (proto == swap16(ETH_P_IPV6)) {
		six = 1;
		answer = parse6(data, end, off, &packet);
		__builtin_memcpy(vip.address6, packet.flow.dst6, 16);
	} else {
		return XDP_PASS;
	}
	if (answer >= 0)
		return answer;
	vip.port = packet.flow.dport;
	vip.proto = packet.flow.proto;
	meta = map_lookup(&vips, &vip);
	if (!meta) {
		vip.port = 0;
		meta = map_lookup(&vips, &vip);
		if (!meta) {
			__sync_fetch_and_add(&unknown_packets, 1);
			return XDP_PASS;
		}
		if (!(meta->flags & 1))
			packet.flow.dport = 0;
	}
	if ((void *)(long)ctx->data_end - (void *)(long)ctx->data > 1500)
		return XDP_DROP;
	cache = map_lookup(&caches, &cpu);
	if (!cache)
		cache = &fallback;
	if (choose(&packet, meta, six, cache))
		return XDP_DROP;
	server = map_lookup(&servers, &packet.server);
	if (!server)
		return XDP_DROP;
	if (counted(meta->number, packet.length))
		return XDP_DROP;
	counted(512, packet.length);
	return six ? XDP_PASS : wrap4(ctx, &packet, server);
}
