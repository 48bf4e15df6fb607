/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* From a frame to a struct weft_packet, or to the reason why not.
 *
 * Packets may be non-linear and of any length: everything is read by bpf_skb_load_bytes, which fails where the
 * frame ends, and nothing is believed beyond where the IP header says that the packet ends. `quoted` marks the
 * packet inside an ICMP error: cut short by whoever quotes it, so only its first eight transport bytes are read.
 */
#ifndef WEFT_PARSE_H
#define WEFT_PARSE_H

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include "lib/icmp.h"

/* Hop-by-hop, destination options twice, routing, fragment make five (RFC 8200 4.1): one to spare. */
#define WEFT_V6_EXTENSIONS 6

/* As many as there may be, of a byte each. */
#define WEFT_V4_OPTIONS 40
#define WEFT_OPT_END 0
#define WEFT_OPT_NOP 1
#define WEFT_OPT_LOOSE 131
#define WEFT_OPT_STRICT 137

#define WEFT_IP_OFFSET 0x1fff
#define WEFT_IP_MORE 0x2000

struct weft_sctp {
	__be16 source;
	__be16 dest;
	__u32 tag;
	__u32 checksum;
};

static __always_inline int weft_load(struct __sk_buff *skb, const struct weft_packet *packet, __u32 offset,
				     void *to, __u32 size)
{
	if (offset + size > packet->end)
		return -1;
	return bpf_skb_load_bytes(skb, offset, to, size);
}

/* Super packets longer than 64 KiB (BIG TCP) say 0 where they cannot say their length. */
static __always_inline __u32 weft_ip_end(struct __sk_buff *skb, __u32 offset, __u32 header, __be16 length,
					 int quoted)
{
	if (quoted || (!length && skb->gso_size))
		return skb->len;
	return offset + header + bpf_ntohs(length);
}

struct weft_option {
	__u8 type;
	__u8 length;
	__u8 pointer; /* of a route: to the next stop; beyond `length`: none */
};

/* A source route that is not finished: the address in the header is a stop on the way, not where it goes. `l4` walks
 * the options, and is put right by the caller: see flow.h on why not a number on the stack. */
static __always_inline int weft_is_source_routed(struct __sk_buff *skb, struct weft_packet *packet, __u32 offset,
						 __u32 header)
{
	struct weft_option option;
	__u32 i;

	packet->l4 = offset + sizeof(struct iphdr);
	for (i = 0; i < WEFT_V4_OPTIONS; i++) {
		if (packet->l4 + sizeof(option) > offset + header ||
		    bpf_skb_load_bytes(skb, packet->l4, &option, sizeof(option)) || option.type == WEFT_OPT_END)
			return 0;
		if ((option.type == WEFT_OPT_LOOSE || option.type == WEFT_OPT_STRICT) &&
		    option.pointer <= option.length)
			return 1;
		if (option.type == WEFT_OPT_NOP)
			packet->l4 += 1;
		else if (option.length >= 2)
			packet->l4 += option.length;
		else
			return 0; /* no router understands it either */
	}
	return 0;
}

static __always_inline int weft_parse_ipv4(struct __sk_buff *skb, __u32 offset, struct weft_packet *packet,
					   int quoted)
{
	struct iphdr ip;
	__u16 fragment;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return WEFT_DROP_INVALID;
	packet->end = weft_ip_end(skb, offset, 0, ip.tot_len, quoted);
	if (!quoted && ip.ihl > 5 && weft_is_source_routed(skb, packet, offset, ip.ihl * 4))
		return WEFT_DROP_INVALID;
	packet->l4 = offset + ip.ihl * 4;
	if (packet->end > skb->len || packet->end < packet->l4)
		return WEFT_DROP_INVALID;
	packet->family = WEFT_IPV4;
	packet->src[0] = ip.saddr;
	packet->dst[0] = ip.daddr;
	packet->protocol = ip.protocol;
	packet->hop_limit = ip.ttl;
	fragment = bpf_ntohs(ip.frag_off);
	if (fragment & WEFT_IP_OFFSET)
		packet->fragment = WEFT_LATER_FRAGMENT;
	else if (fragment & WEFT_IP_MORE)
		packet->fragment = WEFT_FIRST_FRAGMENT;
	packet->fragment_id = ip.id;
	packet->fragment_protocol = ip.protocol;
	return WEFT_OK;
}

static __always_inline int weft_is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT;
}

struct weft_extension {
	__u8 next;
	__u8 length; /* in 8 bytes, without the first 8; fragment: reserved */
	__be16 field; /* fragment: offset and flags; routing: type, segments left */
	__u32 word; /* fragment: id */
};

static __always_inline int weft_fragment_header(const struct weft_extension *header, struct weft_packet *packet)
{
	__u16 field = bpf_ntohs(header->field);

	if (packet->fragment)
		return WEFT_DROP_INVALID; /* a fragment of a fragment */
	if (field & 0xfff8)
		packet->fragment = WEFT_LATER_FRAGMENT;
	else if (field & 1)
		packet->fragment = WEFT_FIRST_FRAGMENT;
	packet->fragment_id = header->word;
	packet->fragment_protocol = header->next;
	return WEFT_OK;
}

/* The walk ends at the transport header, or at a later fragment, which has none. */
static __always_inline int weft_walk_extensions(struct __sk_buff *skb, struct weft_packet *packet, __u8 next)
{
	struct weft_extension header;
	__u32 i;

	for (i = 0; i < WEFT_V6_EXTENSIONS; i++) {
		if (!weft_is_extension(next) || packet->fragment == WEFT_LATER_FRAGMENT)
			break;
		if (weft_load(skb, packet, packet->l4, &header, sizeof(header)))
			return WEFT_DROP_INVALID;
		if (next == IPPROTO_FRAGMENT) {
			if (weft_fragment_header(&header, packet))
				return WEFT_DROP_INVALID;
			packet->l4 += sizeof(header);
		} else {
			/* Segments left: the address in the header is a stop on the way, not where it goes;
			 * judged by that, a packet would pass to anywhere. */
			if (next == IPPROTO_ROUTING && (bpf_ntohs(header.field) & 0xff))
				return WEFT_DROP_INVALID;
			packet->l4 += (header.length + 1) * 8;
		}
		next = header.next;
	}
	packet->protocol = next;
	if (packet->fragment != WEFT_LATER_FRAGMENT && weft_is_extension(next))
		return WEFT_DROP_INVALID;
	return WEFT_OK;
}

static __always_inline int weft_parse_ipv6(struct __sk_buff *skb, __u32 offset, struct weft_packet *packet,
					   int quoted)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 6)
		return WEFT_DROP_INVALID;
	packet->end = weft_ip_end(skb, offset, sizeof(ip), ip.payload_len, quoted);
	packet->l4 = offset + sizeof(ip);
	if (packet->end > skb->len)
		return WEFT_DROP_INVALID;
	packet->family = WEFT_IPV6;
	__builtin_memcpy(packet->src, &ip.saddr, 16);
	__builtin_memcpy(packet->dst, &ip.daddr, 16);
	packet->hop_limit = ip.hop_limit;
	return weft_walk_extensions(skb, packet, ip.nexthdr);
}

static __always_inline int weft_parse_tcp(struct __sk_buff *skb, struct weft_packet *packet, int quoted)
{
	struct tcphdr tcp = {};

	if (weft_load(skb, packet, packet->l4, &tcp, quoted ? 8 : sizeof(tcp)) || (!quoted && tcp.doff < 5))
		return WEFT_DROP_CT_TRUNCATED;
	packet->src_port = tcp.source;
	packet->dst_port = tcp.dest;
	packet->tcp_flags = ((__u8 *)&tcp)[13];
	return WEFT_OK;
}

static __always_inline int weft_parse_udp(struct __sk_buff *skb, struct weft_packet *packet)
{
	struct udphdr udp;

	if (weft_load(skb, packet, packet->l4, &udp, sizeof(udp)))
		return WEFT_DROP_CT_TRUNCATED;
	packet->src_port = udp.source;
	packet->dst_port = udp.dest;
	return WEFT_OK;
}

static __always_inline int weft_parse_sctp(struct __sk_buff *skb, struct weft_packet *packet, int quoted)
{
	struct weft_sctp sctp;

	if (weft_load(skb, packet, packet->l4, &sctp, quoted ? 8 : sizeof(sctp)))
		return WEFT_DROP_CT_TRUNCATED;
	packet->src_port = sctp.source;
	packet->dst_port = sctp.dest;
	return WEFT_OK;
}

static __always_inline int weft_parse_icmp(struct __sk_buff *skb, struct weft_packet *packet)
{
	struct weft_icmp icmp;

	if (weft_load(skb, packet, packet->l4, &icmp, sizeof(icmp)))
		return WEFT_DROP_CT_TRUNCATED;
	packet->icmp_type = icmp.type;
	packet->icmp_code = icmp.code;
	packet->src_port = icmp.id;
	packet->dst_port = icmp.id;
	return WEFT_OK;
}

static __always_inline int weft_parse_l4(struct __sk_buff *skb, struct weft_packet *packet, int quoted)
{
	if (packet->fragment == WEFT_LATER_FRAGMENT)
		return WEFT_OK;
	if (packet->protocol == IPPROTO_TCP)
		return weft_parse_tcp(skb, packet, quoted);
	if (packet->protocol == IPPROTO_UDP)
		return weft_parse_udp(skb, packet);
	if (weft_packet_is_icmp(packet))
		return weft_parse_icmp(skb, packet);
	if (packet->protocol == WEFT_PROTO_SCTP)
		return weft_parse_sctp(skb, packet, quoted);
	return WEFT_OK;
}

static __always_inline int weft_parse_ip(struct __sk_buff *skb, __u32 offset, struct weft_packet *packet,
					 __u8 family, int quoted)
{
	int reason = family == WEFT_IPV4 ? weft_parse_ipv4(skb, offset, packet, quoted) :
					   weft_parse_ipv6(skb, offset, packet, quoted);

	return reason ? reason : weft_parse_l4(skb, packet, quoted);
}

/* a frame that is neither IPv4 nor IPv6; ARP is not for here */
static __always_inline int weft_parse(struct __sk_buff *skb, struct weft_packet *packet)
{
	if (skb->vlan_present)
		return WEFT_DROP_L3_UNKNOWN; /* a workload has no business on another network */
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return weft_parse_ip(skb, ETH_HLEN, packet, WEFT_IPV4, 0);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return weft_parse_ip(skb, ETH_HLEN, packet, WEFT_IPV6, 0);
	return WEFT_DROP_L3_UNKNOWN;
}

#endif
