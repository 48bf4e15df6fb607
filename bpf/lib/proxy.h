/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The way to the node's L7 proxy, and back. The proxy lives in the node's network namespace; its sockets bear the mark
 * bit, and so do the packets that are to reach them: a rule delivers those here (daemon/steering.py).
 *
 * A packet is steered at tc ingress alone: to the socket of its connection, else to the listener, which takes a SYN and
 * resets the rest. At a veth's egress it is turned round to come in at weft-p0, where weft_to_proxy steers it.
 *
 * What may be taken for the proxy's: a packet with the mark that this node itself sent (a workload's is cleared at its
 * veth, and one from elsewhere cannot have it), and a socket of this namespace with the mark.
 */
#ifndef WEFT_PROXY_H
#define WEFT_PROXY_H

#include "lib/config.h"
#include "lib/flow.h"

#define WEFT_CT_PROXIED (WEFT_CT_F_TO_PROXY | WEFT_CT_F_FROM_PROXY)

#define WEFT_TCP_TIME_WAIT 6
#define WEFT_TCP_LISTEN 10

static __always_inline const struct weft_proxy *weft_proxy(void)
{
	__u32 zero = 0;

	return weft_lookup(proxy, &zero);
}

/* --- sockets ------------------------------------------------------------------------------------------------- */

/* The socket that has this packet's connection; `back`: its connection seen from the sender. */
static __always_inline struct bpf_sock *weft_socket(struct __sk_buff *skb, const struct weft_packet *packet, int back)
{
	const __u32 *src = back ? packet->dst : packet->src;
	const __u32 *dst = back ? packet->src : packet->dst;
	__be16 sport = back ? packet->dst_port : packet->src_port;
	__be16 dport = back ? packet->src_port : packet->dst_port;
	struct bpf_sock_tuple tuple = {};

	if (packet->family == WEFT_IPV4) {
		tuple.ipv4.saddr = src[0];
		tuple.ipv4.daddr = dst[0];
		tuple.ipv4.sport = sport;
		tuple.ipv4.dport = dport;
		return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	weft_copy_address(tuple.ipv6.saddr, src);
	weft_copy_address(tuple.ipv6.daddr, dst);
	tuple.ipv6.sport = sport;
	tuple.ipv6.dport = dport;
	return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

static __always_inline struct bpf_sock *weft_listening(struct __sk_buff *skb, const struct weft_packet *packet,
						       __be16 port)
{
	struct bpf_sock_tuple tuple = {};

	if (packet->family == WEFT_IPV4) {
		tuple.ipv4.saddr = packet->src[0];
		tuple.ipv4.daddr = bpf_htonl(0x7f000001);
		tuple.ipv4.sport = packet->src_port;
		tuple.ipv4.dport = port;
		return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	weft_copy_address(tuple.ipv6.saddr, packet->src);
	tuple.ipv6.daddr[3] = bpf_htonl(1);
	tuple.ipv6.sport = packet->src_port;
	tuple.ipv6.dport = port;
	return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

static __always_inline int weft_bears(struct bpf_sock *sk, __u32 mark)
{
	struct bpf_sock *full = bpf_sk_fullsock(sk);

	return full && full->mark & mark;
}

/* Not the host's own, which may listen on any address at the service's port. A connection that is opening has no mark
 * to show yet, and one in TIME_WAIT none any more: those of a known connection are the proxy's. */
static __always_inline int weft_is_proxys(struct bpf_sock *sk, __u32 mark)
{
	if (sk->state == WEFT_TCP_LISTEN)
		return 0;
	return !bpf_sk_fullsock(sk) || weft_bears(sk, mark);
}

/* Whether the proxy has this connection, of which nothing else is known. `waiting`: or had it a moment ago; who else
 * of this namespace would have a workload's address. */
static __always_inline int weft_proxy_has(struct __sk_buff *skb, const struct weft_flow *flow, int back, int waiting)
{
	struct bpf_sock *sk = weft_socket(skb, &flow->packet, back);
	int has;

	if (!sk)
		return 0;
	has = sk->state != WEFT_TCP_LISTEN &&
	      ((waiting && sk->state == WEFT_TCP_TIME_WAIT) || weft_bears(sk, flow->mark));
	bpf_sk_release(sk);
	return has;
}

static __always_inline int weft_proxy_listens(struct __sk_buff *skb, const struct weft_flow *flow, int assign)
{
	const struct weft_proxy *proxy = weft_proxy();
	struct bpf_sock *sk;
	int listens = 0;

	if (!proxy || !proxy->port)
		return 0;
	sk = weft_listening(skb, &flow->packet, bpf_htons(proxy->port));
	if (!sk)
		return 0;
	if (sk->state == WEFT_TCP_LISTEN && weft_bears(sk, flow->mark))
		listens = !assign || !bpf_sk_assign(skb, sk, 0);
	bpf_sk_release(sk);
	return listens;
}

/* At tc ingress. 0: nobody is there to take it. Fragments are put together before they meet a socket: for them the
 * mark has to do. An established socket is found by the mark alone, too, should assigning fail. */
static __always_inline int weft_assign(struct __sk_buff *skb, struct weft_flow *flow)
{
	struct bpf_sock *sk;
	int known = 0;

	if (flow->packet.fragment)
		return 1;
	sk = weft_socket(skb, &flow->packet, 0);
	if (sk) {
		/* a new connection is the listener's: the kernel would look for one at the service's address */
		flow->waited = sk->state == WEFT_TCP_TIME_WAIT && weft_is_syn(&flow->packet);
		known = !flow->waited && weft_is_proxys(sk, flow->mark);
		if (known)
			bpf_sk_assign(skb, sk, 0);
		bpf_sk_release(sk);
	}
	return known || weft_proxy_listens(skb, flow, 1);
}

/* --- what is known of a connection before policy is asked ---------------------------------------------------- */

static __always_inline int weft_is_from_proxys_port(__be16 port)
{
	const struct weft_proxy *proxy = weft_proxy();

	return proxy && proxy->first_port && bpf_ntohs(port) >= proxy->first_port;
}

/* A service that has routes, or one of its backends, which selects it as well. */
static __always_inline int weft_is_routed(const struct weft_packet *packet)
{
	struct weft_service_key key = {
		.family = packet->family,
		.port = packet->dst_port,
		.protocol = IPPROTO_TCP,
	};
	const struct weft_service_value *value;

	weft_copy_address(key.addr, packet->dst);
	value = weft_lookup(services, &key);
	return value && value->flags & WEFT_SVC_PROXY;
}

/* A connection of which only the proxy's sockets tell: conntrack never had it, or has forgotten it. */
static __always_inline void weft_recognize(struct weft_flow *flow, __u8 proxied, __u8 origin)
{
	flow->proxied = proxied;
	flow->origin = origin;
	flow->either = WEFT_SURE;
	flow->midstream = 1;
	/* what the client asked for is the proxy's to judge: it may be a service's address, which no policy knows */
	flow->unjudged = proxied == WEFT_CT_F_TO_PROXY && origin == WEFT_EGRESS;
}

static __always_inline void weft_meet_opening(struct weft_flow *flow)
{
	if (flow->marked)
		flow->proxied = WEFT_CT_F_FROM_PROXY;
	else if (flow->direction == WEFT_EGRESS && weft_is_routed(&flow->packet)) {
		flow->proxied = WEFT_CT_F_TO_PROXY;
		flow->unjudged = 1;
	}
}

static __always_inline void weft_meet_unknown(struct __sk_buff *skb, struct weft_flow *flow)
{
	if (flow->direction == WEFT_EGRESS) {
		if (!weft_proxy_has(skb, flow, 0, 0))
			return;
		if (weft_is_from_proxys_port(flow->packet.dst_port))
			weft_recognize(flow, WEFT_CT_F_FROM_PROXY, WEFT_INGRESS);
		else
			weft_recognize(flow, WEFT_CT_F_TO_PROXY, WEFT_EGRESS);
	} else if (flow->marked) {
		if (weft_is_from_proxys_port(flow->packet.src_port))
			weft_recognize(flow, WEFT_CT_F_FROM_PROXY, WEFT_INGRESS);
		else
			weft_recognize(flow, WEFT_CT_F_TO_PROXY, WEFT_EGRESS);
	} else if (weft_proxy_has(skb, flow, 0, 0)) {
		weft_recognize(flow, WEFT_CT_F_TO_PROXY, WEFT_INGRESS);
	}
}

static __always_inline void weft_meet_proxy(struct __sk_buff *skb, struct weft_flow *flow,
					    const struct weft_ct_value *entry)
{
	if (!flow->has_proxy || flow->packet.protocol != IPPROTO_TCP)
		return;
	if (weft_is_syn(&flow->packet)) {
		weft_meet_opening(flow);
	} else if (!entry) {
		weft_meet_unknown(skb, flow);
	} else if (entry->state & WEFT_CT_PROXIED) {
		flow->proxied = entry->state & WEFT_CT_PROXIED;
		flow->origin = entry->origin;
		flow->either = WEFT_SURE;
	}
}

/* --- what follows from the verdict --------------------------------------------------------------------------- */

/* Who speaks in a connection of the proxy: its opener in one TO it; who was opened, and else the proxy alone, in
 * one FROM it. */
static __always_inline int weft_may_speak(const struct weft_flow *flow)
{
	return flow->marked || (flow->direction == flow->origin) == (flow->proxied == WEFT_CT_F_TO_PROXY);
}

/* Steers a packet of the proxy's connections, or says why not. */
static __always_inline __u8 weft_steer(struct __sk_buff *skb, struct weft_flow *flow)
{
	if (!weft_may_speak(flow))
		return WEFT_DROP_NOT_THE_PROXY;
	if (flow->marked)
		return WEFT_OK;
	if (flow->direction == WEFT_EGRESS) {
		if (!flow->mark || !weft_assign(skb, flow))
			return WEFT_DROP_NO_PROXY;
	} else if (weft_is_syn(&flow->packet) && (!flow->mark || !weft_proxy_listens(skb, flow, 0))) {
		return WEFT_DROP_NO_PROXY;
	}
	flow->steered = 1;
	return WEFT_OK;
}

static __always_inline void weft_divert(struct __sk_buff *skb, struct weft_flow *flow)
{
	if (flow->reason || (!flow->proxied && flow->verdict != WEFT_REDIRECT))
		return;
	if (!flow->proxied) {
		if (flow->marked)
			return; /* the proxy answers where the connection was judged */
		if (!weft_is_syn(&flow->packet)) {
			flow->reason = WEFT_DROP_BECAME_JUDGED;
			weft_stat(WEFT_STAT_BECAME_JUDGED);
			return;
		}
		flow->proxied = WEFT_CT_F_TO_PROXY;
	}
	flow->reason = weft_steer(skb, flow);
}

/* The proxy's connections in a workload's name end at the proxy's ports. A workload that sends from there would speak
 * in the proxy's stead, behind its judgement; what others send there is for the proxy, wherever it is routed. */
static __always_inline __u8 weft_at_proxys_ports(struct __sk_buff *skb, struct weft_flow *flow)
{
	if (!flow->has_proxy || flow->marked || flow->packet.protocol != IPPROTO_TCP)
		return WEFT_OK;
	if (flow->direction == WEFT_EGRESS) {
		if (weft_is_from_proxys_port(flow->packet.src_port) && weft_proxy_has(skb, flow, 1, 1))
			return WEFT_DROP_NOT_THE_PROXY;
	} else if (weft_is_from_proxys_port(flow->packet.dst_port) && !weft_is_syn(&flow->packet)) {
		flow->steered = weft_proxy_has(skb, flow, 0, 1);
	}
	return WEFT_OK;
}

#endif
