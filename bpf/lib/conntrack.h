/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Connections: one entry for each endpoint that a connection touches, found by both its directions.
 *
 * An entry that has been idle for longer than its timeout counts as absent here, whoever may be late to remove
 * it: the daemon's sweep only frees the memory.
 *
 * Counters and the cached verdict are written in place, without atomics: two CPUs that handle one connection at
 * the same moment may lose a count. Which way we err: never a verdict. A revision is written after the verdict that
 * it vouches for, and whoever comes in between judges again.
 */
#ifndef WEFT_CONNTRACK_H
#define WEFT_CONNTRACK_H

#include "lib/config.h"
#include "lib/flow.h"
#include "lib/icmp.h"
#include "lib/policy.h"

/* Cilium's: 2 h 13 min 20 s is a little more than the 2 h after which TCP keep-alive speaks up by default. */
#define WEFT_CT_ESTABLISHED_MS 8000000ull
#define WEFT_CT_SYN_MS 60000ull /* no answer yet */
#define WEFT_CT_CLOSING_MS 10000ull /* RST, or FIN both ways: the last acknowledgements */
#define WEFT_CT_OTHER_MS 60000ull

#define WEFT_EEXIST 17

#define WEFT_CT_BOTH_FIN (WEFT_CT_F_FIN_IN | WEFT_CT_F_FIN_OUT)

/* --- keys ---------------------------------------------------------------------------------------------------- */

/* `alone`: the packet is taken for itself, no answer to anything */
static __always_inline void weft_ct_icmp(const struct weft_packet *packet, __u8 direction, int alone,
					 struct weft_ct_key *key)
{
	__u8 type = packet->icmp_type;

	key->icmp_type = type;
	key->icmp_origin = 1 + direction;
	key->local_port = 0;
	key->remote_port = 0;
	if (!alone && weft_is_icmp_reply(packet->family, type)) {
		key->icmp_type = weft_icmp_request_of(packet->family, type);
		key->icmp_origin = 1 + !direction;
	} else if (!weft_is_icmp_request(packet->family, type)) {
		return;
	}
	if (weft_icmp_has_id(packet->family, key->icmp_type))
		key->local_port = packet->src_port;
}

/* --- entries ------------------------------------------------------------------------------------------------- */

static __always_inline void weft_ct_key(const struct weft_packet *packet, __u32 ep_id, __u8 direction,
					struct weft_ct_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->ep_id = ep_id;
	key->family = packet->family;
	key->protocol = packet->protocol;
	if (direction == WEFT_EGRESS) {
		key->local_port = packet->src_port;
		key->remote_port = packet->dst_port;
		weft_copy_address(key->local, packet->src);
		weft_copy_address(key->remote, packet->dst);
	} else {
		key->local_port = packet->dst_port;
		key->remote_port = packet->src_port;
		weft_copy_address(key->local, packet->dst);
		weft_copy_address(key->remote, packet->src);
	}
	if (weft_packet_is_icmp(packet))
		weft_ct_icmp(packet, direction, 0, key);
}

static __always_inline int weft_ct_closing(const struct weft_ct_value *entry)
{
	return entry->state & WEFT_CT_F_RST || (entry->state & WEFT_CT_BOTH_FIN) == WEFT_CT_BOTH_FIN;
}

static __always_inline __u64 weft_ct_timeout(const struct weft_ct_value *entry, __u8 protocol)
{
	if (protocol != IPPROTO_TCP)
		return WEFT_CT_OTHER_MS * WEFT_NS_PER_MS;
	if (weft_ct_closing(entry))
		return WEFT_CT_CLOSING_MS * WEFT_NS_PER_MS;
	if (!(entry->state & (WEFT_CT_F_SEEN_REPLY | WEFT_CT_F_MIDSTREAM)))
		return WEFT_CT_SYN_MS * WEFT_NS_PER_MS;
	return WEFT_CT_ESTABLISHED_MS * WEFT_NS_PER_MS;
}

static __always_inline struct weft_ct_value *weft_ct_find(const struct weft_ct_key *key, __u64 now)
{
	struct weft_ct_value *entry = weft_lookup(ct, key);

	/* another CPU's clock may be a tick ahead: signed */
	if (entry && (__s64)(now - entry->seen_ns) > (__s64)weft_ct_timeout(entry, key->protocol))
		return 0;
	return entry;
}

static __always_inline __u8 weft_ct_state_bits(const struct weft_flow *flow)
{
	__u8 bits = flow->direction != flow->origin ? WEFT_CT_F_SEEN_REPLY : 0;

	if (flow->packet.tcp_flags & WEFT_TCP_FIN)
		bits |= flow->direction == WEFT_INGRESS ? WEFT_CT_F_FIN_IN : WEFT_CT_F_FIN_OUT;
	if (flow->packet.tcp_flags & WEFT_TCP_RST)
		bits |= WEFT_CT_F_RST;
	return bits;
}

static __always_inline void weft_ct_account(struct weft_ct_value *entry, const struct weft_flow *flow, __u32 bytes)
{
	__u8 state = entry->state | weft_ct_state_bits(flow);
	__u32 side = weft_side(flow);

	entry->seen_ns = flow->now;
	entry->packets[side] += 1;
	entry->bytes[side] += bytes;
	if (state != entry->state)
		entry->state = state;
}

/* Aggregation: the first packet of each direction, each of SYN, FIN and RST when first seen, then one in a while. */
static __always_inline int weft_ct_worth_telling(struct weft_ct_value *entry, const struct weft_flow *flow)
{
	__u8 flags = flow->packet.tcp_flags & (WEFT_TCP_SYN | WEFT_TCP_FIN | WEFT_TCP_RST);
	__u32 side = weft_side(flow);
	__u8 news = flags & ~entry->tcp_flags[side];
	__u64 reported = entry->reported_ns[side];

	if (news)
		entry->tcp_flags[side] |= flags;
	if (!news && reported && (__s64)(flow->now - reported) < (__s64)flow->trace_interval)
		return 0;
	entry->reported_ns[side] = flow->now;
	return 1;
}

static __always_inline void weft_recall(struct weft_flow *flow, const struct weft_ct_value *entry, __u8 protocol)
{
	flow->origin = entry->origin;
	flow->remote_identity = entry->remote_identity;
	flow->verdict = entry->verdict;
	flow->match = entry->match;
	flow->cookie = entry->cookie;
	flow->reason = weft_reason_of(entry->verdict, entry->match, protocol, flow->mark);
}

static __always_inline void weft_store(struct weft_ct_value *entry, const struct weft_flow *flow)
{
	entry->origin = flow->origin;
	entry->verdict = flow->verdict;
	entry->match = flow->match;
	entry->cookie = flow->cookie;
	entry->remote_identity = flow->remote_identity;
	asm volatile("" ::: "memory"); /* the revision vouches for what stands above: last */
	entry->revision = flow->revision;
}

/* The map evicts the longest unused: failing to make room at all stops the packet, for its answer would not pass.
 * The entry is made without its first packet, and found again to count it like any other. */
static __always_inline struct weft_ct_value *weft_ct_create(const struct weft_ct_key *key, const struct weft_flow *flow)
{
	struct weft_ct_value entry = {
		.created_ns = flow->now,
		.seen_ns = flow->now,
		.revision = flow->revision,
		.remote_identity = flow->remote_identity,
		.cookie = flow->cookie,
		.origin = flow->origin,
		.state = (flow->midstream ? WEFT_CT_F_MIDSTREAM : 0) | (flow->outside ? WEFT_CT_F_OUTSIDE : 0) |
			 flow->proxied,
		.verdict = flow->verdict,
		.match = flow->match,
		.icmp_type = key->icmp_type,
	};
	long failed = weft_update(ct, key, &entry, BPF_NOEXIST);

	if (!failed)
		weft_stat(WEFT_STAT_CT_CREATED);
	else if (failed == -WEFT_EEXIST) /* one that is over: counted when it was made */
		failed = weft_update(ct, key, &entry, BPF_ANY);
	if (failed) {
		weft_stat(WEFT_STAT_CT_INSERT_FAILED);
		return 0;
	}
	return weft_lookup(ct, key);
}

#endif
