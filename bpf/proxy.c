// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/* Where packets come in again that a workload's veth has turned round: they are for the proxy, and judged. Nobody else
 * sends here. What nobody takes is reset: the answer goes on its way as if the packet's destination had sent it.
 */
#include <uapi/linux/bpf.h>
#include <linux/pkt_cls.h>
#include "lib/proxy.h"
#include "lib/reset.h"

#define WEFT_PACKET_HOST 0

int weft_to_proxy(struct __sk_buff *skb)
{
	const struct weft_config *config = weft_config();
	struct weft_flow *flow = weft_flow(WEFT_INGRESS);

	if (!config || !flow || weft_parse(skb, &flow->packet) || flow->packet.protocol != IPPROTO_TCP)
		return TC_ACT_SHOT;
	bpf_skb_change_type(skb, WEFT_PACKET_HOST); /* it bears the workload's hardware address */
	flow->mark = config->proxy_mark;
	if (flow->mark && weft_assign(skb, flow)) {
		skb->mark |= flow->mark;
		return TC_ACT_UNSPEC;
	}
	if (weft_make_reset(skb, &flow->packet))
		return TC_ACT_SHOT;
	weft_stat(WEFT_STAT_PROXY_RESET);
	skb->mark &= ~flow->mark;
	return TC_ACT_UNSPEC;
}
