/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* ICMP and ICMPv6: who asks, who answers, who complains. By hand: <linux/icmp.h> drags in the C library's. */
#ifndef WEFT_ICMP_H
#define WEFT_ICMP_H

#include "lib/packet.h"

enum weft_icmp4 {
	WEFT_ICMP4_ECHO_REPLY = 0,
	WEFT_ICMP4_UNREACHABLE = 3,
	WEFT_ICMP4_SOURCE_QUENCH = 4,
	WEFT_ICMP4_ECHO = 8,
	WEFT_ICMP4_TIME_EXCEEDED = 11,
	WEFT_ICMP4_PARAMETER_PROBLEM = 12,
	WEFT_ICMP4_TIMESTAMP = 13,
	WEFT_ICMP4_INFORMATION = 15,
	WEFT_ICMP4_MASK = 17,
};

enum weft_icmp6 {
	WEFT_ICMP6_UNREACHABLE = 1, /* 2 packet too big, 3 time exceeded */
	WEFT_ICMP6_PARAMETER_PROBLEM = 4,
	WEFT_ICMP6_ECHO = 128,
	WEFT_ICMP6_MLD_QUERY = 130, /* 131 report, 132 done */
	WEFT_ICMP6_MLD_DONE = 132,
	WEFT_ICMP6_ROUTER_SOLICITATION = 133,
	WEFT_ICMP6_ROUTER_ADVERTISEMENT = 134,
	WEFT_ICMP6_NEIGHBOUR_SOLICITATION = 135, /* 136 neighbour advertisement */
	WEFT_ICMP6_REDIRECT = 137,
	WEFT_ICMP6_MLD2_REPORT = 143,
};

struct weft_icmp { /* both families' begin alike */
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be16 id; /* of a query */
	__u16 rest;
};

/* The other family's ICMP is no ICMP: it falls to "unknown protocol". */
static __always_inline __u8 weft_icmp_of(__u8 family)
{
	return family == WEFT_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
}

static __always_inline int weft_packet_is_icmp(const struct weft_packet *packet)
{
	return packet->protocol == weft_icmp_of(packet->family);
}

/* An error is about a packet that it quotes. */
static __always_inline int weft_is_icmp_error(const struct weft_packet *packet)
{
	__u8 type = packet->icmp_type;

	if (packet->fragment == WEFT_LATER_FRAGMENT || !weft_packet_is_icmp(packet))
		return 0;
	if (packet->family == WEFT_IPV4)
		return type == WEFT_ICMP4_UNREACHABLE || type == WEFT_ICMP4_SOURCE_QUENCH ||
		       type == WEFT_ICMP4_TIME_EXCEEDED || type == WEFT_ICMP4_PARAMETER_PROBLEM;
	return type >= WEFT_ICMP6_UNREACHABLE && type <= WEFT_ICMP6_PARAMETER_PROBLEM;
}

static __always_inline int weft_is_icmp_request(__u8 family, __u8 type)
{
	if (family == WEFT_IPV4)
		return type == WEFT_ICMP4_ECHO || type == WEFT_ICMP4_TIMESTAMP || type == WEFT_ICMP4_INFORMATION ||
		       type == WEFT_ICMP4_MASK;
	return type == WEFT_ICMP6_ECHO || type == WEFT_ICMP6_NEIGHBOUR_SOLICITATION;
}

/* An answer's type follows its request's, but for the oldest pair. */
static __always_inline __u8 weft_icmp_request_of(__u8 family, __u8 reply)
{
	if (family == WEFT_IPV4 && reply == WEFT_ICMP4_ECHO_REPLY)
		return WEFT_ICMP4_ECHO;
	return reply - 1;
}

static __always_inline int weft_is_icmp_reply(__u8 family, __u8 type)
{
	return weft_is_icmp_request(family, weft_icmp_request_of(family, type));
}

/* Neighbour discovery has flags where the others have an id. */
static __always_inline int weft_icmp_has_id(__u8 family, __u8 request)
{
	return family == WEFT_IPV4 || request == WEFT_ICMP6_ECHO;
}

#endif
