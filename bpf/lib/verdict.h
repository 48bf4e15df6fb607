/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Policy and conntrack together. A packet is, in this order:
 *
 *   1 an ICMP error about a known connection that is allowed: related
 *   2 a TCP SYN: a new connection in its own direction, whatever is known of those ports
 *   3 part of a known connection: the connection's verdict, judged anew if policy has moved since
 *   4 the proxy's, if it is TCP and the node has one: lib/proxy.h
 *   5 TCP without an entry (installed later, or evicted): either orientation may admit it
 *   6 the first of a connection: judged in its own direction
 *
 * A verdict belongs to the orientation of who opened the connection. Both directions use it, so taking it back
 * cuts both.
 *
 * Each goes through four stages: orient (whose connection is it), settle (may it), divert (is it for the proxy),
 * record (remember, count).
 * Policy is looked up in one place, or the verifier would have to walk it once for each kind.
 */
#ifndef WEFT_VERDICT_H
#define WEFT_VERDICT_H

#include "lib/conntrack.h"
#include "lib/parse.h"
#include "lib/policy.h"
#include "lib/proxy.h"

/* Linux gives its clients ports from here on (ip_local_port_range), other systems higher ones. */
#define WEFT_CLIENT_PORTS 32768

/* --- 1 related ----------------------------------------------------------------------------------------------- */

/* The quoted packet went the other way, and who sent it is told of it: an error that goes elsewhere would carry its
 * quotation to strangers. One that was cut before its ports relates to nothing. */
static __always_inline int weft_quoted_key(struct __sk_buff *skb, struct weft_flow *flow, struct weft_ct_key *key)
{
	struct weft_packet *quoted = &flow->quoted;
	__u32 offset = flow->packet.l4 + sizeof(struct weft_icmp);

	__builtin_memset(quoted, 0, sizeof(*quoted));
	if (weft_parse_ip(skb, offset, quoted, flow->packet.family, 1) ||
	    quoted->fragment == WEFT_LATER_FRAGMENT || !weft_same_address(quoted->src, flow->packet.dst))
		return -1;
	weft_ct_key(quoted, flow->endpoint.ep_id, !flow->direction, key);
	return 0;
}

/* Only a verdict in force counts: the packet that is complained of went by here a moment ago, and renewed it. */
static __always_inline int weft_related(struct __sk_buff *skb, struct weft_flow *flow)
{
	struct weft_ct_value *entry;
	struct weft_ct_key key;

	if (!weft_is_icmp_error(&flow->packet) || weft_quoted_key(skb, flow, &key))
		return 0;
	entry = weft_ct_find(&key, flow->now);
	if (!entry || entry->revision != flow->revision ||
	    (entry->verdict != WEFT_ALLOW && !(entry->state & WEFT_CT_PROXIED)))
		return 0;
	weft_recall(flow, entry, key.protocol);
	flow->ct_state = WEFT_CT_RELATED;
	flow->tell_trace = weft_ct_worth_telling(entry, flow);
	return 1;
}

/* --- orient -------------------------------------------------------------------------------------------------- */

/* Other protocols than TCP have no SYN to tell who opened: what one side started may go on as the other's. */
static __always_inline int weft_has_no_opening(__u8 protocol)
{
	return protocol != IPPROTO_TCP && !weft_is_icmp(protocol);
}

/* A guess at who opened it, for the flow's arrow: SYN+ACK answers, and the lower port serves. */
static __always_inline int weft_looks_like_reply(const struct weft_packet *packet)
{
	return packet->tcp_flags & WEFT_TCP_SYN || bpf_ntohs(packet->src_port) < bpf_ntohs(packet->dst_port);
}

/* TCP in midstream. A port of the kind that clients are given, at one end only, tells who opened it. Else it is a
 * guess, and the other orientation may admit it too. Without such a port somebody has chosen his own, maybe to be
 * taken for the other side: then only rules count, and no direction's lack of them. */
static __always_inline void weft_orient_midstream(struct weft_flow *flow)
{
	int client_sends = bpf_ntohs(flow->packet.src_port) >= WEFT_CLIENT_PORTS;
	int client_hears = bpf_ntohs(flow->packet.dst_port) >= WEFT_CLIENT_PORTS;

	flow->midstream = 1;
	if (client_sends == client_hears)
		flow->either = client_sends ? WEFT_EITHER : WEFT_EITHER_BY_RULE;
	else
		flow->origin = client_sends ? flow->direction : !flow->direction;
}

static __always_inline void weft_orient(struct weft_flow *flow, const struct weft_ct_value *entry)
{
	const struct weft_packet *packet = &flow->packet;

	if (weft_is_syn(packet)) /* 2 */
		return;
	if (entry) { /* 3 */
		flow->origin = entry->origin;
		flow->outside |= !!(entry->state & WEFT_CT_F_OUTSIDE);
		if (entry->state & WEFT_CT_F_MIDSTREAM)
			weft_orient_midstream(flow);
		else if (flow->origin != flow->direction && weft_has_no_opening(packet->protocol))
			flow->either = WEFT_EITHER_BY_RULE; /* or an answer would reopen what was taken back */
	} else if (packet->protocol == IPPROTO_TCP) { /* 5 */
		if (weft_looks_like_reply(packet))
			flow->origin = !flow->direction;
		weft_orient_midstream(flow);
	}
}

/* --- settle -------------------------------------------------------------------------------------------------- */

static __always_inline void weft_question_of(const struct weft_ct_key *key, __u8 origin, __u32 identity,
					     struct weft_question *question)
{
	question->identity = identity;
	question->direction = origin;
	question->protocol = key->protocol;
	question->port = origin == WEFT_EGRESS ? key->remote_port : key->local_port;
	if (key->protocol == weft_icmp_of(key->family))
		question->port = bpf_htons(key->icmp_type);
	else if (weft_is_icmp(key->protocol))
		question->protocol = WEFT_PROTO_NONE; /* the other family's */
}

/* Maps change one after the other. While the remote's identity changes, an endpoint's table may know who it was or who
 * it becomes: refused as either, it is refused, so that there is no moment between. */
static __always_inline void weft_judge_remote(const struct weft_flow *flow, struct weft_question *question,
					      struct weft_decision *decision)
{
	struct weft_decision former;
	__u32 i;

	for (i = 0; i < 2; i++) {
		weft_judge(&flow->endpoint, question, &former);
		if (!i || former.reason)
			*decision = former;
		if (decision->reason || !flow->former_identity)
			break;
		question->identity = flow->former_identity;
	}
}

/* A rule, or the lack of one where one is asked for. What nobody governs is allowed without a word. */
static __always_inline int weft_says(__u8 match, __u8 reason)
{
	return match != WEFT_MATCH_NONE || reason;
}

/* Whether the second orientation's answer counts instead of the first's. */
static __always_inline int weft_prevails(const struct weft_flow *flow, const struct weft_decision *other)
{
	if (flow->either == WEFT_EITHER)
		return !other->reason;
	return weft_says(other->match, other->reason) && (!other->reason || !weft_says(flow->match, flow->reason));
}

/* Whether the first one's does, without asking the second. */
static __always_inline int weft_suffices(const struct weft_flow *flow, const struct weft_decision *first)
{
	if (flow->either == WEFT_EITHER_BY_RULE)
		return !first->reason && weft_says(first->match, first->reason);
	return flow->either == WEFT_SURE || !first->reason;
}

/* The guess first; if it is refused and only a guess, the other. Refused both ways: the guess's reason. */
static __always_inline void weft_decide(struct weft_flow *flow, const struct weft_ct_key *key)
{
	struct weft_question question;
	struct weft_decision decision;
	__u8 origin = flow->origin;
	__u32 i;

	question.mark = flow->mark;
	weft_identify(flow, key->family, (const __u32 *)key->remote);
	for (i = 0; i < 2; i++) {
		weft_question_of(key, origin, flow->remote_identity, &question);
		weft_judge_remote(flow, &question, &decision);
		if (!i || weft_prevails(flow, &decision))
			weft_adopt(flow, &decision, origin);
		if (!i && weft_suffices(flow, &decision))
			break;
		origin = !origin;
	}
}

/* What was asked for is the proxy's to judge, in whatever revision. */
static __always_inline int weft_is_left_to_proxy(const struct weft_ct_value *entry)
{
	return entry->state & WEFT_CT_F_TO_PROXY && entry->verdict == WEFT_REDIRECT && entry->match == WEFT_MATCH_NONE;
}

static __always_inline void weft_leave_to_proxy(struct weft_flow *flow, const struct weft_ct_key *key)
{
	weft_identify(flow, key->family, (const __u32 *)key->remote);
	flow->verdict = WEFT_REDIRECT;
	flow->reason = weft_reason_of(WEFT_REDIRECT, WEFT_MATCH_NONE, key->protocol, flow->mark);
}

static __always_inline int weft_is_settled(const struct weft_flow *flow, const struct weft_ct_value *entry)
{
	if (!entry || weft_is_syn(&flow->packet))
		return 0;
	if (entry->revision != flow->revision)
		return weft_is_left_to_proxy(entry);
	/* refused, but as the other side's connection it was not asked for yet */
	return entry->verdict == WEFT_ALLOW || !flow->either || flow->midstream;
}

/* --- record -------------------------------------------------------------------------------------------------- */

static __always_inline void weft_count_in(struct weft_ct_value *entry, struct weft_flow *flow, __u32 bytes)
{
	flow->tell_trace = weft_ct_worth_telling(entry, flow);
	weft_ct_account(entry, flow, bytes);
}

static __always_inline void weft_enter(struct weft_flow *flow, const struct weft_ct_key *key, __u32 bytes)
{
	struct weft_ct_value *entry;

	flow->tell_trace = 1;
	if (flow->packet.tcp_flags & WEFT_TCP_RST)
		return; /* nothing follows it */
	entry = weft_ct_create(key, flow);
	if (entry)
		weft_count_in(entry, flow, bytes);
	else
		flow->reason = WEFT_DROP_CT_FULL;
}

/* A SYN for an entry that lives is sent again, or blind, or both sides open at once. It had to pass policy by
 * itself; the other side's connection keeps its own verdict. What was met in midstream is nobody's for sure: a SYN
 * tells, or else a packet ahead of it could turn the connection around. */
static __always_inline int weft_is_alive(const struct weft_flow *flow, const struct weft_ct_value *entry)
{
	__u8 proxied = entry->state & WEFT_CT_PROXIED;

	if (weft_ct_closing(entry) || entry->state & WEFT_CT_F_MIDSTREAM ||
	    (entry->origin == flow->origin && proxied != flow->proxied))
		return 0;
	return entry->verdict == WEFT_ALLOW || proxied;
}

static __always_inline int weft_is_own(const struct weft_flow *flow, const struct weft_ct_value *entry, int syn)
{
	return !syn || (!flow->reason && entry->origin == flow->origin);
}

static __always_inline void weft_record(struct weft_flow *flow, const struct weft_ct_key *key,
					struct weft_ct_value *entry, int judged, __u32 bytes)
{
	int syn = weft_is_syn(&flow->packet);

	if (!entry || (syn && !weft_is_alive(flow, entry))) {
		if (!weft_stops(flow))
			weft_enter(flow, key, bytes);
		return;
	}
	if (judged && weft_is_own(flow, entry, syn)) {
		flow->tell_verdict &= flow->verdict != entry->verdict || flow->origin != entry->origin;
		weft_store(entry, flow);
	}
	if (!weft_stops(flow))
		weft_count_in(entry, flow, bytes);
}

/* --- all of it ----------------------------------------------------------------------------------------------- */

static __always_inline __u8 weft_ct_state_of(const struct weft_flow *flow, const struct weft_ct_value *entry)
{
	if (flow->origin != flow->direction)
		return WEFT_CT_REPLY;
	return entry && !weft_is_syn(&flow->packet) ? WEFT_CT_ESTABLISHED : WEFT_CT_NEW;
}

static __always_inline struct weft_ct_value *weft_find(const struct weft_flow *flow, struct weft_ct_key *key)
{
	const struct weft_packet *packet = &flow->packet;
	struct weft_ct_value *entry;

	weft_ct_key(packet, flow->endpoint.ep_id, flow->direction, key);
	entry = weft_ct_find(key, flow->now);
	if (entry || !weft_packet_is_icmp(packet) || !weft_is_icmp_reply(packet->family, packet->icmp_type))
		return entry;
	weft_ct_icmp(packet, flow->direction, 1, key); /* an answer that nobody asked for stands for itself */
	return weft_ct_find(key, flow->now);
}

static __always_inline void weft_track(struct __sk_buff *skb, struct weft_flow *flow)
{
	struct weft_ct_value *entry;
	struct weft_ct_key key;
	int settled;

	if (weft_related(skb, flow))
		return;
	entry = weft_find(flow, &key);
	weft_orient(flow, entry);
	weft_meet_proxy(skb, flow, entry);
	settled = weft_is_settled(flow, entry);
	if (settled)
		weft_recall(flow, entry, key.protocol);
	else if (flow->unjudged)
		weft_leave_to_proxy(flow, &key);
	else
		weft_decide(flow, &key);
	weft_divert(skb, flow);
	flow->ct_state = weft_ct_state_of(flow, entry);
	weft_record(flow, &key, entry, !settled, skb->len);
}

#endif
