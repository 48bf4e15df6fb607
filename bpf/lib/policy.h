/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* May it: the lookups in an endpoint's compiled table (policies/table.py says what is in one, and why the first
 * hit is final). In this order:
 *
 *   1 the direction has no policy: allow, and nothing was judged
 *   2 its table is missing: deny, 203; what cannot be looked up is not allowed
 *   3 longest prefix in (identity, direction, protocol, port): that verdict
 *   4 longest prefix in (any identity, direction, protocol, port): that verdict
 *   5 no entry: deny, 133, where the direction is enforced, else allow
 *
 * An unknown protocol is looked up like any other: only an entry for every protocol can match it.
 */
#ifndef WEFT_POLICY_H
#define WEFT_POLICY_H

#include "lib/flow.h"
#include "lib/identity.h"

#define WEFT_MATCH_NONE 0
#define WEFT_ANY_IDENTITY 0

/* identity 32, direction 8, protocol 8, port 16 */
#define WEFT_POLICY_PREFIX 64

/* ICMP of the wrong family matches no entry that names a protocol: 255 is reserved by IANA */
#define WEFT_PROTO_NONE 255

struct weft_question { /* a connection, seen from the endpoint, in the orientation of who opened it */
	__u32 identity; /* of the remote */
	__be16 port; /* asked for; ICMP: type */
	__u8 direction;
	__u8 protocol;
	__u32 mark; /* of the proxy; 0: there is none that could take it */
};

struct weft_decision {
	__u32 cookie;
	__u8 verdict; /* weft_verdict */
	__u8 match;
	__u8 reason; /* why not; WEFT_OK: it may */
	__u8 judged; /* 0: no policy in that direction */
};

static __always_inline int weft_enforced(const struct weft_endpoint *endpoint, __u8 direction)
{
	return !!(endpoint->flags & (direction == WEFT_INGRESS ? WEFT_EP_ENFORCE_INGRESS : WEFT_EP_ENFORCE_EGRESS));
}

static __always_inline int weft_governed(const struct weft_endpoint *endpoint, __u8 direction)
{
	return !!(endpoint->flags & (direction == WEFT_INGRESS ? WEFT_EP_ENFORCE_INGRESS | WEFT_EP_HAS_INGRESS :
								 WEFT_EP_ENFORCE_EGRESS | WEFT_EP_HAS_EGRESS));
}

static __always_inline int weft_known_protocol(__u8 protocol)
{
	return weft_has_ports(protocol) || weft_is_icmp(protocol);
}

/* Why a verdict stops a packet. A redirect stops it as long as there is no proxy to take it; it takes TCP alone. */
static __always_inline __u8 weft_reason_of(__u8 verdict, __u8 match, __u8 protocol, __u32 mark)
{
	if (verdict == WEFT_ALLOW)
		return WEFT_OK;
	if (verdict == WEFT_REDIRECT)
		return mark && protocol == IPPROTO_TCP ? WEFT_OK : WEFT_DROP_NO_PROXY;
	if (match != WEFT_MATCH_NONE)
		return WEFT_DROP_POLICY_DENY;
	return weft_known_protocol(protocol) ? WEFT_DROP_POLICY : WEFT_DROP_L4_UNKNOWN;
}

static __always_inline const struct weft_policy_value *weft_find_entry(void *table,
									const struct weft_question *question)
{
	struct weft_policy_key key = {
		.prefixlen = WEFT_POLICY_PREFIX,
		.identity = question->identity,
		.direction = question->direction,
		.protocol = question->protocol,
		.port = question->port,
	};
	const struct weft_policy_value *value = bpf_map_lookup_elem(table, &key);

	if (value)
		return value;
	key.identity = WEFT_ANY_IDENTITY;
	return bpf_map_lookup_elem(table, &key);
}

static __always_inline void weft_judge(const struct weft_endpoint *endpoint, const struct weft_question *question,
				       struct weft_decision *decision)
{
	const struct weft_policy_value *value;
	__u32 policy_id = endpoint->policy_id;
	void *table;

	__builtin_memset(decision, 0, sizeof(*decision));
	decision->verdict = WEFT_ALLOW;
	if (!weft_governed(endpoint, question->direction)) /* 1 */
		return;
	decision->judged = 1;
	table = weft_lookup(policies, &policy_id);
	if (!table) { /* 2 */
		decision->verdict = WEFT_DENY;
		decision->reason = WEFT_DROP_NO_POLICY;
		return;
	}
	value = weft_find_entry(table, question); /* 3, 4 */
	if (value) {
		decision->verdict = value->verdict;
		decision->match = value->match;
		decision->cookie = value->cookie;
		/* the node to its own workload (E11): it passes by the proxy */
		if (value->verdict == WEFT_REDIRECT && value->flags & WEFT_POLICY_BYPASS)
			decision->verdict = WEFT_ALLOW;
	} else if (weft_enforced(endpoint, question->direction)) { /* 5 */
		decision->verdict = WEFT_DENY;
	}
	decision->reason = weft_reason_of(decision->verdict, decision->match, question->protocol, question->mark);
}

static __always_inline void weft_adopt(struct weft_flow *flow, const struct weft_decision *decision, __u8 origin)
{
	flow->origin = origin;
	flow->verdict = decision->verdict;
	flow->match = decision->match;
	flow->cookie = decision->cookie;
	flow->reason = decision->reason;
	flow->tell_verdict = decision->judged;
}

#endif
