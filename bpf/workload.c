// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/* The two programs on the node's side of a workload's veth: who is it, may it, where to.
 *
 * Stages: parse, link control, endpoint, source, fragments, conntrack, policy and proxy (lib/verdict.h), finish. Each
 * packet is counted once, in `counters`, under the reason why it was dropped or under 0: the sum is what crossed.
 */
#include <uapi/linux/bpf.h>
#include <linux/pkt_cls.h>
#include "lib/account.h"
#include "lib/events.h"
#include "lib/fragment.h"
#include "lib/link.h"
#include "lib/reset.h"
#include "lib/verdict.h"

/* Not TC_ACT_OK, which would end the list: the network plugin's programs on this device have their say too. */
#define WEFT_NEXT TC_ACT_UNSPEC

/* to come in again where a socket can be assigned */
static __always_inline int weft_turn_round(void)
{
	const struct weft_proxy *proxy = weft_proxy();

	return proxy ? bpf_redirect(proxy->ifindex, BPF_F_INGRESS) : TC_ACT_SHOT;
}

static __always_inline int weft_pass(struct __sk_buff *skb, const struct weft_flow *flow)
{
	weft_count(flow->endpoint.ep_id, flow->direction, WEFT_OK, skb->len);
	if (!flow->steered)
		return WEFT_NEXT;
	if (flow->direction == WEFT_INGRESS || flow->waited)
		return weft_turn_round();
	skb->mark |= flow->mark;
	return WEFT_NEXT;
}

static __always_inline int weft_answers(__u8 reason)
{
	return reason == WEFT_DROP_NO_PROXY || reason == WEFT_DROP_BECAME_JUDGED;
}

/* Who waits for a proxy is told at once that there is none, or that the connection is to be opened anew: a reset goes
 * straight to the workload that sent; to others, by way of weft-p0. */
static __always_inline int weft_refuse(struct __sk_buff *skb, const struct weft_flow *flow)
{
	if (!weft_is_resettable(&flow->packet))
		return TC_ACT_SHOT;
	if (flow->direction == WEFT_INGRESS)
		return flow->has_proxy ? weft_turn_round() : TC_ACT_SHOT;
	if (weft_make_reset(skb, &flow->packet))
		return TC_ACT_SHOT;
	weft_stat(WEFT_STAT_PROXY_RESET);
	return bpf_redirect_peer(skb->ifindex, 0);
}

static __always_inline int weft_drop(struct __sk_buff *skb, struct weft_flow *flow)
{
	const struct weft_packet *packet = &flow->packet;

	weft_count(flow->endpoint.ep_id, flow->direction, flow->reason, skb->len);
	if (packet->family && !flow->remote_identity) {
		if (flow->direction == WEFT_EGRESS)
			weft_identify(flow, packet->family, packet->dst);
		else
			weft_identify(flow, packet->family, packet->src);
	}
	weft_tell(skb, flow, WEFT_EV_DROP);
	return weft_answers(flow->reason) ? weft_refuse(skb, flow) : TC_ACT_SHOT;
}

static __always_inline int weft_drop_for(struct __sk_buff *skb, struct weft_flow *flow, __u8 reason)
{
	flow->reason = reason;
	flow->verdict = WEFT_DENY;
	return weft_drop(skb, flow);
}

static __always_inline int weft_finish(struct __sk_buff *skb, struct weft_flow *flow)
{
	/* packets of who opened the connection count for the rules that let it: replies have none of their own */
	if (flow->cookie && flow->origin == flow->direction)
		weft_count_rule(flow->endpoint.ep_id, flow->cookie, flow->direction, flow->verdict, skb->len);
	if (flow->tell_verdict)
		weft_tell(skb, flow, WEFT_EV_VERDICT);
	if (weft_stops(flow))
		return weft_drop(skb, flow);
	if (flow->tell_trace)
		weft_tell(skb, flow, WEFT_EV_TRACE);
	return weft_pass(skb, flow);
}

static __always_inline void weft_configure(struct weft_flow *flow, const struct weft_config *config)
{
	flow->revision = config->revision;
	flow->audit = !!(config->flags & WEFT_CFG_AUDIT);
	flow->trace_interval = config->trace_interval_ms * WEFT_NS_PER_MS;
	flow->has_proxy = !!(config->flags & WEFT_CFG_PROXY);
	flow->mark = flow->has_proxy ? config->proxy_mark : 0;
	flow->now = weft_coarse_ns();
}

/* The reason to drop before anybody is judged. The endpoint comes after the parser, which needs none. */
static __always_inline int weft_admit(struct __sk_buff *skb, struct weft_flow *flow, int parsed,
				      const struct weft_endpoint *endpoint)
{
	int reason;

	if (parsed)
		return parsed;
	if (!endpoint) {
		weft_stat(WEFT_STAT_NO_ENDPOINT);
		return WEFT_DROP_NO_POLICY;
	}
	if (flow->direction == WEFT_EGRESS && !weft_owns(&flow->endpoint, &flow->packet))
		return WEFT_DROP_SOURCE_IP;
	reason = weft_fragment(flow);
	return reason ? reason : weft_at_proxys_ports(skb, flow);
}

static __always_inline int weft_is_arp(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_ARP) && !skb->vlan_present;
}

static __always_inline int weft_workload(struct __sk_buff *skb, __u8 direction)
{
	const struct weft_config *config = weft_config();
	struct weft_flow *flow = weft_flow(direction);
	const struct weft_endpoint *endpoint;
	__u32 ifindex = skb->ifindex;

	if (!config || !flow)
		return TC_ACT_SHOT;
	weft_configure(flow, config);
	flow->outside = direction == WEFT_INGRESS && skb->ingress_ifindex;
	flow->marked = direction == WEFT_INGRESS && !skb->ingress_ifindex && skb->mark & flow->mark;
	if (direction == WEFT_EGRESS && config->proxy_mark)
		skb->mark &= ~config->proxy_mark; /* only the node's own proxy may bear it */
	if (!weft_is_arp(skb))
		flow->reason = weft_parse(skb, &flow->packet);
	endpoint = weft_lookup(endpoints, &ifindex);
	if (endpoint)
		flow->endpoint = *endpoint;
	if (weft_is_arp(skb) || (!flow->reason && weft_is_link_control(&flow->packet, direction)))
		return weft_pass(skb, flow);
	flow->reason = weft_admit(skb, flow, flow->reason, endpoint);
	if (flow->reason)
		return weft_drop_for(skb, flow, flow->reason);
	if (flow->steered) /* an answer to the proxy: no connection of this workload's */
		return weft_pass(skb, flow);
	weft_track(skb, flow);
	return weft_finish(skb, flow);
}

int weft_from_workload(struct __sk_buff *skb)
{
	return weft_workload(skb, WEFT_EGRESS);
}

int weft_to_workload(struct __sk_buff *skb)
{
	return weft_workload(skb, WEFT_INGRESS);
}
