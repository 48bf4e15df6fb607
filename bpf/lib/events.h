/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What user space is told of packets. A VERDICT describes the connection, in the orientation of who opened it; DROP and TRACE describe the packet.
 */
#ifndef WEFT_EVENTS_H
#define WEFT_EVENTS_H

#include "lib/flow.h"
#include "lib/ring.h"

enum weft_trace_point { WEFT_TO_ENDPOINT = 0, WEFT_TO_PROXY = 1, WEFT_TO_STACK = 3 };

static __always_inline __u8 weft_trace_point(const struct weft_flow *flow)
{
	if (flow->steered)
		return WEFT_TO_PROXY;
	return flow->direction == WEFT_EGRESS ? WEFT_TO_STACK : WEFT_TO_ENDPOINT;
}

static __always_inline void weft_event_packet(struct weft_event *event, const struct weft_packet *packet, int swap)
{
	event->family = packet->family;
	event->protocol = packet->protocol;
	event->tcp_flags = packet->tcp_flags | packet->icmp_type; /* one of them is zero */
	event->icmp_code = packet->icmp_code;
	if (weft_has_ports(packet->protocol)) {
		event->src_port = swap ? packet->dst_port : packet->src_port;
		event->dst_port = swap ? packet->src_port : packet->dst_port;
	}
	if (swap) {
		weft_copy_address(event->src, packet->dst);
		weft_copy_address(event->dst, packet->src);
	} else {
		weft_copy_address(event->src, packet->src);
		weft_copy_address(event->dst, packet->dst);
	}
}

static __always_inline void weft_event_frame(struct weft_event *event, struct __sk_buff *skb, int swap)
{
	event->ifindex = skb->ifindex;
	event->length = skb->len;
	bpf_skb_load_bytes(skb, 0, swap ? event->src_mac : event->dst_mac, ETH_ALEN);
	bpf_skb_load_bytes(skb, ETH_ALEN, swap ? event->dst_mac : event->src_mac, ETH_ALEN);
}

static __always_inline void weft_event_flow(struct weft_event *event, const struct weft_flow *flow)
{
	int out = event->direction == WEFT_EGRESS;

	event->reason = flow->reason;
	event->match = flow->match;
	event->verdict = flow->verdict;
	event->ct_state = flow->ct_state;
	event->flags = (weft_audited(flow) ? WEFT_EVF_AUDIT : 0) | (flow->midstream ? WEFT_EVF_MIDSTREAM : 0);
	event->ep_id = flow->endpoint.ep_id;
	event->src_identity = out ? flow->endpoint.identity : flow->remote_identity;
	event->dst_identity = out ? flow->remote_identity : flow->endpoint.identity;
	event->cookie = flow->cookie;
}

static __always_inline void weft_tell(struct __sk_buff *skb, const struct weft_flow *flow, __u8 type)
{
	__u8 sub_type = type == WEFT_EV_TRACE ? weft_trace_point(flow) : 0;
	int swap = type == WEFT_EV_VERDICT && flow->origin != flow->direction;
	struct weft_event *event = weft_event_reserve(type, sub_type);

	if (!event)
		return;
	event->direction = swap ? flow->origin : flow->direction;
	weft_event_packet(event, &flow->packet, swap);
	weft_event_flow(event, flow);
	weft_event_frame(event, skb, swap);
	weft_event_submit(event);
}

#endif
