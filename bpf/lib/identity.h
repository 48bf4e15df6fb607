/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Who is it: an identity from an address, by longest prefix; an endpoint from the device it lives behind. */
#ifndef WEFT_IDENTITY_H
#define WEFT_IDENTITY_H

#include "lib/flow.h"
#include "lib/maps.h"
#include "lib/packet.h"

#define WEFT_ID_HOST 1
#define WEFT_ID_WORLD_IPV4 9
#define WEFT_ID_WORLD_IPV6 10

static __always_inline __u32 weft_world(__u8 family)
{
	return family == WEFT_IPV4 ? WEFT_ID_WORLD_IPV4 : WEFT_ID_WORLD_IPV6;
}

/* The map holds 0.0.0.0/0 and ::/0. Before the daemon has filled it, everybody is a stranger. */
static __always_inline struct weft_ipcache_value weft_identity(__u8 family, const __u32 *address)
{
	struct weft_ipcache_key key = {
		.prefixlen = 32 + (family == WEFT_IPV4 ? 32 : 128),
		.family = family,
	};
	struct weft_ipcache_value who = { .identity = weft_world(family) };
	const struct weft_ipcache_value *value;

	weft_copy_address(key.addr, address);
	value = weft_lookup(ipcache, &key);
	if (value)
		who = *value;
	return who;
}

/* What came to the node from elsewhere is not from the node: its address was forged, or put there by the node's own
 * masquerading. The node reaches its workloads always, and nobody else shall for such an address. */
static __always_inline void weft_identify(struct weft_flow *flow, __u8 family, const __u32 *address)
{
	struct weft_ipcache_value who = weft_identity(family, address);

	if (flow->outside && who.identity == WEFT_ID_HOST)
		who.identity = weft_world(family);
	flow->remote_identity = who.identity;
	flow->former_identity = who.former;
}

/* No address of the family: whatever it sends in that family is not its own. */
static __always_inline int weft_owns(const struct weft_endpoint *endpoint, const struct weft_packet *packet)
{
	__u32 own[4] = {};

	if (packet->family == WEFT_IPV4)
		__builtin_memcpy(own, endpoint->ipv4, 4);
	else
		__builtin_memcpy(own, endpoint->ipv6, 16);
	return !weft_no_address(own) && weft_same_address(own, packet->src);
}

#endif
