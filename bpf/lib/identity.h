/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Who is it: an identity from an address, by longest prefix; an endpoint from the device it lives behind. */
#ifndef WEFT_IDENTITY_H
#define WEFT_IDENTITY_H

#include "lib/maps.h"
#include "lib/packet.h"

#define WEFT_ID_HOST 1
#define WEFT_ID_WORLD_IPV4 9
#define WEFT_ID_WORLD_IPV6 10

/* The map holds 0.0.0.0/0 and ::/0. Before the daemon has filled it, everybody is a stranger. */
static __always_inline __u32 weft_identity(__u8 family, const __u32 *address)
{
	struct weft_ipcache_key key = {
		.prefixlen = 32 + (family == WEFT_IPV4 ? 32 : 128),
		.family = family,
	};
	const struct weft_ipcache_value *value;

	weft_copy_address(key.addr, address);
	value = weft_lookup(ipcache, &key);
	if (value)
		return value->identity;
	return family == WEFT_IPV4 ? WEFT_ID_WORLD_IPV4 : WEFT_ID_WORLD_IPV6;
}

/* What came to the node from elsewhere is not from the node: its address was forged, or put there by the node's own
 * masquerading. The node reaches its workloads always, and nobody else shall for such an address. */
static __always_inline __u32 weft_remote_identity(__u8 family, const __u32 *address, int outside)
{
	__u32 identity = weft_identity(family, address);

	if (outside && identity == WEFT_ID_HOST)
		return family == WEFT_IPV4 ? WEFT_ID_WORLD_IPV4 : WEFT_ID_WORLD_IPV6;
	return identity;
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
