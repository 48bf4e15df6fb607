/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Only the first fragment of a packet has ports. It is remembered, so that the rest can be judged like it.
 *
 * Remembered only once its source address is known to be the endpoint's own, and by endpoint: nobody can teach
 * us ports for another's fragments. A later fragment that comes first is dropped, 157: it will be sent again.
 */
#ifndef WEFT_FRAGMENT_H
#define WEFT_FRAGMENT_H

#include "lib/flow.h"
#include "lib/maps.h"

static __always_inline void weft_fragment_key(const struct weft_flow *flow, struct weft_fragment_key *key)
{
	const struct weft_packet *packet = &flow->packet;

	__builtin_memset(key, 0, sizeof(*key));
	key->ep_id = flow->endpoint.ep_id;
	key->id = packet->fragment_id;
	key->family = packet->family;
	key->protocol = packet->fragment_protocol;
	key->direction = flow->direction;
	weft_copy_address(key->src, packet->src);
	weft_copy_address(key->dst, packet->dst);
}

static __always_inline void weft_fragment_remember(const struct weft_packet *packet,
						   const struct weft_fragment_key *key)
{
	struct weft_fragment_value value = {
		.src_port = packet->src_port,
		.dst_port = packet->dst_port,
		.protocol = packet->protocol,
		.icmp_type = packet->icmp_type,
		.icmp_code = packet->icmp_code,
	};

	/* failing leaves the later fragments unknown: dropped */
	weft_update(fragments, key, &value, BPF_ANY);
}

static __always_inline int weft_fragment_recall(struct weft_packet *packet, const struct weft_fragment_key *key)
{
	const struct weft_fragment_value *value = weft_lookup(fragments, key);

	if (!value)
		return WEFT_DROP_FRAGMENT;
	packet->src_port = value->src_port;
	packet->dst_port = value->dst_port;
	packet->protocol = value->protocol;
	packet->icmp_type = value->icmp_type;
	packet->icmp_code = value->icmp_code;
	return WEFT_OK;
}

static __always_inline int weft_fragment(struct weft_flow *flow)
{
	struct weft_fragment_key key;

	if (flow->packet.fragment == WEFT_WHOLE)
		return WEFT_OK;
	weft_fragment_key(flow, &key);
	if (flow->packet.fragment == WEFT_LATER_FRAGMENT)
		return weft_fragment_recall(&flow->packet, &key);
	weft_fragment_remember(&flow->packet, &key);
	return WEFT_OK;
}

#endif
