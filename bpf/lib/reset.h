/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* A TCP packet becomes the reset that answers it (RFC 9293 3.10.7.1): addresses and ports turned round, no payload. The
 * network header keeps its options. Resets are not answered, and fragments cannot be.
 *
 * The checksum has to be right whether the packet's was left to a device (then the field holds the sum of the pseudo
 * header, and the rest comes later) or not, and no program can tell: the field gets the first, and the difference to
 * the whole is added by the helper that does nothing in the first case.
 */
#ifndef WEFT_RESET_H
#define WEFT_RESET_H

#include "lib/parse.h"

#define WEFT_RESET_HOPS 64

static __always_inline int weft_is_resettable(const struct weft_packet *packet)
{
	return packet->protocol == IPPROTO_TCP && !packet->fragment && !(packet->tcp_flags & WEFT_TCP_RST);
}

static __always_inline __u32 weft_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline void weft_swap_macs(struct __sk_buff *skb)
{
	__u8 macs[2 * ETH_ALEN] = {};

	bpf_skb_load_bytes(skb, 0, macs, sizeof(macs));
	bpf_skb_store_bytes(skb, 0, macs + ETH_ALEN, ETH_ALEN, 0);
	bpf_skb_store_bytes(skb, ETH_ALEN, macs, ETH_ALEN, 0);
}

static __always_inline void weft_turn_ipv4(struct __sk_buff *skb, __u32 l4)
{
	__be16 length = bpf_htons(l4 - ETH_HLEN + sizeof(struct tcphdr));
	struct iphdr ip = {};

	bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip));
	bpf_l3_csum_replace(skb, ETH_HLEN + 10, ip.tot_len, length, 2);
	bpf_l3_csum_replace(skb, ETH_HLEN + 10, bpf_htons(ip.ttl << 8), bpf_htons(WEFT_RESET_HOPS << 8), 2);
	bpf_skb_load_bytes(skb, ETH_HLEN + 10, &ip.check, 2);
	ip.tot_len = length;
	ip.ttl = WEFT_RESET_HOPS;
	ip.saddr ^= ip.daddr;
	ip.daddr ^= ip.saddr;
	ip.saddr ^= ip.daddr;
	bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0);
}

static __always_inline void weft_turn_ipv6(struct __sk_buff *skb, const struct weft_packet *packet)
{
	__be16 length = bpf_htons(packet->l4 - ETH_HLEN - sizeof(struct ipv6hdr) + sizeof(struct tcphdr));
	__u8 hops = WEFT_RESET_HOPS;

	bpf_skb_store_bytes(skb, ETH_HLEN + 4, &length, 2, 0);
	bpf_skb_store_bytes(skb, ETH_HLEN + 7, &hops, 1, 0);
	bpf_skb_store_bytes(skb, ETH_HLEN + 8, (void *)packet->dst, 16, 0);
	bpf_skb_store_bytes(skb, ETH_HLEN + 24, (void *)packet->src, 16, 0);
}

static __always_inline void weft_reset_header(const struct weft_packet *packet, const struct tcphdr *tcp,
					      struct tcphdr *reset)
{
	__u32 sent = packet->end - packet->l4 - tcp->doff * 4 + tcp->syn + tcp->fin;

	__builtin_memset(reset, 0, sizeof(*reset));
	reset->source = tcp->dest;
	reset->dest = tcp->source;
	reset->doff = sizeof(*reset) / 4;
	reset->rst = 1;
	if (tcp->ack) {
		reset->seq = tcp->ack_seq;
	} else {
		reset->ack = 1;
		reset->ack_seq = bpf_htonl(bpf_ntohl(tcp->seq) + sent);
	}
}

/* 0: it is one now, and to go back where it came from. */
static __always_inline int weft_make_reset(struct __sk_buff *skb, const struct weft_packet *packet)
{
	__u32 l4 = packet->l4, pseudo;
	struct tcphdr tcp = {}, reset;
	__u64 rest;

	if (!weft_is_resettable(packet) || bpf_skb_load_bytes(skb, l4, &tcp, sizeof(tcp)) ||
	    bpf_skb_change_tail(skb, l4 + sizeof(reset), 0))
		return -1;
	weft_reset_header(packet, &tcp, &reset);
	/* source and destination stand side by side, and zeroes count nothing */
	pseudo = weft_fold(bpf_csum_diff(0, 0, (void *)packet->src, 32, bpf_htons(IPPROTO_TCP + sizeof(reset))));
	rest = (__u32)bpf_csum_diff(0, 0, (void *)&reset, sizeof(reset), 0);
	rest += 2 * pseudo;
	rest = (rest & 0xffffffff) + (rest >> 32);
	reset.check = pseudo;
	weft_swap_macs(skb);
	if (packet->family == WEFT_IPV4)
		weft_turn_ipv4(skb, l4);
	else
		weft_turn_ipv6(skb, packet);
	bpf_skb_store_bytes(skb, l4, &reset, sizeof(reset), 0);
	return bpf_l4_csum_replace(skb, l4 + 16, 0, rest, 0);
}

#endif
