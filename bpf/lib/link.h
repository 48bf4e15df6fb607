/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What passes unjudged, for without it there is no link: ARP, neighbour and router discovery, listener reports.
 * Only what no router carries on: from a workload it must be addressed to the link, and to a workload it must come
 * from the link, so that nobody can talk through this gap with anyone but the node.
 */
#ifndef WEFT_LINK_H
#define WEFT_LINK_H

#include "lib/icmp.h"

static __always_inline int weft_is_mld(__u8 type)
{
	return (type >= WEFT_ICMP6_MLD_QUERY && type <= WEFT_ICMP6_MLD_DONE) || type == WEFT_ICMP6_MLD2_REPORT;
}

/* 255 proves that no router has touched it (RFC 4861 6.1) */
static __always_inline int weft_is_nd(const struct weft_packet *packet)
{
	return packet->icmp_type >= WEFT_ICMP6_ROUTER_SOLICITATION && packet->icmp_type <= WEFT_ICMP6_REDIRECT &&
	       packet->hop_limit == 255;
}

/* A workload routes for nobody: what it advertises, and where it would send others, is not for the node to hear. */
static __always_inline int weft_is_routers(__u8 type)
{
	return type == WEFT_ICMP6_ROUTER_ADVERTISEMENT || type == WEFT_ICMP6_REDIRECT;
}

static __always_inline int weft_is_link_control(const struct weft_packet *packet, __u8 direction)
{
	if (packet->family != WEFT_IPV6 || packet->protocol != IPPROTO_ICMPV6 || packet->fragment)
		return 0;
	if (direction == WEFT_EGRESS)
		return (weft_is_nd(packet) || weft_is_mld(packet->icmp_type)) && weft_link_scope(packet->dst) &&
		       !weft_is_routers(packet->icmp_type);
	return weft_is_nd(packet) || (weft_is_mld(packet->icmp_type) && weft_link_scope(packet->src));
}

#endif
