// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/* Where packets come in again that a workload's veth has turned round: they are for the proxy, and judged. Nobody else
 * sends here. What nobody takes is reset: the answer goes on its way as if the packet's destination had sent it.
 */
#include <uapi/linux/bpf.h>
#include <linux/pkt_cls.h>
#include "lib/proxy.h"
#include "lib/reset.h"

#define WEFT_PACKET_HOST 0
#define WEFT_TCP_FLAGS 12 /* offset of a word of two bytes: header length, and the flags in the second */

/* A client may use its port again while the proxy's end of the connection before is in TIME_WAIT. The kernel makes way
 * for a new connection where it finds a listener for the packet's address, and no program can end that wait. So the
 * packet goes twice: first, with another port and FIN, to the waiting socket. That makes way, if sequence and
 * timestamp allow, for a listener at this device (daemon/steering.py), which lets go of what has SYN and FIN. And
 * then, with the mark, as it is. */
static __always_inline int weft_make_way(struct __sk_buff *skb, const struct weft_packet *packet)
{
	const struct weft_proxy *proxy = weft_proxy();
	__u32 l4 = packet->l4;
	__be16 port, before, after;
	struct bpf_sock *sk;

	if (!proxy || bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS) ||
	    bpf_skb_load_bytes(skb, l4 + WEFT_TCP_FLAGS, &before, 2))
		return TC_ACT_SHOT;
	port = bpf_htons(proxy->port + 1);
	after = before | bpf_htons(WEFT_TCP_FIN);
	bpf_l4_csum_replace(skb, l4 + 16, before, after, 2);
	bpf_l4_csum_replace(skb, l4 + 16, packet->dst_port, port, 2);
	bpf_skb_store_bytes(skb, l4 + WEFT_TCP_FLAGS, &after, 2, 0);
	bpf_skb_store_bytes(skb, l4 + 2, &port, 2, 0);
	sk = weft_socket(skb, packet, 0);
	if (!sk)
		return TC_ACT_SHOT;
	if (sk->state == WEFT_TCP_TIME_WAIT)
		bpf_sk_assign(skb, sk, 0);
	bpf_sk_release(sk);
	return TC_ACT_UNSPEC;
}

int weft_to_proxy(struct __sk_buff *skb)
{
	const struct weft_config *config = weft_config();
	struct weft_flow *flow = weft_flow(WEFT_INGRESS);
	__u32 again;

	if (!config || !flow || weft_parse(skb, &flow->packet) || flow->packet.protocol != IPPROTO_TCP)
		return TC_ACT_SHOT;
	bpf_skb_change_type(skb, WEFT_PACKET_HOST); /* it bears the workload's hardware address */
	flow->mark = config->proxy_mark;
	if (flow->mark && weft_assign(skb, flow)) {
		again = skb->mark & flow->mark;
		skb->mark |= flow->mark;
		return flow->waited && !again ? weft_make_way(skb, &flow->packet) : TC_ACT_UNSPEC;
	}
	if (weft_make_reset(skb, &flow->packet))
		return TC_ACT_SHOT;
	weft_stat(WEFT_STAT_PROXY_RESET);
	skb->mark &= ~flow->mark;
	return TC_ACT_UNSPEC;
}
