/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* One packet on its way through a program: what is known of it so far, and what is to be told in the end. */
#ifndef WEFT_FLOW_H
#define WEFT_FLOW_H

#include "lib/maps.h"
#include "lib/packet.h"

enum weft_either { WEFT_SURE = 0, WEFT_EITHER = 1, WEFT_EITHER_BY_RULE = 2 };

struct weft_flow {
	struct weft_packet packet;
	struct weft_endpoint endpoint; /* a copy: the map's element may be re-used while we look at it */
	__u64 revision; /* of the policy, read before anything is judged */
	__u64 now; /* coarse: a tick, 1 to 4 ms; costs a fifth of the exact clock */
	__u64 trace_interval;
	__u32 remote_identity; /* 0: not looked up */
	__u32 former_identity; /* of the remote, while it changes; 0: it does not */
	__u32 cookie;
	__u32 mark; /* of the proxy; 0: there is none now */
	__u8 has_proxy; /* the node has one, be it there now or not */
	__u8 marked; /* the proxy sent it */
	__u8 proxied; /* WEFT_CT_F_TO_PROXY or FROM_PROXY: the connection is the proxy's */
	__u8 unjudged; /* what it asked for is the proxy's to judge */
	__u8 steered; /* it goes to the proxy */
	__u8 waited; /* a SYN for a connection of the proxy's in TIME_WAIT */
	__u8 audit; /* denials pass, and say so */
	__u8 direction; /* of the packet */
	__u8 origin; /* direction of the packet that opened the connection */
	__u8 either; /* weft_either: who opened it is not sure, the other orientation may admit it too */
	__u8 outside; /* the remote's packets came to the node from elsewhere */
	__u8 ct_state;
	__u8 verdict;
	__u8 match;
	__u8 reason; /* why it stops; WEFT_OK: it does not */
	__u8 midstream;
	__u8 tell_verdict;
	__u8 tell_trace;
	struct weft_packet quoted; /* by an ICMP error; last, for few need it */
};

_Static_assert(sizeof(struct weft_flow) <= sizeof(struct weft_scratch), "a flow fits its scratch");

/* In a map, not on the stack: the verifier follows each number on the stack, and with it every way through the
 * parser and policy to the end of the program; what it reads from a map is just a number. (It walked 840,000
 * instructions before, 63,000 now.) Nobody else uses this CPU's element meanwhile: tc runs with bottom halves off,
 * and one device's ingress is done before another's egress begins. */
static __always_inline struct weft_flow *weft_flow(__u8 direction)
{
	__u32 zero = 0;
	struct weft_flow *flow = weft_lookup(scratch, &zero);

	if (!flow)
		return 0; /* for the verifier: an array's element is there */
	__builtin_memset(flow, 0, __builtin_offsetof(struct weft_flow, quoted));
	flow->direction = direction;
	flow->origin = direction;
	return flow;
}

/* an index that the verifier believes */
static __always_inline __u32 weft_side(const struct weft_flow *flow)
{
	return flow->direction & 1;
}

/* Only what policy refuses passes in audit mode: a spoofed or broken packet is no question of policy. */
static __always_inline int weft_is_policy_reason(__u8 reason)
{
	return reason == WEFT_DROP_POLICY || reason == WEFT_DROP_POLICY_DENY || reason == WEFT_DROP_L4_UNKNOWN ||
	       reason == WEFT_DROP_NO_PROXY || reason == WEFT_DROP_BECAME_JUDGED;
}

static __always_inline int weft_audited(const struct weft_flow *flow)
{
	return flow->audit && weft_is_policy_reason(flow->reason);
}

static __always_inline int weft_stops(const struct weft_flow *flow)
{
	return flow->reason != WEFT_OK && !weft_audited(flow);
}

#endif
